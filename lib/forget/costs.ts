// What the arms' parts take: retraining from what this record's jobs took, the direct update from a few calls timed now.
import { normalizationsOf } from '../fit/statistics.js'
import { environmentOf } from '../jobs/environment.js'
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

/** What a call takes by two clocks: on a processor the quiet one leaves out what others do at the same time. */
interface Clock {
  now(): number
  /** Seconds on the wall a second of this clock, so far. */
  stretch(): number
}

function startClock(device: string): Clock {
  const wall = () => performance.now() / 1000
  if (device !== 'cpu') return { now: wall, stretch: () => 1 }
  const processor = () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  }
  const [started, begun] = [wall(), processor()]
  return { now: processor, stretch: () => (wall() - started) / Math.max(processor() - begun, 1e-6) }
}

export async function measureCosts(record: TrainingRecord, store: RecordStore): Promise<Costs> {
  const { manifest } = store
  const { environment, fit } = manifest
  const device = environment.device as 'cpu'
  const source = readNetwork(await store.read(manifest.initial))
  const clock = startClock(device)
  const rows = (count: number) => record.data.subset([...Array(Math.min(count, record.data.size)).keys()])
  const [some, one] = [rows(timedRows), rows(1)]
  const loss = { loss: fit.loss ?? 'crossEntropy' }
  let model: Model | undefined
  let v: ParameterVector | undefined
  try {
    // The first model of a process is slower than those of the shards that follow.
    let first = Infinity
    for (let round = 0; round < 2; round++) {
      model?.dispose()
      const started = clock.now()
      model = Model.fromNetwork(source, { device })
      for (const each of [one, some]) (await model.gradient(each, loss)).dispose()
      first = Math.min(first, clock.now() - started)
    }
    const used = model as Model
    const weights = (v = await used.weights())
    const gradientOf = (of: typeof some) => async () => (await used.gradient(of, loss)).dispose()
    const timed = timer(clock)
    const [call, many] = [await timed(gradientOf(one)), await timed(gradientOf(some))]
    const curved = await timed(async () => (await used.hessianProduct(some, weights, loss)).dispose())
    const pass = (await timed(async () => void (await Promise.all(passes.map(() => weights.scale(1)))))) / passes.length
    const read = await timed(() => readLast(store))
    const normalized =
      normalizationsOf(used.description).length > 0 &&
      (fit.batchNorm ?? (fit.parameters ? '' : 'training')) === 'training'
    const stretch = clock.stretch()
    const gradient = (stretch * many) / some.size
    const alike = device === 'cpu' && environmentOf(device).threads === environment.threads
    const trained = trainingCosts(manifest, alike ? stretch : undefined) ?? { start: 0, training: gradient, workers: 1 }
    return {
      ...trained,
      model: stretch * first,
      call: stretch * call,
      gradient,
      hessian: (stretch * curved) / some.size,
      vector: stretch * pass,
      state: flushed + 4 * stretch * read,
      file: flushed,
      normalized,
    }
  } finally {
    v?.dispose()
    some.dispose()
    one.dispose()
    model?.dispose()
  }
}

const passes = [...Array(16).keys()]

/** Reads a checkpoint of the record, checked; to be taken apart, put together and written takes a few times as long. */
async function readLast(store: RecordStore): Promise<void> {
  const ref = store.manifest.states.flatMap(({ checkpoints }) => checkpoints).at(-1)
  if (ref !== undefined) await store.read(ref)
}

/**
 * From the entries of the ledger whose jobs were timed; undefined where there is none. `stretch`: what a second of this
 * machine's processors takes on the wall now, in place of what it took then.
 */
function trainingCosts(
  { ledger }: Manifest,
  stretch: number | undefined,
): Pick<Costs, 'start' | 'training' | 'workers'> | undefined {
  const served = ledger.flatMap(({ jobs, seconds, visits }) =>
    jobs && visits > 0 ? [{ ...jobs, elapsed: seconds, visits }] : [],
  )
  if (served.length === 0) return undefined
  const workers = served[served.length - 1].atOnce
  const load = ({ seconds, processorSeconds = NaN }: (typeof served)[number]) =>
    stretch !== undefined && processorSeconds > 0 ? (stretch * processorSeconds) / seconds : 1
  const sum = (of: (each: (typeof served)[number]) => number) => served.reduce((total, each) => total + of(each), 0)
  const starts = served.map(
    (each) => load(each) * (each.elapsed / Math.ceil(each.count / each.atOnce) - each.seconds / each.count),
  )
  return {
    workers,
    training: sum((each) => load(each) * each.seconds) / sum(({ visits }) => visits),
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

/** The median of a few times. */
const timer =
  (clock: Clock) =>
  async (work: () => Promise<void>): Promise<number> => {
    const seconds: number[] = []
    for (let i = 0; i < times; i++) {
      const started = clock.now()
      await work()
      seconds.push(clock.now() - started)
    }
    return seconds.sort((a, b) => a - b)[times >> 1]
  }
