// What the arms' parts take: retraining from what this record's jobs took, the direct update from a few calls timed now.
import { readFitOptions, trainedNormalizations } from '../fit/options.js'
import { environmentOf } from '../jobs/environment.js'
import { Model } from '../model.js'
import { checkSignal } from '../model/passes.js'
import type { ParameterVector } from '../vector.js'
import type { TrainingRecord } from '../record.js'
import type { DirectSettings, Manifest } from '../record/format.js'
import { readNetwork } from '../record/network_file.js'
import type { RecordStore } from '../record/store.js'

/** Seconds. */
export interface Costs {
  /** Of a worker: until it trains, and a row in it. */
  start: number
  training: number
  /** Jobs side by side. */
  workers: number
  /** Of this process: the model and its first calls; a gradient, and each of its rows. */
  model: number
  call: number
  gradient: number
  /** A row of a Hessian product; 0 where none is to be made. */
  hessian: number
  /** One pass over a parameter vector. */
  vector: number
  /** Reading a state and writing one, in a worker too; a file of a few bytes. */
  state: number
  file: number
  /** Whether batches were normalised together. */
  normalized: boolean
}

const timedRows = 128
/** Of a file that is flushed with its folder. */
const flushed = 0.006

/** What a call takes: on the wall, and of processors, which leaves out what other processes do meanwhile. */
interface Took {
  wall: number
  processor: number
}

function clock(): Took {
  const { user, system } = process.cpuUsage()
  return { wall: performance.now() / 1000, processor: (user + system) / 1e6 }
}

const since = (begun: Took): Took => {
  const now = clock()
  return { wall: now.wall - begun.wall, processor: now.processor - begun.processor }
}

/** What the measurement is for. */
interface Purpose {
  drift: DirectSettings['drift']
  /** Whether jobs will run in processes of this machine. */
  local: boolean
  signal?: AbortSignal | undefined
}

export async function measureCosts(
  record: TrainingRecord,
  store: RecordStore,
  { drift, local, signal }: Purpose,
): Promise<Costs> {
  const { manifest } = store
  const { environment, fit } = manifest
  const device = environment.device as 'cpu'
  const source = readNetwork(await store.read(manifest.initial))
  const rows = (count: number) => record.data.subset([...Array(Math.min(count, record.data.size)).keys()])
  const [some, one] = [rows(timedRows), rows(1)]
  const loss = { loss: fit.loss ?? 'crossEntropy' }
  let model: Model | undefined
  let v: ParameterVector | undefined
  try {
    // The first model of a process is slower than those of the shards that follow.
    let first: Took = { wall: Infinity, processor: Infinity }
    for (let round = 0; round < 2; round++) {
      checkSignal(signal)
      model?.dispose()
      const begun = clock()
      model = Model.fromNetwork(source, { device })
      for (const each of [one, some]) (await model.gradient(each, loss)).dispose()
      const took = since(begun)
      first = { wall: Math.min(first.wall, took.wall), processor: Math.min(first.processor, took.processor) }
    }
    const used = model as Model
    const weights = (v = await used.weights())
    const gradientOf = (of: typeof some) => async () => (await used.gradient(of, loss)).dispose()
    const timed = (work: () => Promise<void>, least = 0) => timesOf(work, least, signal)
    const [call, many] = [await timed(gradientOf(one)), await timed(gradientOf(some), comparable)]
    const curved =
      drift === 'products'
        ? await timed(async () => (await used.hessianProduct(some, weights, loss)).dispose())
        : undefined
    const pass = await timed(async () => void (await Promise.all(passes.map(() => weights.scale(1)))))
    const read = await timed(() => readLast(store))
    const normalized = trainedNormalizations(readFitOptions({ ...fit, epochs: 1 }), used, timedRows).length > 0
    // A gradient runs on as many threads as training does; other calls do not.
    const stretch = device === 'cpu' && many.wholeProcessor > 0 ? many.wholeWall / many.wholeProcessor : undefined
    const { threads } = environmentOf(device)
    const seconds = ({ wall, processor }: Took) => (stretch !== undefined && threads === 1 ? stretch * processor : wall)
    const gradient = seconds(many) / some.size
    const alike = local && threads === environment.threads
    const state = flushed + 4 * seconds(read)
    const known = trainingCosts(manifest, state, alike ? stretch : undefined)
    const trained = known ?? { start: 0, training: gradient, workers: 1 }
    return {
      ...trained,
      model: seconds(first),
      call: seconds(call),
      gradient,
      hessian: curved ? seconds(curved) / some.size : 0,
      vector: seconds(pass) / passes.length,
      state,
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
 * From the entries of the ledger whose jobs were timed; undefined where there is none. `state`: seconds of the checkpoint
 * that ends every slice. `stretch`: what a second of this machine's processors takes on the wall now, in place of what it
 * took then.
 */
function trainingCosts(
  { ledger, slices }: Manifest,
  state: number,
  stretch: number | undefined,
): Pick<Costs, 'start' | 'training' | 'workers'> | undefined {
  const served = ledger.flatMap(({ jobs, seconds, visits, shards }) => {
    // A fit that was broken off and ended later names all shards, its jobs trained what was left.
    const states = jobs?.slices ?? shards.reduce((sum, { slice }) => sum + slices - slice + 1, 0)
    return jobs && visits > 0 ? [{ ...jobs, elapsed: seconds, visits, states }] : []
  })
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
    training: sum((each) => load(each) * rowSeconds(each, state)) / sum(({ visits }) => visits),
    start: Math.max(0, starts.reduce((a, b) => a + b, 0) / starts.length),
  }
}

/** What jobs took without their checkpoints; half of it at least, as what a checkpoint takes now is no more than a guess. */
const rowSeconds = ({ seconds, states }: { seconds: number; states: number }, state: number): number =>
  Math.max(seconds / 2, seconds - states * state)

/** Seconds until jobs over so many rows and slices each have ended, each taken by the worker that is free first. */
export function secondsOfJobs(
  jobs: readonly { visits: number; slices: number }[],
  { start, training, state, workers }: Costs,
): number {
  const free = Array.from({ length: workers }, () => 0)
  for (const { visits, slices } of jobs) {
    const next = free.indexOf(Math.min(...free))
    free[next] += start + slices * state + training * visits
  }
  return Math.max(...free)
}

const times = 5
/** Seconds after which the two clocks can be compared. */
const comparable = 0.15

/** The medians of a few times, for so many seconds at least, and the sums of all. */
async function timesOf(
  work: () => Promise<void>,
  least: number,
  signal: AbortSignal | undefined,
): Promise<Took & { wholeWall: number; wholeProcessor: number }> {
  const took: Took[] = []
  const begun = clock()
  let whole = since(begun)
  while (took.length < times || whole.wall < least) {
    checkSignal(signal)
    const started = clock()
    await work()
    took.push(since(started))
    whole = since(begun)
  }
  const median = (of: keyof Took) => took.map((each) => each[of]).sort((a, b) => a - b)[took.length >> 1]
  return {
    wall: median('wall'),
    processor: median('processor'),
    wholeWall: whole.wall,
    wholeProcessor: whole.processor,
  }
}
