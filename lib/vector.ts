// ParameterVector: a vector in a model's parameter space, kept natively; one entry a parameter.
import { PalimpsestError } from './errors.js'
import { invalid } from './options.js'
import { native, type DType, type LayoutEntry, type NativeVector } from './native.js'

/**
 * A vector with the shapes of a model's parameters: a gradient, a tangent, a direction, weights.
 *
 * Arithmetic is native and queued in call order, so `void v.scale(2); await v.axpy(1, x)` is well defined. Operands must
 * have the same parameters (names and shapes); they may come from different models and have different types.
 * Errors: ERR_INVALID_ARGUMENT for unknown names and foreign layouts, ERR_SHAPE for lengths, ERR_DISPOSED after dispose().
 */
export class ParameterVector {
  /** @internal */
  readonly native: NativeVector
  readonly #entries: Map<string, LayoutEntry>

  /** @internal */
  constructor(vector: NativeVector) {
    this.native = vector
    this.#entries = new Map(vector.layout.map((entry) => [entry.name, entry]))
  }

  /** Names of the parameters, in the model's order. */
  get names(): string[] {
    return [...this.#entries.keys()]
  }

  /** 'float32' or 'float64': how it is stored. */
  get dtype(): DType {
    return this.native.dtype
  }

  /** Number of parameters P, all entries together. */
  get size(): number {
    let size = 0
    for (const entry of this.#entries.values()) size += entry.size
    return size
  }

  get disposed(): boolean {
    return this.native.disposed
  }

  /** Shape of a parameter, ONNX's layout. */
  shape(name: string): number[] {
    return [...this.#entry(name).shape]
  }

  /**
   * A copy of one parameter's values, ONNX layout, rounded to float32 where the vector is float64.
   *
   * Synchronous. After the call that filled the vector was awaited it only copies; while steps that write this vector are
   * still queued it waits for them.
   */
  get(name: string): Float32Array {
    const values = this.native.get(this.#entry(name).name)
    return values instanceof Float32Array ? values : Float32Array.from(values)
  }

  /** As `get`, in float64: exact for either type. */
  getFloat64(name: string): Float64Array {
    const values = this.native.get(this.#entry(name).name)
    return values instanceof Float64Array ? values : Float64Array.from(values)
  }

  /** Replaces one parameter's values; they are copied before the call returns. */
  async set(name: string, values: Float32Array | Float64Array): Promise<this> {
    await this.native.set(this.#entry(name).name, values)
    return this
  }

  /** <this, x>, summed in float64. */
  async dot(x: ParameterVector): Promise<number> {
    return this.native.dot(operand(x))
  }

  /** this += alpha x */
  async axpy(alpha: number, x: ParameterVector): Promise<this> {
    await this.native.axpy(alpha, operand(x))
    return this
  }

  /** this *= alpha */
  async scale(alpha: number): Promise<this> {
    await this.native.scale(alpha)
    return this
  }

  /** The Euclidean norm. */
  async norm(): Promise<number> {
    return Math.sqrt(await this.native.dot(this.native))
  }

  /** this = x, converted to this vector's type. */
  async copyFrom(x: ParameterVector): Promise<this> {
    await this.native.copyFrom(operand(x))
    return this
  }

  /** A copy, of another type where one is asked for. */
  async clone(dtype: DType = this.dtype): Promise<ParameterVector> {
    const copy = this.zeros(dtype)
    await copy.copyFrom(this)
    return copy
  }

  /** A zero vector with the same parameters. */
  zeros(dtype: DType = this.dtype): ParameterVector {
    return new ParameterVector(new (native().Vector)(this.native, dtype))
  }

  /** Frees the memory once no queued step needs it. Idempotent. */
  dispose(): void {
    this.native.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #entry(name: string): LayoutEntry {
    const entry = this.#entries.get(name)
    if (entry === undefined) {
      const known = this.names
      const some = known.slice(0, 8).join(', ') + (known.length > 8 ? `, … (${known.length})` : '')
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `expected the name of a parameter (${some}) for 'name', got '${String(name)}'`,
      )
    }
    return entry
  }
}

function operand(x: unknown): NativeVector {
  if (!(x instanceof ParameterVector)) throw invalid('x', 'a ParameterVector', x)
  return x.native
}

/** The vector as it is now, in that type; ERR_INVALID_ARGUMENT where a value is not finite (in float64: its square). @internal */
export async function finiteCopy(v: ParameterVector, dtype: DType, name: string): Promise<ParameterVector> {
  const copy = await v.clone(dtype)
  if (Number.isFinite(await copy.dot(copy))) return copy
  copy.dispose()
  throw new PalimpsestError('ERR_INVALID_ARGUMENT', `expected finite values for '${name}', got NaN or infinite ones`)
}
