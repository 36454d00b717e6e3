// IDX files as MNIST, Fashion-MNIST and EMNIST have them: pictures [N, H, W] and labels [N] of unsigned bytes.
import { PalimpsestError } from '../errors.js'
import { readOptions } from '../options.js'
import { ownSource, readBytes, sourceName, type ByteSource } from './bytes.js'
import type { KeySource } from './keys.js'
import type { Normalization } from './normalize.js'
import { sourceOptions } from './source_options.js'
import { TableBuilder, widthOf, type Table } from './table.js'

export interface IdxOptions {
  /** K; one more than the largest label where it is left out. */
  classes?: number
  normalize?: Normalization
  owners?: KeySource
  ids?: KeySource
  signal?: AbortSignal
}

interface IdxHeader {
  dims: number[]
  count: number
}

const fail = (source: ByteSource, expected: string, got: string): PalimpsestError =>
  new PalimpsestError('ERR_DATA_FORMAT', `expected ${expected} in ${sourceName(source)}, got ${got}`)

/** Magic 00 00 08 r, then r sizes, big endian. Undefined while bytes are missing. */
function parseHeader(bytes: Uint8Array, source: ByteSource, ranks: readonly number[]): IdxHeader | undefined {
  if (bytes.length < 4) return undefined
  const magic = [...bytes.subarray(0, 4)]
  const shown = magic.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
  if (magic[0] !== 0 || magic[1] !== 0) throw fail(source, "IDX's two zero bytes", shown)
  if (magic[2] !== 8) throw fail(source, 'IDX values of unsigned bytes (type 08)', `type ${shown.slice(6, 8)}`)
  const rank = magic[3]
  if (!ranks.includes(rank)) throw fail(source, `an IDX array of rank ${ranks.join(' or ')}`, `rank ${rank}`)
  if (bytes.length < 4 + 4 * rank) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const dims = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis))
  const count = widthOf(dims)
  if (count === 0 || !Number.isSafeInteger(count) || widthOf(dims.slice(1)) >= 2 ** 31) {
    throw fail(source, 'sizes above 0 and rows of less than 2^31 values', `[${dims.join(', ')}]`)
  }
  return { dims, count }
}

/** Reads an IDX array piece by piece and checks that it is as long as its header says. */
async function readIdx(
  source: ByteSource,
  ranks: readonly number[],
  signal: AbortSignal | undefined,
  begin: (dims: number[]) => (values: Uint8Array) => void,
): Promise<void> {
  let header: IdxHeader | undefined
  let take: ((values: Uint8Array) => void) | undefined
  let head = new Uint8Array()
  let seen = 0
  for await (const piece of readBytes(source, signal)) {
    let values = piece
    if (header === undefined) {
      head = Uint8Array.from([...head, ...piece.subarray(0, 20)])
      const before = head.length - Math.min(piece.length, 20)
      header = parseHeader(head, source, ranks)
      if (header === undefined) continue
      take = begin(header.dims)
      values = piece.subarray(4 + 4 * header.dims.length - before)
    }
    seen += values.length
    if (seen > header.count) break
    take?.(values)
  }
  if (header === undefined) throw fail(source, 'an IDX header', `${head.length} bytes`)
  if (seen !== header.count) {
    const got = seen > header.count ? 'more' : `${seen}`
    throw fail(source, `${header.count} values after the header [${header.dims.join(', ')}]`, got)
  }
}

/** Pictures of shape [1, H, W] (rank 3), or vectors [D] (rank 2), with their labels. */
export async function readIdxTable(images: ByteSource, labels: ByteSource, options: IdxOptions): Promise<Table> {
  const { signal, classes, normalize, owners, ids } = readOptions(options, sourceOptions.idx, 'Dataset.fromIdx()')
  const ownImages = ownSource(images, 'images')
  const ownLabels = ownSource(labels, 'labels')
  const found: Uint8Array[] = []
  let labelCount = 0
  await readIdx(ownLabels, [1], signal, (dims) => {
    labelCount = dims[0]
    return (values) => void found.push(Uint8Array.from(values))
  })
  let builder: TableBuilder | undefined
  await readIdx(ownImages, [2, 3], signal, ([count, ...row]) => {
    if (count !== labelCount) {
      throw fail(images, `as many rows as labels (${labelCount} in ${sourceName(labels)})`, `${count}`)
    }
    // Nothing is reserved on a header's word.
    const made = new TableBuilder('uint8', { shape: row.length === 2 ? [1, ...row] : row, classes, normalize })
    builder = made
    return (values) => made.addValues(values, 'ERR_DATA_FORMAT')
  })
  if (builder === undefined) throw fail(images, 'an IDX header', 'none')
  for (const values of found) builder.addLabels(values, 'ERR_DATA_FORMAT')
  return builder.finish({ owners, ids })
}
