// Rows of a training record that a request means: by key, by selection, or given themselves.
import { isKey, type Key } from '../data/keys.js'
import type { RowSelection } from '../data/select.js'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { invalid } from '../options.js'
import type { TrainingRecord } from '../record.js'
import { compareRows, rowsOf, type PlacedRow, type RecordedRow } from '../record/rows.js'

/** Exactly one of three. */
export interface RecordRequest {
  /** Keys of rows: ids, or digests where the rows have no ids. A key that the record lacks is ERR_NOT_FITTED. */
  keys?: readonly Key[]
  /**
   * Selections over the record's rows; `indices` are positions in the data that the record was opened with. Rows without
   * ids that hold the same are one row: a selection of one of them means all, whoever owns them.
   */
  where?: RowSelection | readonly RowSelection[]
  /** The rows themselves, found by digest. */
  rows?: Dataset
}

/** A request's rows by shard and slice (from 0), and what then remains. */
export interface Revocation {
  revoked: PlacedRow[]
  remaining: PlacedRow[][][]
  /** Shards that it touches, each with the first slice (from 1) that loses a row. */
  touched: { shard: number; slice: number }[]
}

/** The recorded rows that a request means; ERR_NOT_FITTED for rows that the record does not have (any more). */
export async function revokedRows(record: TrainingRecord, request: RecordRequest): Promise<PlacedRow[]> {
  const { keys, where, rows } = request
  const given = Object.entries({ keys, where, rows }).filter(([, value]) => value !== undefined)
  if (given.length !== 1) {
    const got = given.length === 0 ? 'none' : given.map(([name]) => name).join(' and ')
    throw invalid('keys', "exactly one of 'keys', 'where' and 'rows'", got)
  }
  const all = record.rows.flat(2)
  const found = keys ? byKey(all, keys) : rows ? await byDigest(all, rows) : await bySelection(record, all, where)
  if (found.length === 0) throw invalid(given[0][0], 'a request that means one row of the record or more', 'none')
  return found.sort(compareRows)
}

const gone = (what: string): PalimpsestError =>
  new PalimpsestError('ERR_NOT_FITTED', `expected rows of the record, got ${what}: never fitted, or revoked before`)

function byKey(all: readonly PlacedRow[], keys: readonly Key[]): PlacedRow[] {
  if (!Array.isArray(keys)) throw invalid('keys', 'a list of keys', keys)
  const bad = (keys as unknown[]).findIndex((key) => !isKey(key))
  if (bad >= 0) throw invalid(`keys[${bad}]`, 'a string that is not empty, or a whole number', keys[bad])
  const names = new Set((keys as readonly Key[]).map(String))
  const found = all.filter(({ key }) => names.has(key))
  for (const { key } of found) names.delete(key)
  const [unknown] = names
  if (unknown !== undefined) throw gone(`key '${unknown}'`)
  return found
}

async function byDigest(all: readonly PlacedRow[], rows: Dataset): Promise<PlacedRow[]> {
  const wanted = new Set(await rows.digests())
  const found = all.filter(({ digest }) => wanted.has(digest))
  for (const { digest } of found) wanted.delete(digest)
  if (wanted.size > 0) throw gone(`${wanted.size} of ${rows.size} rows that it does not have`)
  return found
}

const nameOf = ({ key, digest }: RecordedRow) => `${digest} ${key}`

/** By what the selected rows are called and hold: rows without ids that hold the same cannot be told apart once they are recorded. */
async function bySelection(
  record: TrainingRecord,
  all: readonly PlacedRow[],
  where: RecordRequest['where'],
): Promise<PlacedRow[]> {
  const list = (Array.isArray(where) ? where : [where]) as readonly RowSelection[]
  const positions = new Set(list.flatMap((selection) => [...record.data.select(selection)]))
  const chosen = record.data.subset([...positions])
  try {
    const names = new Set((await rowsOf(chosen)).rows.map(nameOf))
    return all.filter((row) => names.has(nameOf(row)))
  } finally {
    chosen.dispose()
  }
}

/** What the request leaves; ERR_INVALID_ARGUMENT where a shard would have no rows. */
export function revocationOf(record: TrainingRecord, revoked: readonly RecordedRow[]): Revocation {
  const gone = new Map<string, number>()
  for (const row of revoked) gone.set(nameOf(row), (gone.get(nameOf(row)) ?? 0) + 1)
  const out: PlacedRow[] = []
  const touched: Revocation['touched'] = []
  const remaining = record.rows.map((shard, s) =>
    shard.map((rows, r) =>
      rows.filter((row) => {
        const left = gone.get(nameOf(row)) ?? 0
        if (left === 0) return true
        gone.set(nameOf(row), left - 1)
        out.push(row)
        if (touched.at(-1)?.shard !== s) touched.push({ shard: s, slice: r + 1 })
        return false
      }),
    ),
  )
  const empty = touched.find(({ shard }) => remaining[shard].every((rows) => rows.length === 0))
  if (empty === undefined) return { revoked: out, remaining, touched }
  throw invalid(
    'keys',
    'a request that leaves rows in every shard (train again with fewer shards to serve it)',
    `all rows of shard ${empty.shard}`,
  )
}
