// CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and a picture [3, 32, 32].
import { PalimpsestError } from '../errors.js'
import { oneOf, readOptions } from '../options.js'
import { ownSource, readBytes, sourceName, type ByteSource } from './bytes.js'
import type { KeySource } from './keys.js'
import type { Normalization } from './normalize.js'
import { sourceOptions } from './source_options.js'
import { TableBuilder, type Table } from './table.js'

export interface CifarOptions {
  /** 'cifar10' (default), or CIFAR-100 with its 100 fine or 20 coarse classes. */
  kind?: 'cifar10' | 'cifar100' | 'cifar100-coarse'
  normalize?: Normalization
  owners?: KeySource
  ids?: KeySource
  signal?: AbortSignal
}

const pictureBytes = 3 * 32 * 32
const kinds = {
  cifar10: { labels: 1, at: 0, classes: 10 },
  cifar100: { labels: 2, at: 1, classes: 100 },
  'cifar100-coarse': { labels: 2, at: 0, classes: 20 },
}

/** Rows of all files, in order. */
export async function readCifarTable(sources: readonly ByteSource[], options: CifarOptions): Promise<Table> {
  const read = readOptions(options, sourceOptions.cifar, 'Dataset.fromCifar()')
  const name = oneOf('cifar10', 'cifar100', 'cifar100-coarse').read(read.kind ?? 'cifar10', 'kind')
  const kind = kinds[name]
  const recordBytes = kind.labels + pictureBytes
  const { signal, normalize, owners, ids } = read
  const builder = new TableBuilder('uint8', { shape: [3, 32, 32], classes: kind.classes, normalize })
  const record = new Uint8Array(recordBytes)
  const owned = sources.map((source, i) => ownSource(source, sources.length === 1 ? 'files' : `files[${i}]`))
  for (const source of owned) {
    let filled = 0
    let total = 0
    for await (const piece of readBytes(source, signal)) {
      total += piece.length
      for (let start = 0; start < piece.length;) {
        const part = piece.subarray(start, start + recordBytes - filled)
        record.set(part, filled)
        start += part.length
        filled += part.length
        if (filled < recordBytes) break
        builder.addLabels(record.subarray(kind.at, kind.at + 1), 'ERR_DATA_FORMAT')
        builder.addValues(record.subarray(kind.labels), 'ERR_DATA_FORMAT')
        filled = 0
      }
    }
    if (filled !== 0 || total === 0) {
      throw new PalimpsestError(
        'ERR_DATA_FORMAT',
        `expected whole ${name} records of ${recordBytes} bytes in ${sourceName(source)}, got ${total} bytes`,
      )
    }
  }
  return builder.finish({ owners, ids })
}
