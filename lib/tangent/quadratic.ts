// The quadratic problem of a tangent model over a dataset: its gradient, curvature products and sketch.
//
//   L(w) = 1/(2n) sum_i |f_core(x_i) + J_i w - target_i|^2 + mu/2 |w|^2        (Golatkar et al. 2021, eq. 8)
//   grad L(w) = (1/n) sum J_i^T (f_core(x_i) + J_i w - target_i) + mu w,  H = (1/n) sum J_i^T J_i + mu I
import { RandomStream, streams } from '../philox.js'
import type { Dataset } from '../dataset.js'
import { runPass, rowsPass, type Engine } from '../model/products.js'
import { runSteps, slices, type PassOptions, type Slice } from '../model/passes.js'
import { native, type DType, type FloatArray, type NativeLowRank, type NativeVector } from '../native.js'

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
}

/** A gradient with what its rounding allowance needs. */
export interface ResidualMeasure {
  /** (1/n) sum over micro-batches of |batch gradient|, certificates.md's allowance. */
  batchNorms: number
  /** Mean of |f + J w - target|^2 / 2 over the rows. */
  loss: number
}

export class QuadraticProblem {
  readonly #options: QuadraticOptions
  /** Passes over the rows so far, by type. */
  readonly passes = { float32: 0, float64: 0 }
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

  /** gradient := grad L(w), in w's type. */
  async gradient(w: NativeVector, gradient: NativeVector, options: PassOptions): Promise<ResidualMeasure> {
    const { engine, data, parameters, damping, targetScale } = this.#options
    const batch = this.vector(w.dtype)
    const norms: Promise<number>[] = []
    let loss = 0
    try {
      await gradient.fill(0)
      await runPass(engine, {
        phase: w.dtype === 'float64' ? 'verify' : 'gradient',
        program: { quantity: 'linearGradient', loss: 'squaredError', dtype: w.dtype, parameters },
        data,
        options,
        needLabels: true,
        tangents: w,
        sums: batch,
        fresh: true,
        inputs: (slice) => ({
          weights: 1 / this.rows,
          targets: targetsOf(slice.labels as Int32Array, engine.classes, targetScale, w.dtype),
        }),
        queued: () => {
          norms.push(batch.dot(batch))
          void gradient.axpy(1, batch)
        },
        collect: ([, residual]) => {
          for (let i = 0; i < residual.length; i++) loss += (residual[i] * residual[i]) / 2
        },
      })
      await gradient.axpy(damping, w)
      this.passes[w.dtype] += 1
      const squares = await Promise.all(norms)
      return { batchNorms: squares.reduce((sum, square) => sum + Math.sqrt(square), 0), loss: loss / this.rows }
    } catch (error) {
      await Promise.allSettled(norms)
      throw error
    } finally {
      batch.dispose()
    }
  }

  /** An estimate of |J|_F / sqrt(n), J the Jacobians of all rows, by one probe of signs (Hutchinson 1990). */
  async jacobianSize(options: PassOptions): Promise<number> {
    if (this.#jacobianSize === undefined) {
      const z = this.vector('float32')
      try {
        await setSigns(z, this.parameters, 0)
        this.#jacobianSize = Math.sqrt(await this.meanSquare(z, options))
      } finally {
        z.dispose()
      }
    }
    return this.#jacobianSize
  }

  /** product := H v, in float32. */
  async product(v: NativeVector, product: NativeVector, options: PassOptions): Promise<void> {
    const { engine, data, parameters, damping } = this.#options
    await runPass(engine, {
      phase: 'product',
      program: { quantity: 'ggnProduct', loss: 'squaredError', dtype: v.dtype, parameters },
      data,
      options,
      needLabels: false,
      tangents: v,
      sums: product,
      inputs: () => ({ weights: 1 / this.rows }),
    })
    this.passes[v.dtype] += 1
    await product.axpy(damping, v)
  }

  /** (1/n) sum |J_i y|^2, in y's type, summed in float64. */
  async meanSquare(y: NativeVector, options: PassOptions): Promise<number> {
    const { engine, data, parameters } = this.#options
    let sum = 0
    await runPass(engine, {
      phase: 'verify',
      program: { quantity: 'jvp', dtype: y.dtype, parameters },
      data,
      options,
      needLabels: false,
      tangents: y,
      inputs: () => ({}),
      collect: ([rows]) => {
        for (let i = 0; i < rows.length; i++) sum += rows[i] * rows[i]
      },
    })
    this.passes[y.dtype] += 1
    return sum / this.rows
  }

  /** r rows J_i^T e, float32, of r examples drawn by `seed`, e independent random signs; without a factor yet. */
  async sketch(r: number, seed: number, options: PassOptions): Promise<NativeLowRank> {
    const { engine, data, parameters } = this.#options
    const row = this.vector('float32')
    const lowRank = new (native().LowRank)(row, parameters, r, r)
    const picked = data.subset(drawPositions(r, this.rows, seed))
    const random = new RandomStream(seed, streams.user, 1)
    try {
      const program = await engine.programs.get({ quantity: 'vjp', dtype: 'float32', parameters, batch: 1 })
      const weights = await engine.weights('float32')
      const width = engine.inputShape.reduce((a, b) => a * b, 1)
      const step = async (slice: Slice): Promise<number> => {
        const cotangents = new Float32Array(engine.classes).map(() => (random.next() & 1 ? 1 : -1))
        const call = { rows: 1, inputs: slice.inputs, parameters: weights, cotangents, sums: row, outputs: false }
        await Promise.all([program.run(call), lowRank.append(row)])
        return 1
      }
      await runSteps(slices(picked, width, 1), step, r, 'sketch', options)
      this.passes.float32 += r / this.rows
      return lowRank
    } catch (error) {
      lowRank.dispose()
      throw error
    } finally {
      picked.dispose()
      row.dispose()
    }
  }
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
