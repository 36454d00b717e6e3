// Rows from an iterable or async iterable, one at a time: any source with back-pressure.
import { PalimpsestError } from '../errors.js'
import { describe, invalid, readOptions } from '../options.js'
import { interruptible } from './interruptible.js'
import { isKey, KeyColumn, type Key } from './keys.js'
import type { Normalization } from './normalize.js'
import { sourceOptions } from './source_options.js'
import { checkShape, rowTypeOf, TableBuilder, widthOf, type Table } from './table.js'

/** One row: its values (the same type throughout), its class, and keys where rows have them. */
export interface Row {
  input: Uint8Array | Float32Array
  label: number
  owner?: Key
  id?: Key
}

export interface IterableOptions {
  /** Shape of one row, e.g. [3, 32, 32]. */
  shape: readonly number[]
  /** K; one more than the largest label where it is left out. */
  classes?: number
  normalize?: Normalization
  signal?: AbortSignal
}

const wrong = (i: number, expected: string, got: unknown): PalimpsestError =>
  new PalimpsestError('ERR_DATA_FORMAT', `expected ${expected} for row ${i} of the iterable, got ${describe(got)}`)

/** A key column that every row fills or none. */
class OptionalKeys {
  readonly #keys = new KeyColumn()
  constructor(readonly name: 'owner' | 'id') {}

  take(row: Row, i: number): void {
    const key: unknown = row[this.name]
    const given = key !== undefined
    if (given !== this.#keys.length > 0 && i > 0) throw wrong(i, `'${this.name}' in every row or in none`, key)
    if (!given) return
    if (!isKey(key)) throw wrong(i, `a string that is not empty, or a whole number, as '${this.name}'`, key)
    this.#keys.add(key)
  }

  get column(): KeyColumn | undefined {
    return this.#keys.length > 0 ? this.#keys : undefined
  }
}

/** The next row's values, checked against the first row's type and the shape. */
function takeRow(
  value: unknown,
  i: number,
  builder: TableBuilder | undefined,
  make: (type: 'uint8' | 'float32') => TableBuilder,
): { row: Row; builder: TableBuilder } {
  if (typeof value !== 'object' || value === null) throw wrong(i, 'an object { input, label }', value)
  const row = value as Row
  const { input } = row
  const type = rowTypeOf(input, `rows[${i}].input`, 'ERR_DATA_FORMAT')
  const into = builder ?? make(type)
  if (type !== into.type) throw wrong(i, `${into.type} values as in the first row`, input)
  if (input.length !== into.rows.width) throw wrong(i, `${into.rows.width} values`, input)
  into.addLabels([row.label], 'ERR_DATA_FORMAT')
  into.addValues(input, 'ERR_DATA_FORMAT')
  return { row, builder: into }
}

export async function readIterableTable(
  rows: AsyncIterable<Row> | Iterable<Row>,
  options: IterableOptions,
): Promise<Table> {
  const iterable: unknown = rows
  if (
    typeof iterable !== 'object' ||
    iterable === null ||
    !(Symbol.asyncIterator in iterable || Symbol.iterator in iterable)
  ) {
    throw invalid('rows', 'an iterable or async iterable of { input, label }', rows)
  }
  const { signal, classes, normalize, ...read } = readOptions(
    options,
    sourceOptions.iterable,
    'Dataset.fromAsyncIterable()',
  )
  const shape = checkShape(read.shape)
  signal?.throwIfAborted()
  const owners = new OptionalKeys('owner')
  const ids = new OptionalKeys('id')
  let builder: TableBuilder | undefined
  let i = 0
  for await (const value of interruptible<unknown>(rows, signal)) {
    const taken = takeRow(value, i, builder, (type) => new TableBuilder(type, { shape, classes, normalize }))
    builder = taken.builder
    owners.take(taken.row, i)
    ids.take(taken.row, i)
    i++
  }
  signal?.throwIfAborted()
  if (builder === undefined) {
    throw new PalimpsestError('ERR_DATA_FORMAT', `expected one or more rows of ${widthOf(shape)} values, got none`)
  }
  return builder.finish({ owners: owners.column, ids: ids.column })
}
