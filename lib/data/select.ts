// Which rows a request means: by position, class, key or predicate.
import { PalimpsestError } from '../errors.js'
import { describe, invalid, is, readOptions } from '../options.js'
import { isKey, type Key, type KeyColumn } from './keys.js'
import { filterOptions } from './source_options.js'
import type { Table } from './table.js'

/** A row as a predicate sees it. */
export interface RowInfo {
  /** Position in the dataset that is asked. */
  index: number
  label: number
  owner?: string
  id?: string
}

/** Rows that meet all that is given; a list means any of it. */
export interface RowFilter {
  /** Positions in the dataset. */
  indices?: Iterable<number>
  class?: number | readonly number[]
  owner?: Key | readonly Key[]
  id?: Key | readonly Key[]
}

export type RowSelection = RowFilter | ((row: RowInfo) => boolean)

type Holds = (position: number, row: number) => boolean

function listOf<T>(value: T | readonly T[], name: string, good: (item: unknown) => boolean, expected: string): T[] {
  const list = (Array.isArray(value) ? value : [value]) as T[]
  for (const item of list) if (!good(item)) throw invalid(name, expected, item)
  return list
}

function keyFilter(name: 'owner' | 'id', keys: Key | readonly Key[], column: KeyColumn | undefined): Holds {
  const list = listOf(keys, name, isKey, 'a key or a list of keys')
  if (column === undefined) {
    throw new PalimpsestError('ERR_INVALID_ARGUMENT', `expected rows with '${name}s' to select by '${name}', got none`)
  }
  const matches = column.matcher(list)
  return (_, row) => matches(row)
}

function classFilter(classes: number | readonly number[], table: Table): Holds {
  const inRange = (item: unknown) => is.integer(item) && item >= 0 && item < table.classes
  const wanted = new Set(listOf(classes, 'class', inRange, `classes from 0 to ${table.classes - 1}`))
  return (_, row) => wanted.has(table.labels[row])
}

function indexFilter(indices: unknown, size: number): Holds {
  const wanted = new Set(checkPositions(indices, size, 'indices'))
  return (position) => wanted.has(position)
}

function filters(selection: RowFilter, table: Table, size: number): Holds[] {
  const { indices, class: classes, owner, id } = readOptions(selection, filterOptions, 'where')
  const found: Holds[] = []
  if (indices !== undefined) found.push(indexFilter(indices, size))
  if (classes !== undefined) found.push(classFilter(classes, table))
  if (owner !== undefined) found.push(keyFilter('owner', owner, table.owners))
  if (id !== undefined) found.push(keyFilter('id', id, table.ids))
  if (found.length === 0) throw invalid('where', 'one or more of indices, class, owner, id, or a function', selection)
  return found
}

/** What an iterable that does not say its length may give: one without an end is refused, not read until memory is out. */
const mostPositions = 2 ** 26

/** Positions as given: whole numbers below `size`. */
export function checkPositions(positions: unknown, size: number, name: string): Int32Array {
  if (typeof positions !== 'object' || positions === null || !(Symbol.iterator in positions)) {
    throw invalid(name, 'a list of positions', positions)
  }
  const { length } = positions as { length?: unknown }
  const endless = !(Array.isArray(positions) || ArrayBuffer.isView(positions))
  let list = new Int32Array(endless ? 1024 : (length as number))
  let count = 0
  for (const position of positions as Iterable<unknown>) {
    if (!is.integer(position) || position < 0 || position >= size) {
      throw invalid(
        `${name}[${count}]`,
        size === 0 ? 'no position, the dataset is empty' : `0 to ${size - 1}`,
        position,
      )
    }
    if (count === list.length) {
      if (count === mostPositions)
        throw invalid(name, `an iterable that ends after ${mostPositions} positions`, positions)
      const longer = new Int32Array(Math.max(1024, 2 * count))
      longer.set(list)
      list = longer
    }
    list[count++] = position
  }
  return list.slice(0, count)
}

/** Positions, ascending, of the rows that a selection means; `rows[position]` is the row of the table. */
export function select(selection: RowSelection, table: Table, rows: Int32Array): Int32Array {
  const found: number[] = []
  if (typeof selection === 'function') {
    for (let index = 0; index < rows.length; index++) {
      const chosen: unknown = selection(rowInfo(table, index, rows[index]))
      // A promise is true whatever comes of it: an async predicate would mean every row.
      if (typeof chosen === 'object' && chosen !== null) {
        throw invalid('where', 'a function that returns true or false', chosen)
      }
      if (chosen) found.push(index)
    }
  } else if (is.plainObject(selection)) {
    const holds = filters(selection, table, rows.length)
    for (let index = 0; index < rows.length; index++) {
      if (holds.every((each) => each(index, rows[index]))) found.push(index)
    }
  } else {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected an object or a function for 'where', got ${describe(selection)}`,
    )
  }
  return Int32Array.from(found)
}

export function rowInfo(table: Table, index: number, row: number): RowInfo {
  const info: RowInfo = { index, label: table.labels[row] }
  if (table.owners) info.owner = table.owners.at(row)
  if (table.ids) info.id = table.ids.at(row)
  return info
}

/** Positions of each of a list's values, ascending. */
export function placesOf(values: readonly string[]): Map<string, number[]> {
  const places = new Map<string, number[]>()
  values.forEach((value, i) => {
    const list = places.get(value)
    if (list) list.push(i)
    else places.set(value, [i])
  })
  return places
}
