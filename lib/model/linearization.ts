// Linearization: a batch's network held at one point, so that J v, J^T u and GGN products cost no forward pass.
import { PalimpsestError } from '../errors.js'
import { native, type DType, type FloatArray, type Loss, type NativeVector } from '../native.js'
import { invalid } from '../options.js'
import { finiteCopy, ParameterVector } from '../vector.js'
import { LinearizedBatches } from './linearized_batches.js'
import { readLinearizedLossOptions, readPassOptions } from './options.js'
import type { Held } from './held_data.js'
import type { PassOptions } from './passes.js'
import { overflow, type Engine } from './products.js'

export interface LinearizeOptions extends PassOptions {
  /** Most bytes that the linearisation may take; default half of the free memory. */
  memory?: number
  /** 'float32' (default), 'float64', or 'tf32', as of products. */
  precision?: DType | 'tf32'
  /** Names of the parameters that are differentiated; all where left out. */
  parameters?: readonly string[]
}

export interface LinearizedLossOptions extends PassOptions {
  /** 'crossEntropy' (default) or 'squaredError'. */
  loss?: Loss
}

/**
 * A network linearised at the weights it had, on a batch: what does not depend on the tangent or cotangent was computed
 * once and is kept (inputs of convolutions and products, what activations need of theirs, softmax outputs). Several
 * tangents go in one call. The linearisation has its own copy of the weights: it stays at its point when the model moves
 * on, and works on after the model was disposed.
 *
 * Results are those of the model's own products at that point. Errors of every product: ERR_INVALID_ARGUMENT (a tangent of
 * another model, values that are not finite), ERR_SHAPE, ERR_DISPOSED, and the reason of an aborted signal.
 */
export class Linearization {
  /** Rows of the batch, N. */
  readonly rows: number
  /** Number of outputs, K. */
  readonly classes: number
  /** 'float32', 'tf32' or 'float64': what it was computed in. */
  readonly precision: DType | 'tf32'
  readonly #batches: LinearizedBatches
  readonly #weights: ParameterVector
  #disposed = false

  private constructor(batches: LinearizedBatches, weights: ParameterVector, precision: DType | 'tf32') {
    this.rows = batches.rows
    this.classes = batches.classes
    this.precision = precision
    this.#batches = batches
    this.#weights = weights
  }

  /** `weights` becomes the linearisation's own. @internal */
  static async make(
    engine: Engine,
    data: Held,
    weights: ParameterVector,
    { memory, parameters, precision = 'float32', ...pass }: LinearizeOptions & { memory: number },
  ): Promise<Linearization> {
    const batches = await LinearizedBatches.plan(engine, data, {
      dtype: weights.dtype,
      tf32: precision === 'tf32',
      memory,
      reserved: weights.native.bytes,
      whole: true,
      ...(parameters && { parameters }),
    })
    try {
      await batches.hold(weights.native, 'linearize', pass)
      return new Linearization(batches, weights, precision)
    } catch (error) {
      batches.dispose()
      throw error
    }
  }

  /** Memory that is held: the batch, what products work in, and the weights. 0 after dispose(). */
  get bytes(): number {
    return this.#disposed ? 0 : this.#batches.bytes + this.#weights.native.bytes
  }

  /** J v: [N, K], the change of each logit along v; an array of them for an array of tangents. */
  async jvp(v: ParameterVector, options?: PassOptions): Promise<FloatArray>
  async jvp(v: readonly ParameterVector[], options?: PassOptions): Promise<FloatArray[]>
  async jvp(
    v: ParameterVector | readonly ParameterVector[],
    options: PassOptions = {},
  ): Promise<FloatArray | FloatArray[]> {
    this.#check()
    const read = readPassOptions(options, 'jvp()')
    const results = await this.#withTangents(v, async (tangents) => {
      const ArrayType = this.precision === 'float64' ? Float64Array : Float32Array
      const whole = tangents.map(() => new ArrayType(this.rows * this.classes))
      await this.#batches.sweepHeld('jvp', read, async (held, slot, { start }) => {
        const parts = await held.jvp({ slot, tangents })
        parts.forEach((part, i) => whole[i].set(part, start * this.classes))
      })
      for (const values of whole) {
        const wrong = values.findIndex((value) => !Number.isFinite(value))
        if (wrong >= 0) throw overflow('jvp', values[wrong], `row ${Math.floor(wrong / this.classes)}`)
      }
      return whole
    })
    return isList(v) ? results : results[0]
  }

  /** J^T u, summed over the rows; `cotangent` is u [N, K]. An array of vectors for an array of cotangents. */
  async vjp(cotangent: FloatArray, options?: PassOptions): Promise<ParameterVector>
  async vjp(cotangent: readonly FloatArray[], options?: PassOptions): Promise<ParameterVector[]>
  async vjp(
    cotangent: FloatArray | readonly FloatArray[],
    options: PassOptions = {},
  ): Promise<ParameterVector | ParameterVector[]> {
    this.#check()
    const read = readPassOptions(options, 'vjp()')
    const list = isList(cotangent) ? cotangent : [cotangent]
    if (list.length === 0) throw invalid('cotangent', 'one cotangent or more', 'an empty list')
    const k = this.classes
    const copies = list.map((u) => heldCotangent(u, this.rows, k))
    const results = await this.#intoSums(copies.length, (sums) =>
      this.#batches.sweepHeld('vjp', read, async (held, slot, { start, rows }) => {
        const cotangents = copies.map((u) => u.subarray(start * k, (start + rows) * k))
        await held.vjp({ slot, cotangents, sums, accumulate: slot > 0 })
      }),
    )
    return isList(cotangent) ? results : results[0]
  }

  /**
   * Generalised Gauss-Newton matrix times v: mean over the rows of J^T H J v, H the loss's Hessian at the logits
   * (Schraudolph 2002). An array of vectors for an array of tangents.
   */
  async ggnProduct(v: ParameterVector, options?: LinearizedLossOptions): Promise<ParameterVector>
  async ggnProduct(v: readonly ParameterVector[], options?: LinearizedLossOptions): Promise<ParameterVector[]>
  async ggnProduct(
    v: ParameterVector | readonly ParameterVector[],
    options: LinearizedLossOptions = {},
  ): Promise<ParameterVector | ParameterVector[]> {
    this.#check()
    const { loss = 'crossEntropy', ...read } = readLinearizedLossOptions(options, 'ggnProduct()')
    const results = await this.#withTangents(v, (tangents) =>
      this.#intoSums(tangents.length, (sums) =>
        this.#batches.sweepHeld('ggnProduct', read, (held, slot) =>
          held.ggnProduct({ slot, loss, weight: 1 / this.rows, tangents, sums, accumulate: slot > 0 }),
        ),
      ),
    )
    return isList(v) ? results : results[0]
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees what is held once no step needs it. Idempotent; later use is ERR_DISPOSED. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#batches.dispose()
    this.#weights.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #check(): void {
    if (this.#disposed) {
      throw new PalimpsestError('ERR_DISPOSED', 'expected a linearization in use, got one that was disposed')
    }
  }

  /** Copies of the tangents as they are now, in the type that the linearisation works in. */
  async #withTangents<T>(
    given: ParameterVector | readonly ParameterVector[],
    work: (tangents: NativeVector[]) => Promise<T>,
  ): Promise<T> {
    const list = isList(given) ? given : [given]
    if (list.length === 0) throw invalid('v', 'one tangent or more', 'an empty list')
    for (const v of list) if (!(v instanceof ParameterVector)) throw invalid('v', 'a ParameterVector', v)
    const copied = await Promise.allSettled(list.map((v) => finiteCopy(v, this.#weights.dtype, 'v')))
    try {
      const copies = copied.map((copy) => {
        if (copy.status === 'rejected') throw copy.reason
        return copy.value.native
      })
      return await work(copies)
    } finally {
      for (const copy of copied) if (copy.status === 'fulfilled') copy.value.dispose()
    }
  }

  /** Disposes the results where the work fails. */
  async #intoSums(count: number, work: (sums: NativeVector[]) => Promise<unknown>): Promise<ParameterVector[]> {
    const { Vector } = native()
    const sums = Array.from({ length: count }, () => new Vector(this.#weights.native, this.#weights.dtype))
    try {
      await work(sums)
      const squares = await Promise.all(sums.map((sum) => sum.dot(sum)))
      const wrong = squares.find((square) => !Number.isFinite(square))
      if (wrong !== undefined) throw overflow('product', wrong, 'its sum of squares')
      return sums.map((sum) => new ParameterVector(sum))
    } catch (error) {
      for (const sum of sums) sum.dispose()
      throw error
    }
  }
}

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value)
}

/** A copy of a cotangent [N, K] as it is now. Throws ERR_SHAPE or ERR_INVALID_ARGUMENT. @internal */
export function heldCotangent(cotangent: FloatArray, rows: number, classes: number): FloatArray {
  if (!(cotangent instanceof Float32Array || cotangent instanceof Float64Array)) {
    throw invalid('cotangent', 'a Float32Array or Float64Array', cotangent)
  }
  if (cotangent.length !== rows * classes) {
    throw new PalimpsestError(
      'ERR_SHAPE',
      `expected a cotangent of ${rows} x ${classes} values, got ${cotangent.length}`,
    )
  }
  const u = cotangent.slice()
  const wrong = u.findIndex((value) => !Number.isFinite(value))
  if (wrong >= 0) throw invalid('cotangent', 'finite values', u[wrong])
  return u
}
