// Dataset: rows with labels and keys, a restartable source of batches; subsets share the rows.
import { batches, shuffled, type Batch, type BatchOptions } from './data/batches.js'
import type { ByteSource } from './data/bytes.js'
import { readCifarTable, type CifarOptions } from './data/cifar.js'
import { readIdxTable, type IdxOptions } from './data/idx.js'
import { readIterableTable, type IterableOptions, type Row } from './data/iterable.js'
import type { KeySource } from './data/keys.js'
import type { Normalization } from './data/normalize.js'
import { streams } from './philox.js'
import { checkPositions, rowInfo, select, type RowSelection } from './data/select.js'
import { sourceOptions } from './data/source_options.js'
import { checkShape, digestOf, digestScratch, rowTypeOf, TableBuilder, widthOf, type Table } from './data/table.js'
import { PalimpsestError } from './errors.js'
import { invalid, is, number, readOptions } from './options.js'
import { turn } from './turns.js'

export interface ArrayOptions {
  /** [N, ...shape], ONNX order: pictures are channels first. */
  inputs: Uint8Array | Float32Array
  /** [N], classes from 0. */
  labels: Int32Array | Uint8Array | readonly number[]
  /** Shape of one row, e.g. [3, 32, 32]. */
  shape: readonly number[]
  /** K; one more than the largest label where it is left out. */
  classes?: number
  /** Who brought each row; deletion requests name owners. */
  owners?: KeySource
  /** A name for each row. */
  ids?: KeySource
  normalize?: Normalization
}

/** Keys of a row. */
export interface RowKeys {
  owner?: string
  id?: string
}

/** How many datasets share a table; the rows are freed with the last. */
class SharedTable {
  #users = 0
  constructor(readonly table: Table) {}

  retain(): this {
    this.#users++
    return this
  }

  release(): void {
    if (--this.#users === 0) this.table.rows.dispose()
  }
}

/**
 * Rows with labels and, for deletion, keys. Rows stay in native memory as they came (uint8 or float32); gathering and
 * normalising them happens batch by batch on the backend's thread.
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_DATA_FORMAT for what a file or iterable holds, ERR_IO for files that
 * cannot be read, ERR_DISPOSED after dispose().
 */
export class Dataset {
  readonly #shared: SharedTable
  readonly #rows: Int32Array
  #labels: Int32Array | undefined
  #disposed = false

  private constructor(shared: SharedTable, rows: Int32Array) {
    this.#shared = shared.retain()
    this.#rows = rows
  }

  static #of(table: Table): Dataset {
    return new Dataset(
      new SharedTable(table),
      Int32Array.from({ length: table.labels.length }, (_, i) => i),
    )
  }

  /** From a table that was built elsewhere. @internal */
  static fromTable(table: Table): Dataset {
    return Dataset.#of(table)
  }

  /** From arrays, which are copied. */
  static fromArrays(options: ArrayOptions): Dataset {
    const read = readOptions(options, sourceOptions.arrays, 'Dataset.fromArrays()')
    const { shape, classes, owners, ids, normalize } = read
    const { inputs, labels } = read as ArrayOptions
    const type = rowTypeOf(inputs, 'inputs', 'ERR_INVALID_ARGUMENT')
    const width = widthOf(checkShape(shape))
    if (!(Array.isArray(labels) || labels instanceof Int32Array || labels instanceof Uint8Array)) {
      throw invalid('labels', 'an Int32Array, a Uint8Array or an array of classes', labels)
    }
    const count = labels.length
    if (count === 0) throw invalid('labels', 'one label or more', labels)
    if (inputs.length !== count * width) {
      throw invalid('inputs', `${count * width} values (${count} labels, rows of [${shape.join(', ')}])`, inputs)
    }
    const builder = new TableBuilder(type, { shape, classes, normalize }, count)
    builder.addLabels(labels, 'ERR_INVALID_ARGUMENT')
    builder.addValues(inputs, 'ERR_INVALID_ARGUMENT')
    return Dataset.#of(builder.finish({ owners, ids }))
  }

  /** From a pair of IDX files (MNIST and its kin), packed with gzip or not: rows of shape [1, H, W]. */
  static async fromIdx(images: ByteSource, labels: ByteSource, options: IdxOptions = {}): Promise<Dataset> {
    return Dataset.#of(await readIdxTable(images, labels, options))
  }

  /** From binary CIFAR files, packed with gzip or not: rows of shape [3, 32, 32], in the files' order. */
  static async fromCifar(files: ByteSource | readonly ByteSource[], options: CifarOptions = {}): Promise<Dataset> {
    const list = Array.isArray(files) ? (files as readonly ByteSource[]) : [files as ByteSource]
    if (list.length === 0) throw invalid('files', 'one file or more', files)
    return Dataset.#of(await readCifarTable(list, options))
  }

  /** From rows that come one at a time; the source is awaited row by row. */
  static async fromAsyncIterable(rows: AsyncIterable<Row> | Iterable<Row>, options: IterableOptions): Promise<Dataset> {
    return Dataset.#of(await readIterableTable(rows, options))
  }

  /** Number of rows N. */
  get size(): number {
    return this.#rows.length
  }

  /** Shape of one row. */
  get shape(): number[] {
    return [...this.table.shape]
  }

  /** K. */
  get classes(): number {
    return this.table.classes
  }

  /** Classes of the rows, [N]. */
  get labels(): Int32Array {
    const { labels } = this.table
    return (this.#labels ??= this.#rows.map((row) => labels[row]))
  }

  /** Owner and id of a row, where rows have them. */
  keys(index: number): RowKeys {
    const { owner, id } = rowInfo(this.table, index, this.#row(index))
    return { ...(owner !== undefined && { owner }), ...(id !== undefined && { id }) }
  }

  /** A row as it came (before normalisation), with its label and keys. */
  row(index: number): Row {
    const row = this.#row(index)
    return { input: this.table.rows.row(row), label: this.table.labels[row], ...this.keys(index) }
  }

  /** 128 bits of SHA-256 over a row's bytes as they came and its label, in hexadecimal: the same row, the same digest. */
  digest(index: number): string {
    return digestOf(this.table, this.#row(index), digestScratch(this.table))
  }

  /** The digests of all rows; lets other work run in between. */
  async digests(): Promise<string[]> {
    const scratch = digestScratch(this.table)
    const found: string[] = []
    for (const row of this.#rows) {
      found.push(digestOf(this.table, row, scratch))
      if (found.length % 1024 === 0) await turn()
    }
    return found
  }

  /** Positions, ascending, of the rows that a selection means; empty where it means none. */
  select(selection: RowSelection): Int32Array {
    return select(selection, this.table, this.#rows)
  }

  /** Rows by position, in the order given; repeated positions are repeated rows. */
  subset(positions: Iterable<number>): Dataset {
    return this.#at(checkPositions(positions, this.size, 'positions'))
  }

  /** The rows that a selection means: indices, class, owner, id, or a predicate. */
  where(selection: RowSelection): Dataset {
    return this.#at(this.select(selection))
  }

  /** The rows that a selection does not mean. */
  without(selection: RowSelection): Dataset {
    const out = new Set(this.select(selection))
    return this.#at(Int32Array.from({ length: this.size }, (_, i) => i).filter((i) => !out.has(i)))
  }

  /** Two disjoint parts, drawn at random: round(fraction N) rows and the others, each in this dataset's order. */
  split(fraction: number, seed: number): [Dataset, Dataset] {
    number({ min: 0, max: 1 }).read(fraction, 'fraction')
    if (!is.integer(seed) || seed < 0) throw invalid('seed', 'a whole number of at least 0', seed)
    const order = shuffled(this.size, seed, 0, streams.split)
    const cut = Math.round(fraction * this.size)
    return [this.#at(order.slice(0, cut).sort()), this.#at(order.slice(cut).sort())]
  }

  /** One pass in micro-batches. @internal */
  batches(options: BatchOptions): Generator<Batch, void, undefined> {
    return batches(this, options)
  }

  /** Rows, labels and keys that subsets share. @internal */
  get table(): Table {
    if (this.#disposed)
      throw new PalimpsestError('ERR_DISPOSED', 'expected a dataset in use, got one that was disposed')
    return this.#shared.table
  }

  /** For each position the row of the table. @internal */
  get storeRows(): Int32Array {
    return this.#rows
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Ends the use of this dataset; the rows are freed when every subset was disposed too, or is garbage. Idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#shared.release()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #row(index: number): number {
    if (!is.integer(index) || index < 0 || index >= this.size) {
      throw invalid('index', `a position from 0 to ${this.size - 1}`, index)
    }
    return this.#rows[index]
  }

  #at(positions: Int32Array): Dataset {
    void this.table
    return new Dataset(
      this.#shared,
      positions.map((position) => this.#rows[position]),
    )
  }
}
