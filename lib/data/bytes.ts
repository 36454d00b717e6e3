// Bytes of a file or of memory, in pieces, unpacked where they are gzip.
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { PassThrough, Readable } from 'node:stream'
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

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceBytes) yield bytes.subarray(start, start + pieceBytes)
}

function open(source: ByteSource, name: string, signal: AbortSignal | undefined): Readable {
  // A copy: the caller's bytes may be transferred or changed while they are read.
  if (source instanceof Uint8Array) return Readable.from(pieces(Uint8Array.from(source)))
  if (typeof source === 'string' || source instanceof URL) {
    return createReadStream(source, { highWaterMark: pieceBytes, signal })
  }
  throw invalid(name, 'a path, a file URL or a Uint8Array', source)
}

/** What went wrong below, under a code of ours; an abort keeps the signal's reason. */
function rethrow(error: unknown, source: ByteSource, signal: AbortSignal | undefined): never {
  if (signal?.aborted) throw signal.reason
  if (error instanceof PalimpsestError) throw error
  const cause = error as NodeJS.ErrnoException
  const packed = typeof cause.code === 'string' && /^Z_|^ERR_.*ZLIB/.test(cause.code)
  const message = packed
    ? `expected gzip data that is whole in ${sourceName(source)}, got: ${cause.message}`
    : `expected a readable file at ${sourceName(source)}, got: ${cause.message ?? String(error)}`
  throw new PalimpsestError(packed ? 'ERR_DATA_FORMAT' : 'ERR_IO', message, { cause: error })
}

/** The content in pieces of about a megabyte, unpacked where its first bytes are gzip's. */
export async function* readBytes(
  source: ByteSource,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  signal?.throwIfAborted()
  const raw = open(source, name, signal)
  try {
    const iterator = raw.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array>
    const first = await iterator.next()
    if (first.done) return
    const head = first.value
    if (head[0] !== 0x1f || head[1] !== 0x8b) {
      yield head
      for await (const piece of raw) {
        signal?.throwIfAborted()
        yield piece as Uint8Array
      }
      return
    }
    raw.unshift(head)
    const unpacked = new PassThrough({ highWaterMark: pieceBytes })
    const done = pipeline(raw, createGunzip({ chunkSize: pieceBytes }), unpacked)
    done.catch(() => {})
    for await (const piece of unpacked) {
      signal?.throwIfAborted()
      yield piece as Uint8Array
    }
    await done
  } catch (error) {
    rethrow(error, source, signal)
  } finally {
    raw.destroy()
  }
}
