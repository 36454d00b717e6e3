// plan(): what each arm would cost for a request to a record, and which one would serve it; it reads positions, never rows.
import { Dataset } from '../dataset.js'
import { Model } from '../model.js'
import { normalizationsOf } from '../fit/statistics.js'
import { check, invalid, number, oneOf, optional, readOptions, withDefault } from '../options.js'
import { TrainingRecord } from '../record.js'
import type { DirectSettings, Manifest, ShardState } from '../record/format.js'
import { readNetwork } from '../record/network_file.js'
import type { RecordStore } from '../record/store.js'
import { visitsOf } from '../record/train.js'
import { amendedRows, amendedVisits, mostPasses } from './amend.js'
import { lossesOf, segmentsOf, sliceRuns, statesOf } from './logged_run.js'
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
   * After a direct update: 'slices' (default), up to three passes over rows of the slices that lost some, until the loss
   * settles; so many steps over all rows that stay; or 'none'.
   */
  amend?: 'none' | 'slices' | number
  /**
   * The direct update's drift correction: by a quasi-Newton matrix of the log's own steps ('log', default), by Hessian
   * products at logged states ('products': nearer to retraining for more than twice the time), or 'none'.
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
): Promise<Plan> {
  const { manifest } = store
  const costs = await measure(record, store)
  const works = worksOf(manifest, revocation)
  const all = revocation.remaining.map((slices, shard) => ({ shard, slices, first: 1, start: undefined }))
  const visits = works.reduce((sum, work) => sum + visitsOf(work, manifest.epochs), 0)
  const full = all.reduce((sum, work) => sum + visitsOf(work, manifest.epochs), 0)
  const firsts = new Map(works.map(({ shard, first }) => [shard, first]))
  const exact: ArmPlan = {
    visits,
    seconds: costs.training * visits,
    exactness: 'bits',
    storage: rewritten(manifest.states, firsts),
  }
  const direct = costs.normalized ? null : directPlan(record, manifest, revocation, directSettings(how), costs)
  const whole = { visits: full, seconds: costs.training * full }
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

/** Seconds a row. */
interface Costs {
  /** Of training, as this record's calls took it, whatever ran side by side. */
  training: number
  /** Of one gradient in this process: for each call, and for each row. */
  call: number
  gradient: number
  hessian: number
  /** Whether batches were normalised together. */
  normalized: boolean
}

const timedRows = 128

async function measure(record: TrainingRecord, store: RecordStore): Promise<Costs> {
  const { manifest } = store
  const { environment, fit, ledger } = manifest
  const model = Model.fromNetwork(readNetwork(await store.read(manifest.initial)), {
    device: environment.device as 'cpu',
  })
  const [some, one] = [Math.min(timedRows, record.data.size), 1].map((rows) =>
    record.data.subset([...Array(rows).keys()]),
  )
  try {
    const v = await model.weights()
    const loss = { loss: fit.loss ?? 'crossEntropy' }
    const call = await quickest(async () => (await model.gradient(one, loss)).dispose())
    const many = await quickest(async () => (await model.gradient(some, loss)).dispose())
    const curved = await quickest(async () => (await model.hessianProduct(some, v, loss)).dispose())
    v.dispose()
    const gradient = many / some.size
    const served = ledger.filter(({ arm, visits }) => arm === 'exact' && visits > 0)
    const [seconds, visits] = [served.map((each) => each.seconds), served.map((each) => each.visits)].map((list) =>
      list.reduce((a, b) => a + b, 0),
    )
    const normalized =
      normalizationsOf(model.description).length > 0 &&
      (fit.batchNorm ?? (fit.parameters ? '' : 'training')) === 'training'
    return {
      training: visits > 0 ? seconds / visits : gradient,
      call,
      gradient,
      hessian: curved / some.size,
      normalized,
    }
  } finally {
    some.dispose()
    one.dispose()
    model.dispose()
  }
}

/** The least of a few times, the first (which plans the program) aside. */
async function quickest(work: () => Promise<void>): Promise<number> {
  let least = Infinity
  for (let i = 0; i < 4; i++) {
    const started = performance.now()
    await work()
    if (i > 0) least = Math.min(least, (performance.now() - started) / 1000)
  }
  return least
}

function rewritten(states: readonly ShardState[], firsts: ReadonlyMap<number, number>): number {
  return states.reduce((sum, { checkpoints, logs }, shard) => {
    const first = firsts.get(shard) ?? Infinity
    return [...checkpoints, ...logs].reduce((bytes, ref) => bytes + (ref.slice >= first ? ref.bytes : 0), sum)
  }, 0)
}

/** Rows that a direct update visits, and what they take. */
function directPlan(
  record: TrainingRecord,
  manifest: Manifest,
  revocation: Revocation,
  settings: DirectSettings,
  costs: Costs,
): ArmPlan {
  const gone = new Set(revocation.revoked)
  const total = { lost: 0, calls: 0, probe: 0, drift: 0, amend: 0 }
  for (const { shard, slice } of revocation.touched) {
    const slices = record.rows[shard]
    let begun = false
    for (const run of sliceRuns(manifest, slices).filter((each) => each.slice >= slice)) {
      const probe = Math.min(settings.rows, run.rows.filter((row) => !gone.has(row)).length)
      const losses = lossesOf(run, manifest, gone)
      const segments = segmentsOf(statesOf(manifest.states[shard], run), run, losses)
      // At each state, and where the deviation stands.
      if (settings.drift === 'log') total.probe += (1 + segments.length) * probe
      for (const segment of segments) {
        if (begun && settings.drift === 'log') total.probe += probe
        if (begun && settings.drift === 'products') total.drift += settings.products * probe
        begun ||= segment.losses.length > 0
      }
      for (const { rows, size } of losses) {
        if (rows.length < size) total.lost += rows.length
        total.calls++
      }
    }
    const left = sliceRuns(manifest, revocation.remaining[shard])
    const last = left.at(-1)
    if (last === undefined || last.slice !== manifest.slices) continue
    const touched = slices.map((rows) => rows.some((row) => gone.has(row)))
    const passes = settings.amend === 'slices' ? mostPasses : 1
    const part = { manifest, run: last, slices: revocation.remaining[shard], touched }
    const rows = settings.amend === 'slices' ? amendedRows(part).length : last.rows.length
    total.amend += passes * amendedVisits(settings.amend, rows, manifest.fit.batchSize ?? 128)
  }
  const firsts = new Map(revocation.touched.map(({ shard, slice }) => [shard, slice]))
  const storage = rewritten(manifest.states, firsts)
  const { call, gradient, hessian } = costs
  const seconds =
    total.calls * call +
    (total.lost + total.probe + total.amend) * gradient +
    total.drift * hessian +
    storage * secondsPerByte
  return { visits: total.lost + total.probe + total.drift + total.amend, seconds, exactness: 'none', storage }
}

/** States are read, carried on and written: about 200 MB/s together. */
const secondsPerByte = 5e-9
