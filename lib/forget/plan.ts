// plan(): what each arm would cost for a request to a record, and which one would serve it; it reads positions, never rows.
import { Dataset } from '../dataset.js'
import { check, invalid, number, oneOf, optional, readOptions, withDefault } from '../options.js'
import { TrainingRecord, type RecordTrainOptions } from '../record.js'
import type { DirectSettings, ShardState } from '../record/format.js'
import type { RecordStore } from '../record/store.js'
import { visitsOf } from '../record/train.js'
import { measureCosts, secondsOfJobs } from './costs.js'
import { directSeconds, directVisits, directWork } from './direct_plan.js'
import { worksOf } from './retrain.js'
import { revocationOf, revokedRows, type RecordRequest, type Revocation } from './revoked.js'

/** Which arm is to serve a request, and how the direct arm does. */
export interface ArmOptions {
  /**
   * 'exact' (default): retraining, to the bits of training without the rows. 'fast': the arm that is estimated to be
   * quicker. 'auto': retraining while it is estimated within `budget` or quicker, else the direct update. 'direct': the
   * direct update (ERR_UNSUPPORTED where batches were normalised together).
   */
  prefer?: 'exact' | 'fast' | 'auto' | 'direct'
  /** Seconds that retraining may take under 'auto'; half of training anew where left out. */
  budget?: number
  /**
   * After a direct update: 'slices' (default), 20 rows for each that was lost, of the slices that lost some (three epochs of
   * them at most, and no longer than until the loss settles); so many steps over all rows that stay; or 'none'.
   */
  amend?: 'none' | 'slices' | number
  /**
   * The direct update's drift correction: by a quasi-Newton matrix of the log's own steps ('log', default), by Hessian
   * products at logged states ('products': about twice the time for the same accuracy), or 'none'.
   */
  drift?: 'log' | 'products' | 'none'
}

/** What an arm would take. */
export interface ArmPlan {
  /** Rows that go through the network; of 'slices' amendments, which end where the loss settles, the most. */
  visits: number
  /** Estimated from what this record's calls took, and from a few rows timed now. */
  seconds: number
  /** 'bits': those of training without the rows; 'none': an estimate, without guarantee. */
  exactness: 'bits' | 'none'
  /** Bytes of checkpoints and logs that are written anew. */
  storage: number
}

export interface Plan {
  verb: 'plan'
  /** Rows that the request means. */
  rows: number
  exact: ArmPlan
  /** Null where the record cannot be updated directly. */
  direct: ArmPlan | null
  /** Training anew without the rows. */
  full: { visits: number; seconds: number }
  arm: 'exact' | 'direct'
  why: string
}

export const armTable = {
  prefer: withDefault(oneOf('exact', 'fast', 'auto', 'direct'), 'exact'),
  budget: optional(number({ above: 0 })),
  amend: withDefault(
    check(
      "'none', 'slices' or a number of steps",
      (v): v is DirectSettings['amend'] =>
        v === 'none' || v === 'slices' || (typeof v === 'number' && Number.isInteger(v) && v >= 1 && v <= 1e6),
    ),
    'slices',
  ),
  drift: withDefault(oneOf('log', 'products', 'none'), 'log'),
}

export const requestTable = {
  keys: optional(check('a list of keys', (v): v is NonNullable<RecordRequest['keys']> => Array.isArray(v))),
  where: optional(
    check('a selection of rows, or a list of them', (v): v is NonNullable<RecordRequest['where']> => v !== undefined),
  ),
  rows: optional(check('a Dataset of the rows', (v): v is Dataset => v instanceof Dataset)),
}

/** Rows and products of the drift correction, chosen by measurement (docs/results.md). */
export const directSettings = ({ amend, drift }: Pick<Choice, 'amend' | 'drift'>): DirectSettings => ({
  amend,
  drift,
  rows: 128,
  products: 8,
})

/**
 * What a request to a record would cost by retraining and by a direct update, and which of them forget() would take with
 * the same options. Rows to visit are closed forms of seed and keys; seconds are measured, not looked up in the rows.
 * A reconstruction after the abstract of Li et al. 2024: retrain where that is light, update where it is heavy.
 *
 * Errors: ERR_NOT_FITTED, ERR_INVALID_ARGUMENT, ERR_DAMAGED, ERR_DISPOSED.
 */
export async function plan(record: TrainingRecord, request: RecordRequest & ArmOptions): Promise<Plan> {
  if (!(record instanceof TrainingRecord)) throw invalid('record', 'a TrainingRecord', record)
  const { keys, where, rows, ...how } = readOptions(request, { ...requestTable, ...armTable }, 'plan()')
  return record.exclusively(async (store) => {
    const wanted = { ...(keys && { keys }), ...(where !== undefined && { where }), ...(rows && { rows }) }
    return planOf(record, store, revocationOf(record, await revokedRows(record, wanted)), how)
  })
}

export type Choice = ReturnType<typeof readOptions<typeof armTable>>

export async function planOf(
  record: TrainingRecord,
  store: RecordStore,
  revocation: Revocation,
  how: Choice,
  { runner, signal }: RecordTrainOptions = {},
): Promise<Plan> {
  const { manifest } = store
  // A runner that was given may be anywhere.
  const costs = await measureCosts(record, store, { drift: how.drift, local: runner === undefined, signal })
  const works = worksOf(manifest, revocation)
  const all = revocation.remaining.map((slices, shard) => ({ shard, slices, first: 1, start: undefined }))
  const [some, full] = [works, all].map((list) =>
    list.map((work) => ({ visits: visitsOf(work, manifest.epochs), slices: manifest.slices - work.first + 1 })),
  )
  const sum = (list: readonly { visits: number }[]) => list.reduce((total, { visits }) => total + visits, 0)
  const exact: ArmPlan = {
    visits: sum(some),
    seconds: secondsOfJobs(some, costs),
    exactness: 'bits',
    storage: rewritten(
      manifest.states,
      works.map(({ shard, first }) => ({ shard, slice: first })),
    ),
  }
  const work = costs.normalized ? undefined : directWork(record, manifest, revocation, directSettings(how))
  const direct: ArmPlan | null = work
    ? {
        visits: directVisits(work),
        seconds: directSeconds(work, costs),
        exactness: 'none',
        storage: rewritten(manifest.states, revocation.touched),
      }
    : null
  const whole = { visits: sum(full), seconds: secondsOfJobs(full, costs) }
  const rows = revocation.revoked.length
  return { verb: 'plan', rows, exact, direct, full: whole, ...choose(how, exact, direct, whole.seconds) }
}

function choose(
  { prefer, budget }: Choice,
  exact: ArmPlan,
  direct: ArmPlan | null,
  full: number,
): Pick<Plan, 'arm' | 'why'> {
  if (prefer === 'exact' || prefer === 'direct') return { arm: prefer, why: `prefer: '${prefer}'` }
  if (direct === null) {
    return { arm: 'exact', why: 'batches were normalised together: the record cannot be updated directly' }
  }
  if (exact.seconds <= direct.seconds) return { arm: 'exact', why: 'retraining is estimated to be as quick or quicker' }
  if (prefer === 'fast') return { arm: 'direct', why: 'the direct update is estimated to be quicker' }
  const limit = budget ?? full / 2
  const what = budget === undefined ? 'half of training anew' : 'the budget'
  return exact.seconds <= limit
    ? { arm: 'exact', why: `retraining is estimated within ${what}` }
    : { arm: 'direct', why: `retraining is estimated above ${what}` }
}

/** Bytes of the states of shards from a slice on. */
function rewritten(states: readonly ShardState[], touched: Revocation['touched']): number {
  const firsts = new Map(touched.map(({ shard, slice }) => [shard, slice]))
  return states.reduce((sum, { checkpoints, logs }, shard) => {
    const first = firsts.get(shard) ?? Infinity
    return [...checkpoints, ...logs].reduce((bytes, ref) => bytes + (ref.slice >= first ? ref.bytes : 0), sum)
  }, 0)
}
