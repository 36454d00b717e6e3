// estimate(): time and peak memory of a product, before any of its work starts.
import { readEstimateOptions, type EstimateOptions } from './estimate/options.js'
import { workOf, type ProgramRuns, type Work } from './estimate/work.js'
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { holdData, letGo } from './model/held_data.js'
import { checkSignal, type PassOptions } from './model/passes.js'
import { dtypeOf } from './model/products.js'
import { native, type DType, type ForecastNumbers, type NativeVector, type Rates } from './native.js'
import { invalid } from './options.js'

export type { EstimateOptions } from './estimate/options.js'

/** What a product will take. */
export interface Estimate {
  quantity: EstimateOptions['quantity']
  rows: number
  /** Rows that are computed at once. */
  batchSize: number
  /** Wall-clock seconds of a call once its programs have been planned; planning them takes some milliseconds more. */
  seconds: number
  /** Operations, and bytes of the operands of every pass over memory, of the whole call. */
  flops: number
  bytes: number
  /** Bytes. */
  memory: {
    /** The most that the call holds at a time, beside model, data and the vectors that it is given. */
    peak: number
    /** Of it: values between the steps, inputs and outputs of programs, parameter-space vectors, the kernels' working memory. */
    plan: number
    buffers: number
    vectors: number
    working: number
    /** Copies of inputs and results on their way to and from the device. */
    host: number
    /** What the device can still give. */
    free: number
  }
  /** Whether `memory.peak` is at most `memory.free`; a call that does not fit is refused with ERR_OUT_OF_MEMORY. */
  fits: boolean
  /** What the device reached when it was calibrated: FLOP/s of products, convolutions and per-example squares, bytes/s. */
  rates: Rates
  /** Seconds that this estimate itself took to measure; those of the next ten seconds find what is known. */
  calibration: number
}

/** Calls of the native thread are this long at most: a signal is heard after each. */
const sliceSeconds = 0.05

/** Steps that are queued ahead: as many copies of a batch are on their way. */
const inFlight = 3

interface Counted extends ProgramRuns {
  numbers: ForecastNumbers
}

/** Measures until every step is known. Programs that do not fit are reckoned from the rates. */
async function forecast(
  model: Model,
  { program, ...rest }: ProgramRuns,
  weights: NativeVector,
  options: PassOptions,
): Promise<Counted> {
  const made = new (native().Forecast)(model.engine.network, program, weights)
  try {
    let numbers = await made.measure(0)
    while (!numbers.done) {
      checkSignal(options.signal)
      try {
        numbers = await made.measure(sliceSeconds)
      } catch (error) {
        if (!(error instanceof PalimpsestError) || error.code !== 'ERR_OUT_OF_MEMORY') throw error
        numbers = { ...(await made.measure(0)), done: true }
      }
    }
    checkSignal(options.signal)
    return { program, ...rest, numbers }
  } finally {
    made.dispose()
  }
}

/** Seconds that a step waits on its way to the native thread and back, and that a value of the inputs takes to copy. */
interface HostRates {
  hop: number
  value: number
  /** When they were measured, ms of the performance clock. */
  taken: number
}

/** How long what was measured is good, as of native/graph/calibration.h. */
const goodMilliseconds = 10_000

let hostRates: HostRates | undefined

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]

async function measureHost(model: Model, program: ProgramRuns['program'], weights: NativeVector): Promise<HostRates> {
  if (hostRates && performance.now() - hostRates.taken < goodMilliseconds) return hostRates
  const made = new (native().Forecast)(model.engine.network, program, weights)
  await made.measure(0)
  const hops: number[] = []
  for (let i = 0; i < 15; i++) {
    const start = performance.now()
    await made.measure(0)
    hops.push((performance.now() - start) / 1000)
  }
  made.dispose()
  const inputs = new Float32Array(2 ** 16).fill(0.5)
  const copies: number[] = []
  for (let i = 0; i < 15; i++) {
    const start = performance.now()
    letGo(holdData({ inputs }, { inputShape: [inputs.length], classes: 1 }, false))
    copies.push((performance.now() - start) / 1000 / inputs.length)
  }
  // Beside the copy that the call keeps: one to the device.
  hostRates = { hop: median(hops), value: 2 * median(copies), taken: performance.now() }
  return hostRates
}

const widthOf = (dtype: DType | undefined): number => (dtype === 'float64' ? 8 : 4)

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0)
}

function memoryOf(model: Model, counted: readonly Counted[], work: Work, rows: number) {
  const width = widthOf(counted[0].program.dtype)
  const plan = sum(counted.map(({ numbers }) => numbers.arenaBytes + numbers.constantBytes))
  const buffers = sum(counted.map(({ numbers }) => numbers.bufferBytes))
  const vectors = work.vectors * model.engine.network.vectorLength * width
  const working = Math.max(...counted.map(({ numbers }) => numbers.workingBytes))
  const rowValues = model.inputShape.reduce((a, b) => a * b, 1)
  const staged = Math.max(
    ...counted.map(({ program: { batch }, numbers, runs }) => {
      const copies = Math.min(inFlight, runs)
      // Whole batches of float32 rows go from where they are held; the last, filled up, is put together first.
      const straight = width === 4 ? copies - Number(rows % batch > 0) : 0
      return copies * numbers.bufferBytes - straight * batch * rowValues * width
    }),
  )
  const host = 4 * rows * rowValues + staged + work.outputs * width
  return { peak: plan + buffers + vectors + working + host, plan, buffers, vectors, working, host }
}

function secondsOf(model: Model, counted: readonly Counted[], work: Work, rows: number, host: HostRates): number {
  const { rates } = counted[0].numbers
  const width = widthOf(counted[0].program.dtype)
  const pass = (model.engine.network.vectorLength * width) / rates.copy
  const runs = sum(counted.map((each) => each.runs))
  const rowValues = model.inputShape.reduce((a, b) => a * b, 1) + work.rowInputs
  const vectors = (work.vectorPasses + 3 * sum(counted.map(({ accumulated }) => accumulated))) * pass
  return (
    sum(counted.map(({ runs: n, numbers }) => n * numbers.seconds)) +
    vectors +
    (runs + work.vectorSteps) * host.hop +
    rows * rowValues * host.value
  )
}

/**
 * Predicts time and peak memory of a product on `rows` rows given as arrays, before any of its work starts. The first
 * estimate of a quantity calibrates: it measures the device's rates and runs the distinct steps of the product, each
 * alone, on a small batch (together some tenths of a second). What was measured is good for ten seconds, under the same
 * thread count and instruction set.
 *
 * @param model - whose product; unchanged
 * @param options - `quantity`, `rows` and what else decides the product's cost
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_SHAPE for a batch that the network cannot have, ERR_UNSUPPORTED for a
 * product that it does not have, ERR_DISPOSED, and the reason of an aborted signal. What does not fit in memory is an
 * answer (`fits` is false), not an error.
 */
export async function estimate(model: Model, options: EstimateOptions): Promise<Estimate> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  const read = readEstimateOptions(options)
  const { quantity, rows, signal, onProgress } = read
  checkSignal(signal)
  const started = performance.now()
  const weights = await model.engine.weights(dtypeOf(read))
  const work = await workOf(model, read, rows)
  const counted: Counted[] = []
  for (const [i, each] of work.programs.entries()) {
    counted.push(await forecast(model, each, weights, read))
    onProgress?.({ phase: 'estimate', done: i + 1, total: work.programs.length })
  }
  const host = await measureHost(model, work.programs[0].program, weights)
  const { free } = await native().memoryUse(model.device, false)
  const memory = { ...memoryOf(model, counted, work, rows), free }
  return {
    quantity,
    rows,
    batchSize: counted[0].program.batch,
    seconds: secondsOf(model, counted, work, rows, host),
    flops: sum(counted.map(({ runs, numbers }) => runs * numbers.flops)),
    bytes: sum(counted.map(({ runs, numbers }) => runs * numbers.bytes)),
    memory,
    fits: memory.peak <= free,
    rates: counted[0].numbers.rates,
    calibration: (performance.now() - started) / 1000,
  }
}
