// The diagonal of the Fisher matrix: squared per-example gradients, at the rows' labels, in expectation, or by draws.
import { RandomStream, streams } from '../philox.js'
import { oneHot } from '../data/targets.js'
import { native, type FloatArray, type NativeVector } from '../native.js'
import { integer, oneOf } from '../options.js'
import { checkData, type Held } from './held_data.js'
import { runSteps, slices, type Slice } from './passes.js'
import {
  dtypeOf,
  evaluate,
  intoSums,
  programOf,
  runPass,
  targetSource,
  type Engine,
  type ProductOptions,
} from './products.js'

export interface FisherOptions extends ProductOptions {
  /**
   * 'empirical' (default): mean of (d log p(y|x))^2 at the rows' labels. 'exact': the label's expectation under the
   * model, K backward passes. 'mc': labels drawn from the model, `samples` a row.
   */
  type?: 'empirical' | 'exact' | 'mc'
  /** Draws a row under 'mc' (default 1). */
  samples?: number
  /** Of the draws (default 0). */
  seed?: number
}

/** Mean over rows of squared per-example gradients of the log-likelihood. */
export async function fisherDiagonal(engine: Engine, data: Held, options: FisherOptions): Promise<NativeVector> {
  const type = oneOf('empirical', 'exact', 'mc').read(options.type ?? 'empirical', 'type')
  const samples = integer({ min: 1 }).read(options.samples ?? 1, 'samples')
  const seed = integer({ min: 0 }).read(options.seed ?? 0, 'seed')
  const rows = checkData(data, engine, type === 'empirical')
  const dtype = dtypeOf(options)
  const rounds = type === 'empirical' ? 1 : type === 'exact' ? engine.classes : samples
  const labelsOf = await labelSource(engine, data, options, type, seed)
  const quantity = type === 'exact' ? 'fisherClass' : 'fisherEmpirical'
  // The square of a row's weight is its share of the mean.
  const weight = 1 / Math.sqrt(rows * (type === 'mc' ? samples : 1))
  const round = (index: number, sums: NativeVector) =>
    sumOfSquares(engine, data, options, quantity, sums, weight, (slice) => labelsOf(slice, index))
  return intoSums(engine, dtype, async (sums) => {
    await round(0, sums)
    if (rounds === 1) return
    const part = new (native().Vector)(engine.network, dtype)
    try {
      for (let index = 1; index < rounds; index++) {
        await round(index, part)
        await sums.axpy(1, part)
      }
    } finally {
      part.dispose()
    }
  })
}

/** Which label each row of a slice is differentiated at, by round. */
async function labelSource(
  engine: Engine,
  data: Held,
  options: ProductOptions,
  type: 'empirical' | 'exact' | 'mc',
  seed: number,
): Promise<(slice: Slice, round: number) => Int32Array> {
  if (type === 'empirical') return (slice) => slice.labels as Int32Array
  if (type === 'exact') return (slice, round) => new Int32Array(slice.rows).fill(round)
  const k = engine.classes
  const logits = await evaluate(engine, data, options)
  return (slice, round) =>
    Int32Array.from({ length: slice.rows }, (_, i) => {
      const row = slice.start + i
      const random = new RandomStream(seed, streams.labels, round, row)
      return drawLabel(logits.subarray(row * k, (row + 1) * k), (random.next() + 0.5) / 2 ** 32)
    })
}

/** softmax(logits). */
function softmax(logits: FloatArray): number[] {
  const z = Array.from(logits)
  const most = Math.max(...z)
  const p = z.map((value) => Math.exp(value - most))
  const total = p.reduce((a, b) => a + b, 0)
  return p.map((value) => value / total)
}

/** A label from softmax(logits), by its cumulative probabilities. */
function drawLabel(logits: FloatArray, u: number): number {
  const p = softmax(logits)
  let rest = u
  for (let c = 0; c < p.length; c++) {
    rest -= p[c]
    if (rest < 0) return c
  }
  return p.length - 1
}

/** sums = sum over rows of squared per-example gradients times `weight`: quick rules where there are, else row by row. */
async function sumOfSquares(
  engine: Engine,
  data: Held,
  options: ProductOptions,
  quantity: 'fisherEmpirical' | 'fisherClass',
  sums: NativeVector,
  weight: number,
  labelsOf: (slice: Slice) => Int32Array,
): Promise<void> {
  const slow = new Set(await engine.network.parametersWithoutQuickSquares())
  const wanted = options.parameters ?? engine.network.layout.map((entry) => entry.name)
  const quick = wanted.filter((name) => !slow.has(name))
  const targets = targetSource(engine, {})
  const inputs = (slice: Slice) => ({ weights: weight, targets: targets({ ...slice, labels: labelsOf(slice) }) })
  const rest = wanted.filter((name) => slow.has(name))
  if (rest.length > 0) await sums.fill(0)
  if (quick.length > 0) {
    const program = programOf(quantity, { ...options, loss: 'crossEntropy', parameters: quick })
    await runPass(engine, {
      phase: 'fisherDiagonal',
      program,
      data,
      options,
      needLabels: false,
      least: 2,
      inputs,
      sums,
    })
  }
  if (rest.length > 0) {
    await squareRowByRow(engine, data, { ...options, parameters: rest }, quantity, sums, weight, labelsOf)
  }
}

/** A parameter with several uses: the row's whole gradient over all uses, then the square. */
async function squareRowByRow(
  engine: Engine,
  data: Held,
  options: ProductOptions,
  quantity: 'fisherEmpirical' | 'fisherClass',
  sums: NativeVector,
  weight: number,
  labelsOf: (slice: Slice) => Int32Array,
): Promise<void> {
  const dtype = dtypeOf(options)
  const k = engine.classes
  using lease = await engine.programs.lease({
    ...programOf('gradient', { ...options, loss: 'crossEntropy' }),
    batch: 1,
  })
  const parameters = await engine.weights(dtype)
  const gradient = new (native().Vector)(engine.network, dtype)
  const logits = quantity === 'fisherClass' ? await evaluate(engine, data, options) : undefined
  try {
    const step = async (slice: Slice): Promise<number> => {
      const labels = labelsOf(slice)
      const p = logits ? softmax(logits.subarray(slice.start * k, (slice.start + 1) * k))[labels[0]] : 1
      const targets = oneHot(labels, k)
      engine.steady?.()
      const ran = lease.program.run({
        rows: 1,
        inputs: slice.inputs,
        parameters,
        targets,
        weights: weight * Math.sqrt(p),
        sums: gradient,
        outputs: false,
      })
      await Promise.all([ran, sums.addProduct(1, gradient, gradient)])
      return 1
    }
    const rows = checkData(data, engine, false)
    await runSteps(slices(data, 1), step, rows, 'fisherDiagonal', options)
  } finally {
    gradient.dispose()
  }
}
