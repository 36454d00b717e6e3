// Rows of a training record: shard, slice and order of a row as functions of seed and row key, never of its position.
import { hash } from 'node:crypto'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { philox, RandomStream, streams } from '../philox.js'

/** A row as a record knows it: its key (its id, or else its digest) and the digest of what it holds. */
export interface RecordedRow {
  key: string
  digest: string
}

/** A recorded row with its place in a dataset. */
export interface PlacedRow extends RecordedRow {
  position: number
}

/** 128 bits of SHA-256 over a key, as four words. */
export function keyWords(key: string): Uint32Array {
  const hex = hash('sha256', key, 'hex')
  return Uint32Array.from({ length: 4 }, (_, i) => parseInt(hex.slice(8 * i, 8 * i + 8), 16))
}

/** Draws for keys: Philox on the key's words, keyed by seed, purpose and an index. */
function drawer(seed: number, stream: number, index: number): (words: Uint32Array) => Uint32Array {
  const stretch = new RandomStream(seed, stream, index)
  const [key0, key1] = [stretch.next(), stretch.next()]
  return (words) => {
    const drawn = words.slice()
    philox(drawn, key0, key1)
    return drawn
  }
}

/** Which shard (from 0) and slice (from 1) a key belongs to. */
export function assignment(
  seed: number,
  shards: number,
  slices: number,
): (words: Uint32Array) => { shard: number; slice: number } {
  const draw = drawer(seed, streams.assignment, 0)
  return (words) => {
    const [a, b] = draw(words)
    return { shard: Math.floor((a * shards) / 2 ** 32), slice: 1 + Math.floor((b * slices) / 2 ** 32) }
  }
}

/**
 * The order of rows in an epoch of a record's run (counted over all slices of a shard): ascending by a draw a key. Rows
 * with one draw keep the order they come in, so they must come in canonical order.
 */
export function orderOf(words: readonly Uint32Array[], seed: number, epoch: number): Int32Array {
  const draw = drawer(seed, streams.order, epoch)
  const ranks = Float64Array.from(words, (each) => {
    const [high, low] = draw(each)
    return high * 2 ** 21 + (low >>> 11)
  })
  return Int32Array.from(words.keys()).sort((i, j) => ranks[i] - ranks[j] || i - j)
}

/** Whether one row stands before another in canonical order: by key, then by digest. */
export function compareRows(a: RecordedRow, b: RecordedRow): number {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1
  return a.digest < b.digest ? -1 : Number(a.digest > b.digest)
}

/** What a row is called by: ids where the dataset has them. */
export type KeyedBy = 'id' | 'digest'

/** The rows of a dataset in canonical order. */
export async function rowsOf(data: Dataset): Promise<{ keyedBy: KeyedBy; rows: PlacedRow[] }> {
  const digests = await data.digests()
  const keyedBy = data.table.ids ? 'id' : 'digest'
  const rows = digests.map((digest, position) => {
    const key = keyedBy === 'id' ? (data.keys(position).id as string) : digest
    return { key, digest, position }
  })
  return { keyedBy, rows: rows.sort(compareRows) }
}

/** Places of recorded rows (canonical order) in a dataset; ERR_NOT_FITTED where it lacks one. */
export async function placeRows(data: Dataset, wanted: readonly RecordedRow[], keyedBy: KeyedBy): Promise<PlacedRow[]> {
  const found = await rowsOf(data)
  if (found.keyedBy !== keyedBy && wanted.length > 0) {
    const has = (by: KeyedBy) => (by === 'id' ? 'rows with ids' : 'rows without ids')
    const message = `expected ${has(keyedBy)} for 'data', as the record was made with, got ${has(found.keyedBy)}`
    throw new PalimpsestError('ERR_INVALID_ARGUMENT', message)
  }
  let at = 0
  return wanted.map((row) => {
    while (at < found.rows.length && compareRows(found.rows[at], row) < 0) at++
    const match = found.rows[at++] as PlacedRow | undefined
    if (match === undefined || compareRows(match, row) !== 0) {
      const what = `the rows that the record was made with in 'data', row '${row.key}' among them`
      throw new PalimpsestError('ERR_NOT_FITTED', `expected ${what}; it is missing, or another row has its key`)
    }
    return match
  })
}
