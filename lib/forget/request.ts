// A deletion request: which of the fitted rows it means, checked against what was fitted.
import type { Dataset } from '../dataset.js'
import { placesOf, type RowSelection } from '../data/select.js'
import { PalimpsestError } from '../errors.js'
import { invalid } from '../options.js'
import type { TangentState } from '../tangent.js'

export interface ForgetRequest {
  /** By indices, class, owner, id or predicate over the fitted rows; of a list each. */
  where?: RowSelection | readonly RowSelection[]
  /** Or the rows themselves, found among the fitted ones by digest. */
  rows?: Dataset
}

export interface Request {
  /** The fitted rows. */
  data: Dataset
  /** Positions among them, ascending. */
  positions: Int32Array
}

/** ERR_NOT_FITTED where there are none. */
export function fittedRows({ data }: TangentState): Dataset {
  if (data !== undefined) return data
  throw new PalimpsestError('ERR_NOT_FITTED', 'expected a model that was fitted, got one without rows')
}

/** Throws ERR_NOT_FITTED for rows that were never fitted, ERR_INVALID_ARGUMENT for an empty forget or retain set. */
export async function makeRequest(state: TangentState, given: ForgetRequest): Promise<Request> {
  const data = fittedRows(state)
  await checkRows(data, state.digests)
  const positions = new Set<number>()
  if ((given.where === undefined) === (given.rows === undefined)) {
    throw invalid('where', "exactly one of 'where' and 'rows'", given.where === undefined ? 'neither' : 'both')
  }
  if (given.rows !== undefined) {
    for (const position of await positionsOf(given.rows, state.digests)) positions.add(position)
  } else {
    const list = Array.isArray(given.where) ? (given.where as readonly RowSelection[]) : [given.where as RowSelection]
    for (const selection of list) for (const position of data.select(selection)) positions.add(position)
  }
  if (positions.size === 0) throw invalid('where', 'a selection of one fitted row or more', 'one that means no row')
  if (positions.size === data.size) {
    throw invalid('where', 'a selection that leaves rows (forgetAll() forgets every row)', `all ${data.size} rows`)
  }
  return { data, positions: Int32Array.from(positions).sort() }
}

/** The rows must be what was fitted: the store could have been built again from a changed source. */
async function checkRows(data: Dataset, digests: readonly string[]): Promise<void> {
  const now = await data.digests()
  const changed = now.findIndex((digest, i) => digest !== digests[i])
  if (now.length !== digests.length || changed >= 0) {
    throw new PalimpsestError(
      'ERR_NOT_FITTED',
      `expected the rows that were fitted, got another row at position ${changed}`,
    )
  }
}

/** All fitted rows with the digests of these rows. */
async function positionsOf(rows: Dataset, digests: readonly string[]): Promise<number[]> {
  const places = placesOf(digests)
  const wanted = await rows.digests()
  const unknown = wanted.findIndex((digest) => !places.has(digest))
  if (unknown >= 0) {
    const message = `expected rows that were fitted, got one at position ${unknown} that was not`
    throw new PalimpsestError('ERR_NOT_FITTED', message)
  }
  return [...new Set(wanted)].flatMap((digest) => places.get(digest) as number[])
}
