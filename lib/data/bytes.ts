// Bytes of a file or of memory, in pieces, unpacked where they are gzip.
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { PalimpsestError } from '../errors.js'
import { invalid } from '../options.js'

/** A path, a file URL, or the file's content. */
export type ByteSource = string | URL | Uint8Array

const pieceBytes = 1 << 20

/** How messages name a source. */
export function sourceName(source: ByteSource): string {
  return source instanceof Uint8Array ? `${source.length} bytes` : String(source)
}

/** The source with a copy of its bytes: the caller's may be transferred or changed while they are read. */
export function ownSource(source: ByteSource, name: string): ByteSource {
  if (source instanceof Uint8Array) return Uint8Array.from(source)
  if (typeof source === 'string' || source instanceof URL) return source
  throw invalid(name, 'a path, a file URL or a Uint8Array', source)
}

/** The content as it is. */
async function* rawPieces(source: ByteSource, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  signal?.throwIfAborted()
  if (!(source instanceof Uint8Array)) {
    // Not blocking: a named pipe is refused instead of waited for.
    const file = await open(source, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    try {
      if (!(await file.stat()).isFile()) throw new Error('expected a regular file, got something else')
      yield* file.createReadStream({ highWaterMark: pieceBytes, signal, autoClose: false }) as AsyncIterable<Uint8Array>
    } finally {
      await file.close()
    }
    return
  }
  for (let start = 0; start < source.length; start += pieceBytes) {
    yield source.subarray(start, start + pieceBytes)
    signal?.throwIfAborted()
  }
}

async function* unpack(packed: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const unpacked = new PassThrough({ highWaterMark: pieceBytes })
  const done = pipeline(packed, createGunzip({ chunkSize: pieceBytes }), unpacked)
  // Without a listener a failure would be unhandled before the loop below meets it.
  done.catch(() => {})
  yield* unpacked as AsyncIterable<Uint8Array>
  await done
}

/** What went wrong below, under a code of ours; an abort keeps the signal's reason. */
function translated(error: unknown, source: ByteSource, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason
  const { code, message = String(error) } = error as NodeJS.ErrnoException
  const packed = code !== undefined && code.startsWith('Z_')
  const expected = packed ? `gzip data that is whole in` : `a readable file at`
  const text = `expected ${expected} ${sourceName(source)}, got: ${message}`
  return new PalimpsestError(packed ? 'ERR_DATA_FORMAT' : 'ERR_IO', text, { cause: error })
}

/** The content of an owned source in pieces of about a megabyte, unpacked where its first bytes are gzip's. */
export async function* readBytes(
  source: ByteSource,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const raw = rawPieces(source, signal)
  try {
    const first = await raw.next()
    if (first.done) return
    const whole = (async function* () {
      yield first.value
      yield* raw
    })()
    const [a, b] = first.value
    yield* a === 0x1f && b === 0x8b ? unpack(whole) : whole
  } catch (error) {
    throw translated(error, source, signal)
  } finally {
    // A reader that stops at the first piece has not gone through it.
    await raw.return(undefined)
  }
}
