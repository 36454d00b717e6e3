// The table behind a dataset: rows as they came in native memory, labels and keys; shared by all its subsets.
import { hash } from 'node:crypto'
import { PalimpsestError } from '../errors.js'
import { native, type GatherSpec, type NativeRows } from '../native.js'
import { describe, invalid, is } from '../options.js'
import { isKey, KeyColumn, type KeySource } from './keys.js'
import { gatherSpec, type Normalization } from './normalize.js'

export type RowType = 'uint8' | 'float32'

/** What every source of rows tells besides the rows. */
export interface TableOptions {
  shape: readonly number[]
  /** K; one more than the largest label where it is left out. */
  classes?: number
  normalize?: Normalization
}

export interface Table {
  readonly rows: NativeRows
  readonly labels: Int32Array
  readonly owners?: KeyColumn
  readonly ids?: KeyColumn
  readonly shape: readonly number[]
  readonly classes: number
  readonly gather: GatherSpec
}

/** Digest of how rows become inputs: their type and shape, and the numbers they are normalised by. */
export function preparationOf({ rows, shape, gather }: Table): string {
  return hash('sha256', JSON.stringify([rows.type, shape, [...gather.scale], [...gather.shift]]), 'hex')
}

/** Rows of a table in some order: what a dataset is to the batches. */
export interface TableView {
  readonly table: Table
  /** For each position the row of the table. */
  readonly storeRows: Int32Array
}

/** Values in a row of this shape. */
export function widthOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

export function checkShape(shape: unknown): readonly number[] {
  const good =
    Array.isArray(shape) &&
    shape.length > 0 &&
    shape.every((size) => is.integer(size) && size > 0) &&
    widthOf(shape as number[]) <= 2 ** 31 - 1
  if (!good) throw invalid('shape', 'the shape of one row, e.g. [1, 28, 28]', shape)
  return [...(shape as number[])]
}

/** Fills a table row by row or in blocks; `finish` checks the whole. */
export class TableBuilder {
  readonly rows: NativeRows
  readonly #type: RowType
  readonly #options: TableOptions
  readonly #gather: GatherSpec
  #labels: Int32Array
  #count = 0

  constructor(type: RowType, options: TableOptions, expectedRows = 0) {
    this.#options = { ...options, shape: checkShape(options.shape) }
    this.#gather = gatherSpec(this.#options.shape, type, options.normalize)
    this.#type = type
    this.rows = new (native().Rows)(type, widthOf(this.#options.shape), expectedRows)
    this.#labels = new Int32Array(Math.max(expectedRows, 16))
  }

  get type(): RowType {
    return this.#type
  }

  get labelCount(): number {
    return this.#count
  }

  /** Labels of the next rows: whole numbers from 0, below `classes` where that is given. */
  addLabels(labels: ArrayLike<unknown>, code: 'ERR_INVALID_ARGUMENT' | 'ERR_DATA_FORMAT'): void {
    const { classes } = this.#options
    const most = classes ?? 2 ** 31 - 1
    this.#reserve(this.#count + labels.length)
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i]
      if (!is.integer(label) || label < 0 || label >= most) {
        const range = classes === undefined ? 'a class from 0' : `a class from 0 to ${classes - 1}`
        throw invalid(`labels[${this.#count}]`, range, label, code)
      }
      this.#labels[this.#count++] = label
    }
  }

  /** Values of the next rows, in pieces of any length; NaN and infinities are refused. */
  addValues(values: Uint8Array | Float32Array, code: 'ERR_INVALID_ARGUMENT' | 'ERR_DATA_FORMAT'): void {
    try {
      this.rows.append(values)
    } catch (error) {
      if (!(error instanceof PalimpsestError) || error.code !== 'ERR_INVALID_ARGUMENT') throw error
      throw new PalimpsestError(code, error.message, { cause: error })
    }
  }

  #reserve(count: number): void {
    if (count <= this.#labels.length) return
    const grown = new Int32Array(Math.max(count, 2 * this.#labels.length))
    grown.set(this.#labels)
    this.#labels = grown
  }

  finish(keys: { owners?: KeySource | KeyColumn; ids?: KeySource | KeyColumn }): Table {
    this.rows.seal()
    const labels = this.#labels.slice(0, this.#count)
    if (labels.length !== this.rows.size || labels.length === 0) {
      throw new PalimpsestError(
        'ERR_DATA_FORMAT',
        `expected as many labels as rows, one or more; got ${labels.length} labels and ${this.rows.size} rows`,
      )
    }
    let most = 0
    for (const label of labels) if (label > most) most = label
    return {
      rows: this.rows,
      labels,
      owners: column('owners', keys.owners, labels),
      ids: column('ids', keys.ids, labels),
      shape: this.#options.shape,
      classes: this.#options.classes ?? most + 1,
      gather: this.#gather,
    }
  }
}

function column(name: string, source: KeySource | KeyColumn | undefined, labels: Int32Array): KeyColumn | undefined {
  if (source === undefined || source instanceof KeyColumn) return source
  const made = typeof source === 'function'
  if (!made && (!Array.isArray(source) || source.length !== labels.length)) {
    throw invalid(name, `a key for each of the ${labels.length} rows, or a function of index and label`, source)
  }
  const keys = new KeyColumn()
  for (let i = 0; i < labels.length; i++) {
    const key: unknown = made ? source(i, labels[i]) : (source as readonly unknown[])[i]
    if (!isKey(key)) throw invalid(`${name}[${i}]`, 'a string that is not empty, or a whole number', key)
    keys.add(key)
  }
  return keys
}

/** Refuses rows of a type that is not kept, with a way out. */
export function rowTypeOf(inputs: unknown, name: string, code: 'ERR_INVALID_ARGUMENT' | 'ERR_DATA_FORMAT'): RowType {
  if (inputs instanceof Uint8Array) return 'uint8'
  if (inputs instanceof Float32Array) return 'float32'
  throw new PalimpsestError(code, `expected a Uint8Array or Float32Array for '${name}', got ${describe(inputs)}`)
}

/** 128 bits of SHA-256 over a row's bytes as they came and its label (int32, little endian), in hexadecimal. */
export function digestOf(table: Table, row: number, scratch: Uint8Array): string {
  const bytes = table.rows.copyRow(row, scratch)
  new DataView(scratch.buffer, scratch.byteOffset).setInt32(bytes, table.labels[row], true)
  return hash('sha256', scratch.subarray(0, bytes + 4), 'hex').slice(0, 32)
}

export function digestScratch(table: Table): Uint8Array {
  return new Uint8Array(widthOf(table.shape) * (table.rows.type === 'uint8' ? 1 : 4) + 4)
}
