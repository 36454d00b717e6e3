// TangentModel: a network linearised at a frozen core, whose user weights can be solved for and forgotten from.
import { preparationOf } from './data/table.js'
import { Dataset } from './dataset.js'
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { readPassOptions } from './model/options.js'
import { checkData, withHeld, type Data, type Held } from './model/held_data.js'
import type { PassOptions } from './model/passes.js'
import { readBytes, writeFileAtomically } from './model/files.js'
import { evaluate, largest } from './model/products.js'
import { native, type NativeVector } from './native.js'
import { check, invalid, is, number, optional, readOptions, withDefault } from './options.js'
import { exportTangent } from './tangent/export.js'
import { coreDigest, findRows, readTangent, writeTangent } from './tangent/file.js'
import { findHead, HeadRows, type Head } from './tangent/head.js'
import type { Release } from './tangent/ledger.js'
import { tangentOutputs } from './tangent/quadratic.js'
import { ParameterVector } from './vector.js'

export interface TangentOptions {
  /** Which parameters are linearised: 'all' (default), 'head' (the last linear layer, in closed form), or names. */
  layers?: 'all' | 'head' | readonly string[]
  /** mu on the mean loss, default 1. */
  damping?: number
  /**
   * alpha: the target of the right class, 0 for the others; default 15 (Achille et al. 2021, LQF). Over a core that was
   * trained with cross-entropy 1 loses ten points of accuracy and more; over one trained with squared error 1 is right.
   */
  targetScale?: number
  /** Rows that never have to be forgotten: noise: 'auto' is sized on them. */
  publicData?: Dataset
}

/** What a TangentModel holds at one moment; verbs replace it as a whole. @internal */
export interface TangentState {
  /** User weights w, float64; zero outside the linearised parameters. */
  w: NativeVector
  /** The same rounded to float32. */
  served: NativeVector
  /** The rows that w was fitted to; undefined before fit. */
  data: Dataset | undefined
  /** Their digests, in order. */
  digests: readonly string[]
  /** Without `data`, of a loaded model: how its rows become inputs. */
  preparation?: string
  /** layers: 'head': features and sums. */
  head: HeadRows | undefined
  ledger: readonly Release[]
  /** True where w is zero: the outputs are the core's. */
  untouched?: boolean
}

const rowsOption = optional(check('a Dataset', (v): v is Dataset => v instanceof Dataset))
const options = {
  layers: withDefault(
    check("'all', 'head' or a list of parameter names", (v): v is NonNullable<TangentOptions['layers']> => {
      return v === 'all' || v === 'head' || (Array.isArray(v) && v.length > 0 && v.every(is.string))
    }),
    'all',
  ),
  damping: withDefault(number({ above: 0 }), 1),
  targetScale: withDefault(number({ above: 0 }), 15),
  publicData: rowsOption,
}

/**
 * f(x) = f_core(x) + J(x) w, J the Jacobian of the core's logits in the linearised parameters (Golatkar et al. 2021,
 * eq. 5). w = 0 gives the core bit for bit. The core must stay as it is: a changed or disposed one is an error.
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_UNSUPPORTED for 'head' where there is no last linear layer, ERR_DISPOSED.
 */
export class TangentModel {
  readonly core: Model
  readonly layers: 'all' | 'head' | readonly string[]
  /** Names of the linearised parameters. */
  readonly parameters: readonly string[]
  readonly damping: number
  readonly targetScale: number
  readonly publicData: Dataset | undefined
  /** @internal */
  readonly head: Head | undefined
  readonly #coreRevision: number
  #state: TangentState
  #busy = false
  /** Evaluations that still read vectors of this state or an earlier one. */
  #reading = 0
  #retired: (() => void)[] = []
  #disposed = false

  private constructor(
    core: Model,
    options: Required<Pick<TangentOptions, 'layers' | 'damping' | 'targetScale'>>,
    publicData?: Dataset,
  ) {
    this.core = core
    this.layers = typeof options.layers === 'string' ? options.layers : [...options.layers]
    this.damping = options.damping
    this.targetScale = options.targetScale
    this.publicData = publicData
    this.head = options.layers === 'head' ? findHead(core.description) : undefined
    this.parameters = chooseParameters(core, options.layers, this.head)
    this.#coreRevision = core.revision
    this.#state = { ...this.newVectors(), data: undefined, digests: [], head: undefined, ledger: [], untouched: true }
  }

  /** Linearises a network at its present weights; the user weights are zero. */
  static at(core: Model, given: TangentOptions = {}): TangentModel {
    if (!(core instanceof Model)) throw invalid('core', 'a Model', core)
    const { layers, damping, targetScale, publicData } = readOptions(given, options, 'TangentModel.at()')
    if (core.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a core in use, got one that was disposed')
    if (publicData !== undefined) checkData(publicData, core.engine, false)
    return new TangentModel(core, { layers, damping, targetScale }, publicData)
  }

  get inputShape(): number[] {
    return this.core.inputShape
  }

  get classes(): number {
    return this.core.classes
  }

  get device(): string {
    return this.core.device
  }

  /** The rows that the user weights were fitted to and that were not forgotten since; undefined before fit. */
  get data(): Dataset | undefined {
    return this.state.data
  }

  /** Every release of these weights: its noise, target and what it guarantees. Nothing in it depends on forgotten rows. */
  get ledger(): Release[] {
    return structuredClone(this.state.ledger) as Release[]
  }

  /** A copy of the user weights w. */
  async weights(): Promise<ParameterVector> {
    const copy = new ParameterVector(new (native().Vector)(this.core.engine.network, 'float64'))
    await copy.native.copyFrom(this.state.w)
    return copy
  }

  /** f_core(x) + J(x) w, [N, K]. */
  async evaluate(data: Data, options: PassOptions = {}): Promise<Float32Array> {
    const { state } = this
    const read = readPassOptions(options, 'evaluate()')
    return withHeld(data, this.core.engine, false, (held) => this.#outputs(held, state, read))
  }

  async #outputs(held: Held, { served, untouched }: TangentState, read: PassOptions): Promise<Float32Array> {
    if (untouched === true) return (await evaluate(this.core.engine, held, read)) as Float32Array
    this.#reading++
    try {
      return await tangentOutputs(this.core.engine, held, this.parameters, served, read)
    } finally {
      if (--this.#reading === 0) for (const free of this.#retired.splice(0)) free()
    }
  }

  /** Mean squared loss 1/2 |f - target|^2 and accuracy. */
  async measure(data: Data, options: PassOptions = {}): Promise<{ loss: number; accuracy: number }> {
    const { state } = this
    const read = readPassOptions(options, 'measure()')
    return withHeld(data, this.core.engine, true, (held) => this.#measure(held, state, read))
  }

  async #measure(held: Held, state: TangentState, read: PassOptions): Promise<{ loss: number; accuracy: number }> {
    const outputs = await this.#outputs(held, state, read)
    const { size: rows } = held
    const labels = held.labels as Int32Array
    const k = this.classes
    let loss = 0
    let right = 0
    for (let i = 0; i < rows; i++) {
      right += Number(largest(outputs, i * k, k) === labels[i])
      for (let c = 0; c < k; c++) loss += (outputs[i * k + c] - (c === labels[i] ? this.targetScale : 0)) ** 2 / 2
    }
    return { loss: loss / rows, accuracy: right / rows }
  }

  /**
   * The model as one plain ONNX graph whose output is f_core(x) + J(x) w: with layers: 'head' the core's own graph with w
   * added to its weights, otherwise the linearised graph, primal and tangent streams side by side. Written to `path`
   * (whole or not at all) where one is given.
   */
  async exportOnnx(path?: string): Promise<Uint8Array> {
    const bytes = await exportTangent(this)
    if (path !== undefined) await writeFileAtomically(path, bytes)
    return bytes
  }

  /**
   * Saves the released weights, the digests of the rows they are fitted to and the public ledger, as safetensors. Measured
   * values (residuals, nats of this instance, iterations) are never written.
   */
  async save(path: string): Promise<void> {
    await writeFileAtomically(path, await writeTangent(this))
  }

  /**
   * Loads what `save` wrote, at the same core. With `data` (any dataset that holds the fitted rows) requests can follow.
   *
   * Errors: ERR_MODEL_FORMAT, ERR_INVALID_ARGUMENT for another core or rows that are prepared otherwise, ERR_NOT_FITTED where
   * `data` lacks fitted rows, or has more rows like one of them that other owners or ids tell apart, ERR_IO.
   */
  static async load(
    source: string | URL | Uint8Array,
    core: Model,
    given: { data?: Dataset; publicData?: Dataset } = {},
  ): Promise<TangentModel> {
    const { publicData, data } = readOptions(given, { data: rowsOption, publicData: rowsOption }, 'TangentModel.load()')
    const { header, weights } = readTangent(await readBytes(source))
    const { layers, damping, targetScale } = header
    const model = TangentModel.at(core, { layers, damping, targetScale, ...(publicData && { publicData }) })
    try {
      if ((await coreDigest(core)) !== header.core) {
        throw new PalimpsestError(
          'ERR_INVALID_ARGUMENT',
          "expected the core that the weights were fitted at for 'core', got one with another graph, weights or statistics",
        )
      }
      if (Object.keys(weights).sort().join() !== [...model.parameters].sort().join()) {
        throw new PalimpsestError(
          'ERR_MODEL_FORMAT',
          `expected weights of ${model.parameters.join(', ')}, got ${Object.keys(weights).join(', ') || 'none'}`,
        )
      }
      const { rows: digests, ledger, preparation } = header
      if (data && digests.length > 0 && preparationOf(data.table) !== preparation) {
        const what = 'rows of the type and shape that the weights were fitted to, normalised by the same numbers,'
        throw new PalimpsestError('ERR_INVALID_ARGUMENT', `expected ${what} for 'data', got others`)
      }
      const state = { ...model.newVectors(), digests, ledger, ...(preparation !== undefined && { preparation }) }
      for (const [name, values] of Object.entries(weights)) await state.w.set(name, values)
      await state.served.copyFrom(state.w)
      const rows = data && digests.length > 0 ? await findRows(data, digests) : undefined
      const head = rows && model.head ? await HeadRows.of(core.engine, model.head, rows, targetScale, {}) : undefined
      model.swap({ ...state, data: rows, head })
      return model
    } catch (error) {
      model.dispose()
      throw error
    }
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees the user weights; the core stays. Idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#free(this.#state)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  /** @internal */
  get state(): TangentState {
    if (this.#disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
    if (this.core.disposed)
      throw new PalimpsestError('ERR_DISPOSED', 'expected a core in use, got one that was disposed')
    if (this.core.revision !== this.#coreRevision) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        'expected the core as it was linearised, got one whose weights changed',
      )
    }
    return this.#state
  }

  /** Zero weights in both types. @internal */
  newVectors(): { w: NativeVector; served: NativeVector } {
    const { Vector } = native()
    const { network } = this.core.engine
    return { w: new Vector(network, 'float64'), served: new Vector(network, 'float32') }
  }

  /** Runs a verb alone on this model. @internal */
  async exclusively<T>(verb: string, work: (state: TangentState) => Promise<T>): Promise<T> {
    const state = this.state
    if (this.#busy) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `expected ${verb} after the call before it ended, got two at once on one model`,
      )
    }
    this.#busy = true
    try {
      return await work(state)
    } finally {
      this.#busy = false
    }
  }

  /** Replaces the state in one step and frees what the old one alone held. @internal */
  swap(next: TangentState): void {
    // Throws where model or core was disposed, or the core changed, since the verb began.
    const old = this.state
    this.#state = next
    this.#free(old, next)
  }

  /** Evaluations that began before go on with the weights they began with. */
  #free(old: TangentState, next?: TangentState): void {
    if (old.w !== next?.w) old.w.dispose()
    if (old.head !== next?.head) old.head?.dispose()
    if (old.served === next?.served) return
    if (this.#reading > 0) this.#retired.push(() => old.served.dispose())
    else old.served.dispose()
  }
}

function chooseParameters(core: Model, layers: 'all' | 'head' | readonly string[], head: Head | undefined): string[] {
  const names = core.parameters.map(({ name }) => name)
  if (layers === 'all') return names
  if (layers === 'head') {
    const { weight, bias } = head as Head
    return bias === undefined ? [weight] : [weight, bias]
  }
  const unknown = layers.find((name) => !names.includes(name))
  if (unknown !== undefined)
    throw invalid('layers', `names of parameters (${names.slice(0, 8).join(', ')}, ...)`, unknown)
  if (new Set(layers).size !== layers.length) throw invalid('layers', 'each name once', layers)
  return names.filter((name) => layers.includes(name))
}
