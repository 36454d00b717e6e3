// What the arms' parts take: retraining from what this record's jobs took, the direct update from a few calls timed now.
import { normalizationsOf } from '../fit/statistics.js'
import { Model } from '../model.js'
import type { ParameterVector } from '../vector.js'
import type { TrainingRecord } from '../record.js'
import type { Manifest } from '../record/format.js'
import { readNetwork } from '../record/network_file.js'
import type { RecordStore } from '../record/store.js'

/** Seconds. */
export interface Costs {
  /** Of a worker: until it trains, and a row in it. */
  start: number
  training: number
  /** Jobs side by side. */
  workers: number
  /** Of this process: the model and its first calls; a gradient, and each of its rows; a row of a Hessian product. */
  model: number
  call: number
  gradient: number
  hessian: number
  /** One pass over a parameter vector. */
  vector: number
  /** Reading a state and writing one; a file of a few bytes. */
  state: number
  file: number
  /** Whether batches were normalised together. */
  normalized: boolean
}

const timedRows = 128
/** Of a file that is flushed with its folder. */
const flushed = 0.006

export async function measureCosts(record: TrainingRecord, store: RecordStore): Promise<Costs> {
  const { manifest } = store
  const { environment, fit } = manifest
  const started = performance.now()
  const device = environment.device as 'cpu'
  const model = Model.fromNetwork(readNetwork(await store.read(manifest.initial)), { device })
  const rows = (count: number) => record.data.subset([...Array(Math.min(count, record.data.size)).keys()])
  const [some, one] = [rows(timedRows), rows(1)]
  let v: ParameterVector | undefined
  try {
    v = await model.weights()
    const loss = { loss: fit.loss ?? 'crossEntropy' }
    const gradientOf = (of: typeof some) => async () => (await model.gradient(of, loss)).dispose()
    await gradientOf(one)()
    await gradientOf(some)()
    const first = (performance.now() - started) / 1000
    const call = await timed(gradientOf(one))
    const many = await timed(gradientOf(some))
    const weights = v
    const curved = await timed(async () => (await model.hessianProduct(some, weights, loss)).dispose())
    const vector =
      (await timed(async () => void (await Promise.all(passes.map(() => weights.scale(1)))))) / passes.length
    const state = await stateCost(store)
    const gradient = many / some.size
    const normalized =
      normalizationsOf(model.description).length > 0 &&
      (fit.batchNorm ?? (fit.parameters ? '' : 'training')) === 'training'
    const trained = trainingCosts(manifest) ?? { start: 0, training: gradient, workers: 1 }
    return {
      ...trained,
      model: first,
      call,
      gradient,
      hessian: curved / some.size,
      vector,
      state,
      file: flushed,
      normalized,
    }
  } finally {
    v?.dispose()
    some.dispose()
    one.dispose()
    model.dispose()
  }
}

const passes = [...Array(16).keys()]

/** Reads a checkpoint of the record, as an update does: checked, taken apart, put together and written. */
async function stateCost(store: RecordStore): Promise<number> {
  const ref = store.manifest.states.flatMap(({ checkpoints }) => checkpoints).at(-1)
  if (ref === undefined) return flushed
  const read = await timed(async () => void (await store.read(ref)))
  return 4 * read + flushed
}

/** From the entries of the ledger whose jobs were timed; undefined where there is none. */
function trainingCosts({ ledger }: Manifest): Pick<Costs, 'start' | 'training' | 'workers'> | undefined {
  const served = ledger.flatMap(({ jobs, seconds, visits }) =>
    jobs && visits > 0 ? [{ ...jobs, elapsed: seconds, visits }] : [],
  )
  if (served.length === 0) return undefined
  const workers = served[served.length - 1].atOnce
  const sum = (of: (each: (typeof served)[number]) => number) => served.reduce((total, each) => total + of(each), 0)
  const starts = served.map(
    ({ count, seconds, elapsed, atOnce }) => elapsed / Math.ceil(count / atOnce) - seconds / count,
  )
  return {
    workers,
    training: sum(({ seconds }) => seconds) / sum(({ visits }) => visits),
    start: Math.max(0, starts.reduce((a, b) => a + b, 0) / starts.length),
  }
}

/** Seconds until jobs over so many rows each have ended, each taken by the worker that is free first. */
export function secondsOfJobs(visits: readonly number[], { start, training, workers }: Costs): number {
  const free = Array.from({ length: workers }, () => 0)
  for (const each of visits) {
    const next = free.indexOf(Math.min(...free))
    free[next] += start + training * each
  }
  return Math.max(...free)
}

const times = 5

/** The median of a few times, as loaded as the machine is: what others do for a moment is not in it. */
async function timed(work: () => Promise<void>): Promise<number> {
  const seconds: number[] = []
  for (let i = 0; i < times; i++) {
    const started = performance.now()
    await work()
    seconds.push((performance.now() - started) / 1000)
  }
  return seconds.sort((a, b) => a - b)[times >> 1]
}
