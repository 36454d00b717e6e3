// The quadratic problem of a tangent model over a dataset: its gradient, curvature products and sketch.
//
//   L(w) = 1/(2n) sum_i |f_core(x_i) + J_i w - target_i|^2 + mu/2 |w|^2        (Golatkar et al. 2021, eq. 8)
//   grad L(w) = (1/n) sum J_i^T (f_core(x_i) + J_i w - target_i) + mu w,  H = (1/n) sum J_i^T J_i + mu I
import { RandomStream, streams } from '../philox.js'
import type { Dataset } from '../dataset.js'
import { LinearizedBatches, type HeldReport } from '../model/linearized_batches.js'
import { rowsPass, type Engine } from '../model/products.js'
import { runSteps, slices, type PassOptions, type Slice } from '../model/passes.js'
import { memoryShare, native, type DType, type FloatArray, type NativeLowRank, type NativeVector } from '../native.js'

export interface QuadraticOptions {
  engine: Engine
  /** The rows of the problem. */
  data: Dataset
  /** Names of the linearised parameters. */
  parameters: readonly string[]
  /** mu, on the mean loss. */
  damping: number
  /** Target of the right class; 0 for the others. */
  targetScale: number
  /** Most bytes that held linearisations may take; default half of the free memory. */
  memory?: number
}

/** A gradient with what its rounding allowance needs. */
export interface ResidualMeasure {
  /** (1/n) sum over micro-batches of |batch gradient|, certificates.md's allowance. */
  batchNorms: number
  /** Mean of |f + J w - target|^2 / 2 over the rows. */
  loss: number
}

/** Which micro-batches a solve held, of each type that it worked in. */
export interface SolveMemory {
  /** Most bytes that it was to take. */
  budget: number
  float32: HeldReport
  float64: HeldReport
}

export class QuadraticProblem {
  readonly #options: QuadraticOptions
  /** Passes over the rows so far, by type. */
  readonly passes = { float32: 0, float64: 0 }
  #planned: Promise<Record<DType, LinearizedBatches>> | undefined
  #memory: number | undefined
  #jacobianSize: number | undefined

  constructor(options: QuadraticOptions) {
    this.#options = options
  }

  get damping(): number {
    return this.#options.damping
  }

  get targetScale(): number {
    return this.#options.targetScale
  }

  get rows(): number {
    return this.#options.data.size
  }

  get parameters(): readonly string[] {
    return this.#options.parameters
  }

  vector(dtype: DType): NativeVector {
    return new (native().Vector)(this.#options.engine.network, dtype)
  }

  /** What is held of the rows' linearisations. */
  async memory(): Promise<SolveMemory> {
    const { float32, float64 } = await this.#batches()
    return { budget: await this.#budget(), float32: float32.report, float64: float64.report }
  }

  /** Frees what is held once no queued step needs it; passes plan anew. Idempotent. */
  dispose(): void {
    const planned = this.#planned
    this.#planned = undefined
    planned?.then(
      (batches) => Object.values(batches).forEach((each) => each.dispose()),
      () => undefined,
    )
  }

  /** gradient := grad L(w), in w's type. */
  async gradient(w: NativeVector, gradient: NativeVector, options: PassOptions): Promise<ResidualMeasure> {
    const { measure } = await this.#gradientAnd([], w, gradient, options)
    return measure
  }

  /**
   * gradient := grad L(x) in float64, and (1/n) sum |J_i y|^2, in one pass. With it comes an estimate of |J|_F / sqrt(n), J
   * the Jacobians of all rows, by one probe of signs (Hutchinson 1990).
   */
  async verify(
    x: NativeVector,
    y: NativeVector,
    gradient: NativeVector,
    options: PassOptions,
  ): Promise<{ measure: ResidualMeasure; meanSquare: number; jacobianSize: number }> {
    const probe = this.#jacobianSize === undefined ? this.vector('float64') : undefined
    try {
      if (probe) await setSigns(probe, this.parameters, 0)
      const tangents = probe ? [y, probe] : [y]
      const { measure, meanSquares } = await this.#gradientAnd(tangents, x, gradient, options)
      const jacobianSize = (this.#jacobianSize ??= Math.sqrt(meanSquares[1]))
      return { measure, meanSquare: meanSquares[0], jacobianSize }
    } finally {
      probe?.dispose()
    }
  }

  /** product := H v, in v's type. */
  async product(v: NativeVector, product: NativeVector, options: PassOptions): Promise<void> {
    await this.#sweep(v.dtype, 'product', options, (held, slot, { start }) => {
      const call = { slot, weight: 1 / this.rows, tangents: [v], sums: [product], accumulate: start > 0 }
      return [held.ggnProduct({ ...call, loss: 'squaredError' })]
    })
    await product.axpy(this.damping, v)
  }

  /** gradient := grad L(w), and (1/n) sum |J_i y|^2 of each y, summed in float64; all of w's type. */
  async #gradientAnd(
    tangents: readonly NativeVector[],
    w: NativeVector,
    gradient: NativeVector,
    options: PassOptions,
  ): Promise<{ measure: ResidualMeasure; meanSquares: number[] }> {
    const { engine, damping, targetScale } = this.#options
    const batch = this.vector(w.dtype)
    const norms: Promise<number>[] = []
    const meanSquares = tangents.map(() => 0)
    let loss = 0
    try {
      await gradient.fill(0)
      const phase = w.dtype === 'float64' ? 'verify' : 'gradient'
      await this.#sweep(w.dtype, phase, options, (held, slot, slice) => {
        const targets = targetsOf(slice.labels as Int32Array, engine.classes, targetScale, w.dtype)
        const call = { slot, targets, weight: 1 / this.rows, tangents: [w], sums: [batch] } as const
        const residual = held.linearGradient(call).then(([r]) => (loss += sumOfSquares(r) / 2))
        const norm = batch.dot(batch)
        norms.push(norm)
        const queued = [residual, norm, gradient.axpy(1, batch)]
        if (tangents.length === 0) return queued
        const moved = held.jvp({ slot, tangents }).then((rows) => {
          rows.forEach((jy, i) => (meanSquares[i] += sumOfSquares(jy) / this.rows))
        })
        return [...queued, moved]
      })
      await gradient.axpy(damping, w)
      const squares = await Promise.all(norms)
      const batchNorms = squares.reduce((sum, square) => sum + Math.sqrt(square), 0)
      return { measure: { batchNorms, loss: loss / this.rows }, meanSquares }
    } catch (error) {
      await Promise.allSettled(norms)
      throw error
    } finally {
      batch.dispose()
    }
  }

  async #sweep(dtype: DType, phase: string, options: PassOptions, work: SweepWork): Promise<void> {
    const batches = await this.#batches()
    const weights = await this.#options.engine.weights(dtype)
    await batches[dtype].sweep(weights, phase, options, work)
    this.passes[dtype] += 1
  }

  async #budget(): Promise<number> {
    return (this.#memory ??= this.#options.memory ?? (await memoryShare(this.#options.engine.network.device)))
  }

  #batches(): Promise<Record<DType, LinearizedBatches>> {
    return (this.#planned ??= this.#plan())
  }

  /** float64 verifies a few times, float32 iterates: its batches are held first, the others in what is left. */
  async #plan(): Promise<Record<DType, LinearizedBatches>> {
    const { engine, data, parameters } = this.#options
    const memory = await this.#budget()
    const wide = await LinearizedBatches.leastBytes(engine, data, { dtype: 'float64', parameters })
    const float32 = await LinearizedBatches.plan(engine, data, {
      dtype: 'float32',
      parameters,
      memory,
      reserved: wide,
    })
    try {
      const reserved = float32.report.bytes
      const float64 = await LinearizedBatches.plan(engine, data, { dtype: 'float64', parameters, memory, reserved })
      return { float32, float64 }
    } catch (error) {
      float32.dispose()
      throw error
    }
  }

  /**
   * r rows J_i^T e, float32, of r examples drawn by `seed`, e independent random signs; without a factor yet. Their mean
   * square estimates the trace of (1/n) J^T J.
   */
  async sketch(r: number, seed: number, options: PassOptions): Promise<{ rows: NativeLowRank; meanSquare: number }> {
    const { engine, data, parameters } = this.#options
    const row = this.vector('float32')
    const lowRank = new (native().LowRank)(row, parameters, r, r)
    const picked = data.subset(drawPositions(r, this.rows, seed))
    const random = new RandomStream(seed, streams.user, 1)
    let squares = 0
    try {
      using lease = await engine.programs.lease({ quantity: 'vjp', dtype: 'float32', parameters, batch: 1 })
      const weights = await engine.weights('float32')
      const step = async (slice: Slice): Promise<number> => {
        const cotangents = new Float32Array(engine.classes).map(() => (random.next() & 1 ? 1 : -1))
        const call = { rows: 1, inputs: slice.inputs, parameters: weights, cotangents, sums: row, outputs: false }
        const [, , square] = await Promise.all([lease.program.run(call), lowRank.append(row), row.dot(row)])
        squares += square
        return 1
      }
      await runSteps(slices(picked, 1), step, r, 'sketch', options)
      this.passes.float32 += r / this.rows
      return { rows: lowRank, meanSquare: squares / r }
    } catch (error) {
      lowRank.dispose()
      throw error
    } finally {
      picked.dispose()
      row.dispose()
    }
  }
}

type SweepWork = Parameters<LinearizedBatches['sweep']>[3]

function sumOfSquares(values: FloatArray): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i]
  return sum
}

/** Targets [rows, K]: the scale at the label, else 0; in the type of the pass, so that float64 sees no rounded scale. */
function targetsOf(labels: Int32Array, classes: number, scale: number, dtype: DType): FloatArray {
  const length = labels.length * classes
  const targets = dtype === 'float64' ? new Float64Array(length) : new Float32Array(length)
  labels.forEach((label, i) => {
    targets[i * classes + label] = scale
  })
  return targets
}

/** Signs from a public stream into the chosen parameters: probes of |J|_F^2 = E |J z|^2. */
export async function setSigns(z: NativeVector, parameters: readonly string[], probe: number): Promise<void> {
  const random = new RandomStream(0, streams.user, probe + 1)
  const chosen = new Set(parameters)
  let word = 0
  let left = 0
  for (const { name, size } of z.layout) {
    if (!chosen.has(name)) continue
    const values = new Float32Array(size)
    for (let i = 0; i < size; i++, word >>>= 1, left--) {
      if (left === 0) [word, left] = [random.next(), 32]
      values[i] = word & 1 ? 1 : -1
    }
    await z.set(name, values)
  }
}

/** m distinct positions below `rows`, ascending, by seed. */
function drawPositions(m: number, rows: number, seed: number): number[] {
  const random = new RandomStream(seed, streams.user)
  const chosen = new Set<number>()
  while (chosen.size < m) chosen.add(random.below(rows))
  return [...chosen].sort((a, b) => a - b)
}

/** f_core(x) + J(x) w for every row: [N, K], float32. */
export async function tangentOutputs(
  engine: Engine,
  data: Parameters<typeof rowsPass>[1]['data'],
  parameters: readonly string[],
  w: NativeVector,
  options: PassOptions,
): Promise<Float32Array> {
  const [core, change] = (await rowsPass(
    engine,
    {
      phase: 'evaluate',
      program: { quantity: 'evaluateJvp', dtype: 'float32', parameters },
      data,
      options,
      needLabels: false,
      tangents: w,
      inputs: () => ({}),
    },
    2,
  )) as [Float32Array, Float32Array]
  for (let i = 0; i < core.length; i++) core[i] += change[i]
  return core
}
