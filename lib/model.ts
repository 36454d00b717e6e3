// Model: a trained network on a device, its weights, and the products of its curvature.
import { PalimpsestError } from './errors.js'
import { fisherDiagonal, type FisherOptions } from './model/fisher.js'
import {
  evaluate,
  jvp,
  lossProduct,
  measureLoss,
  vjp,
  dtypeOf,
  type Engine,
  type LossOptions,
  type ProductOptions,
} from './model/products.js'
import { heldCotangent, Linearization, type LinearizeOptions } from './model/linearization.js'
import { withHeld, type Data, type Held } from './model/held_data.js'
import { checkSignal } from './model/passes.js'
import {
  cloneOptions,
  deviceOption,
  headOptions,
  importOptions,
  readFisherOptions,
  readLinearizeOptions,
  readLossOptions,
  readProductOptions,
  vectorOptions,
} from './model/options.js'
import { findLastLayer, freshLastLayer, withOutputs } from './model/last_layer.js'
import { Programs } from './model/programs.js'
import { readBytes, writeFileAtomically } from './model/files.js'
import { chooseDevice } from './devices.js'
import { memoryShare, native, type DType, type FloatArray, type NativeVector } from './native.js'
import { requireVariance, variancesOf, type NetworkDescription, type TensorMap } from './network.js'
import {
  exportNetwork,
  exportOnnx,
  fileOptions,
  importOnnx,
  type ExportOptions,
  type ImportOptions,
  type OnnxModel,
} from './onnx/index.js'
import { integer, invalid, readOptions } from './options.js'
import { readSafetensors, writeSafetensors } from './safetensors.js'
import { finiteCopy, ParameterVector } from './vector.js'

/** A network with its weights, as the importer or a builder made it. */
export interface NetworkSource {
  network: NetworkDescription
  parameters: TensorMap
}

export interface ModelOptions {
  /** 'auto' (default) takes the best device there is; others throw ERR_DEVICE where they cannot be had. */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
}

export interface LoadOptions extends ModelOptions, ImportOptions {}

/** Something that was done to a model and that its weights do not show: a method of scrub(), or codes learned by fit(). */
export type HistoryEntry =
  | { verb: 'scrub'; method: string }
  /** `codes`: their digest. */
  | { verb: 'fit'; codes: string }

/** What the ONNX file has besides weights. */
interface Origin {
  deviceReason: string
  onnx?: OnnxModel
  endsIn: 'Softmax' | 'LogSoftmax' | null
  leftOut: readonly { name: string; reason: string }[]
  /** Where the network came from a file and was changed since: what exports keep of the file. */
  file?: ExportOptions
}

/**
 * A network on a device. Products run off the event loop, in fixed micro-batches, and repeat bit for bit on one machine
 * and thread count. Batch normalisation uses its running statistics. A call that is aborted or fails changes nothing.
 *
 * Errors of every product: ERR_SHAPE and ERR_INVALID_ARGUMENT for data that do not fit, ERR_OUT_OF_MEMORY,
 * ERR_DISPOSED, and the reason of an aborted signal.
 */
export class Model {
  #engine: Engine
  #description: NetworkDescription
  #weights: ParameterVector
  #origin: Origin
  #history: readonly HistoryEntry[] = []
  #wide: NativeVector | undefined
  #wideVersion = -1
  #version = 0
  #statisticsRevision = 0
  #disposed = false

  private constructor(source: NetworkSource, device: string, origin: Origin) {
    this.#description = source.network
    this.#origin = origin
    const network = new (native().Network)(source.network, device)
    const constants = source.network.leaves.filter((leaf) => leaf.kind === 'constant')
    for (const i of variancesOf(source.network)) requireVariance(constants[i].name ?? '', constants[i].data)
    const values: Record<string, FloatArray> = {}
    for (const { name } of network.layout) {
      const tensor = source.parameters.get(name)
      if (tensor === undefined)
        throw new PalimpsestError('ERR_MODEL_FORMAT', `expected weights for parameter '${name}'`)
      const wrong = tensor.data.findIndex((value) => !Number.isFinite(value))
      if (wrong >= 0) {
        throw new PalimpsestError(
          'ERR_MODEL_FORMAT',
          `expected finite weights, got ${tensor.data[wrong]} at position ${wrong} of '${name}'`,
        )
      }
      values[name] = tensor.data
    }
    this.#weights = new ParameterVector(new (native().Vector)(network, 'float32', values))
    this.#engine = {
      network,
      programs: new Programs(network),
      inputShape: source.network.inputShape,
      classes: source.network.classes,
      weights: (dtype) => this.#weightsIn(dtype),
    }
  }

  /**
   * Loads an ONNX classifier (opset 13 to 21) from a path, URL or bytes; external data only from beside the file.
   *
   * Errors: ERR_MODEL_FORMAT, ERR_UNSUPPORTED_OPERATOR (naming node and operator), ERR_SHAPE where the output is not
   * [N, K], ERR_IO, ERR_DEVICE.
   */
  static async load(source: string | URL | Uint8Array, options: LoadOptions = {}): Promise<Model> {
    const read = readOptions(options, { device: deviceOption, ...importOptions }, 'Model.load()')
    const { device, ...rest } = read
    const known = Object.entries(rest).filter(([, value]) => value !== undefined)
    const onnx = await importOnnx(source, Object.fromEntries(known))
    const { name, why } = chooseDevice(device)
    return new Model(onnx, name, { onnx, endsIn: onnx.endsIn, leftOut: onnx.leftOut, deviceReason: why })
  }

  /** From a network that was built, e.g. `networks.lenet({ seed: 1 })`. */
  static fromNetwork(source: NetworkSource, options: ModelOptions = {}): Model {
    if (source?.network === undefined || !(source.parameters instanceof Map)) {
      throw invalid('source', 'a built network, { network, parameters }', source)
    }
    const { device } = readOptions(options, { device: deviceOption }, 'Model.fromNetwork()')
    const { name, why } = chooseDevice(device)
    return new Model(source, name, { endsIn: null, leftOut: [], deviceReason: why })
  }

  /** @internal */
  get engine(): Engine {
    return this.#engine
  }

  /** @internal */
  get description(): NetworkDescription {
    return this.#description
  }

  /** Shape of one input, without the batch axis. */
  get inputShape(): number[] {
    return [...this.description.inputShape]
  }

  /** K, the number of outputs. */
  get classes(): number {
    return this.description.classes
  }

  /** 'cpu', or which GPU. */
  get device(): string {
    return this.engine.network.device
  }

  /** Why this device: with 'auto' what was passed over, and why it cannot be used. */
  get deviceReason(): string {
    return this.#origin.deviceReason
  }

  /** The parameters, in the order of a ParameterVector; shapes in ONNX layout. */
  get parameters(): { name: string; shape: number[] }[] {
    return this.engine.network.layout.map(({ name, shape }) => ({ name, shape: [...shape] }))
  }

  /** Initializers that are not parameters, and why. */
  get leftOut(): { name: string; reason: string }[] {
    return this.#origin.leftOut.map((entry) => ({ ...entry }))
  }

  /** What the network ends in after the logits; exports keep it, losses and products use the logits before it. */
  get endsIn(): 'Softmax' | 'LogSoftmax' | null {
    return this.#origin.endsIn
  }

  /** Methods of scrub() and codes that the model went through, oldest first; `save` keeps them, ONNX files do not. */
  get history(): HistoryEntry[] {
    return this.#history.map((entry) => ({ ...entry }))
  }

  /** Methods of scrub() among them. @internal */
  get scrubs(): string[] {
    return this.#history.flatMap((entry) => (entry.verb === 'scrub' ? [entry.method] : []))
  }

  /** Adds to the history. @internal */
  record(entry: HistoryEntry): void {
    this.#history = [...this.#history, entry]
  }

  /** Counts changes of weights and running statistics. @internal */
  get revision(): number {
    return this.#version
  }

  /** Replaces running statistics (named constants) by position in the network's list. @internal */
  async setStatistics(values: ReadonlyMap<number, Float32Array>): Promise<void> {
    this.#check()
    this.#version++
    if (values.size > 0) this.#statisticsRevision++
    await Promise.all([...values].map(([index, data]) => this.engine.network.setConstant(index, data)))
  }

  /** Replaces weights and running statistics in one step; the caller has checked that they are finite. @internal */
  async replace(weights: NativeVector, statistics: ReadonlyMap<number, Float32Array>): Promise<void> {
    this.#check()
    // Queued together: no step of another call lies between.
    await Promise.all([this.#weights.native.copyFrom(weights), this.setStatistics(statistics)])
  }

  /**
   * Takes over the network and weights of another model, whatever its architecture, in one step; that one is disposed.
   * The caller has checked that its weights are finite. @internal
   */
  adopt(other: Model, entries: readonly HistoryEntry[]): void {
    this.#check()
    other.#check()
    const [engine, weights, wide] = [this.#engine, this.#weights, this.#wide]
    this.#engine = { ...other.#engine, weights: (dtype) => this.#weightsIn(dtype) }
    this.#description = other.#description
    this.#weights = other.#weights
    this.#origin = other.#origin
    this.#history = [...this.#history, ...entries]
    this.#wide = undefined
    this.#version++
    other.#disposed = true
    other.#wide?.dispose()
    wide?.dispose()
    weights.dispose()
    engine.programs.dispose()
    engine.network.dispose()
  }

  /** A copy of the weights. */
  async weights(dtype: DType = 'float32'): Promise<ParameterVector> {
    this.#check()
    return this.#weights.clone(dtype)
  }

  /** Replaces the weights in one step. ERR_INVALID_ARGUMENT for a vector of another model, or one that is not finite. */
  async setWeights(weights: ParameterVector): Promise<void> {
    this.#check()
    if (!(weights instanceof ParameterVector)) throw invalid('weights', 'a ParameterVector', weights)
    const narrow = await finiteCopy(weights, 'float32', 'weights')
    try {
      this.#check()
      const copied = this.#weights.native.copyFrom(narrow.native)
      // Counted as soon as it is queued: no later call takes the old weights for these.
      this.#version++
      await copied
    } finally {
      narrow.dispose()
    }
  }

  /** A vector with the shapes of the parameters: the values given by name, zeros elsewhere. */
  vector(values: Readonly<Record<string, FloatArray>> = {}, options: { dtype?: DType } = {}): ParameterVector {
    this.#check()
    const { dtype } = readOptions(options, vectorOptions, 'vector()')
    return new ParameterVector(new (native().Vector)(this.engine.network, dtype, values))
  }

  /** Logits [N, K]. */
  async evaluate(data: Data, options: ProductOptions = {}): Promise<FloatArray> {
    this.#check()
    const read = readProductOptions(options, 'evaluate()')
    return withHeld(data, this.engine, false, (held) => evaluate(this.#steady(), held, read))
  }

  /** J v: [N, K], the change of each logit along the tangent v. */
  async jvp(data: Data, v: ParameterVector, options: ProductOptions = {}): Promise<FloatArray> {
    this.#check()
    const read = readProductOptions(options, 'jvp()')
    return withHeld(data, this.engine, false, (held) =>
      this.#withTangent(v, read, (tangent) => jvp(this.#steady(), held, tangent, read)),
    )
  }

  /** J^T u, summed over the rows; `cotangent` is u [N, K]. */
  async vjp(data: Data, cotangent: FloatArray, options: ProductOptions = {}): Promise<ParameterVector> {
    this.#check()
    const read = readProductOptions(options, 'vjp()')
    return withHeld(data, this.engine, false, async (held) => {
      const u = heldCotangent(cotangent, held.size, this.classes)
      return new ParameterVector(await vjp(this.#steady(), held, u, read))
    })
  }

  /** Gradient of the mean loss. */
  async gradient(data: Data, options: LossOptions = {}): Promise<ParameterVector> {
    this.#check()
    const read = readLossOptions(options, 'gradient()')
    return withHeld(
      data,
      this.engine,
      true,
      async (held) => new ParameterVector(await lossProduct(this.#steady(), 'gradient', held, undefined, read)),
    )
  }

  /** Generalised Gauss-Newton matrix times v: mean of J^T H J v, H the loss's Hessian at the logits (Schraudolph 2002). */
  async ggnProduct(data: Data, v: ParameterVector, options: LossOptions = {}): Promise<ParameterVector> {
    return this.#curvatureProduct('ggnProduct', data, v, options)
  }

  /** Hessian of the mean loss times v, exact (Pearlmutter 1994). */
  async hessianProduct(data: Data, v: ParameterVector, options: LossOptions = {}): Promise<ParameterVector> {
    return this.#curvatureProduct('hessianProduct', data, v, options)
  }

  /**
   * The network linearised at its present weights on a batch (or a Dataset): products with many tangents then cost no
   * forward pass. It keeps its own copy of the weights and all of the batch that products need; dispose it.
   *
   * Errors: ERR_OUT_OF_MEMORY where `memory` is too small for the batch, ERR_INVALID_ARGUMENT where running statistics
   * change during the call, and those of every product.
   */
  async linearize(data: Data, options: LinearizeOptions = {}): Promise<Linearization> {
    this.#check()
    const read = readLinearizeOptions(options, 'linearize()')
    checkSignal(read.signal)
    return withHeld(data, this.engine, false, (held) => this.#linearize(held, read))
  }

  async #linearize(held: Held, options: LinearizeOptions): Promise<Linearization> {
    const revision = this.#statisticsRevision
    const { engine } = this
    const weights = await this.#weights.clone(dtypeOf(options))
    try {
      const made = await Linearization.make(engine, held, weights, {
        ...options,
        memory: options.memory ?? (await memoryShare(engine.network.device)),
      })
      if (this.#statisticsRevision === revision) return made
      made.dispose()
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        'expected the running statistics to stay as they are during linearize(), got others',
      )
    } catch (error) {
      weights.dispose()
      throw error
    }
  }

  /** Diagonal of the Fisher matrix of the softmax likelihood: mean over rows of squared per-example gradients. */
  async fisherDiagonal(data: Data, options: FisherOptions = {}): Promise<ParameterVector> {
    this.#check()
    const read = readFisherOptions(options, 'fisherDiagonal()')
    const needLabels = (read.type ?? 'empirical') === 'empirical'
    return withHeld(
      data,
      this.engine,
      needLabels,
      async (held) => new ParameterVector(await fisherDiagonal(this.#steady(), held, read)),
    )
  }

  /** Mean loss and accuracy (share of rows whose largest logit is the label's). */
  async measure(data: Data, options: LossOptions = {}): Promise<{ loss: number; accuracy: number }> {
    this.#check()
    const read = readLossOptions(options, 'measure()')
    return withHeld(data, this.engine, true, (held) => measureLoss(this.#steady(), held, read))
  }

  /**
   * An independent model with the same network and weights, on the same device or on another, which is how a model moves:
   * vectors stay with the model that made them.
   *
   * Errors: ERR_DEVICE where the device cannot be had.
   */
  async clone(options: { device?: ModelOptions['device'] } = {}): Promise<Model> {
    this.#check()
    const { device } = readOptions(options, cloneOptions, 'clone()')
    const { name, why } = device === undefined ? { name: this.device, why: this.deviceReason } : chooseDevice(device)
    const copy = new Model(await this.source(), name, { ...this.#origin, deviceReason: why })
    copy.#history = this.#history
    return copy
  }

  /**
   * A model of the same weights whose last linear layer is a fresh one of `classes` outputs, a function of `seed`: for
   * another task (transfer), or for a probe. It keeps the history.
   *
   * Errors: ERR_UNSUPPORTED where the network ends in something else than a linear layer.
   */
  async withHead(classes: number, options: { seed?: number } = {}): Promise<Model> {
    this.#check()
    integer({ min: 1, max: 2 ** 24 }).read(classes, 'classes')
    const { seed } = readOptions(options, headOptions, 'withHead()')
    const { network, parameters } = await this.source()
    const layer = findLastLayer(network, 'withHead()')
    const fresh = new Map([...parameters, ...freshLastLayer(layer, classes, seed)])
    return this.rebuilt({ network: withOutputs(network, layer, classes), parameters: fresh })
  }

  /**
   * A model of another network that was made from this one: on its device, with its history; an export keeps what the
   * file that this one came from says of itself. @internal
   */
  rebuilt(source: NetworkSource): Model {
    this.#check()
    const { onnx, endsIn, leftOut, deviceReason, file } = this.#origin
    const kept = onnx ? fileOptions(onnx) : file
    const made = new Model(source, this.device, { endsIn, leftOut, deviceReason, ...(kept && { file: kept }) })
    made.#history = this.#history
    return made
  }

  /** Network, constants and weights of one moment. @internal */
  async source(): Promise<NetworkSource> {
    const found = await this.#atOnce(async () => ({
      network: await this.describeConstants(),
      parameters: await this.tensors(),
    }))
    this.#check()
    return found
  }

  /** The network with its constants (running statistics) as they are now. @internal */
  async describeConstants(): Promise<NetworkDescription> {
    let index = 0
    const leaves = []
    for (const leaf of this.description.leaves) {
      if (leaf.kind !== 'constant') leaves.push(leaf)
      else leaves.push({ ...leaf, data: await this.engine.network.getConstant(index++) })
    }
    return { ...this.description, leaves }
  }

  /** The weights by name. @internal */
  async tensors(): Promise<TensorMap> {
    await this.#weights.native.read()
    return new Map(this.parameters.map(({ name, shape }) => [name, { shape, data: this.#weights.get(name) }]))
  }

  /** Named constants, running statistics among them, as they are now. @internal */
  async statistics(): Promise<TensorMap> {
    const found: TensorMap = new Map()
    let index = 0
    for (const { name, shape } of this.engine.network.constants) {
      const data = await this.engine.network.getConstant(index++)
      if (name !== '') found.set(name, { shape, data })
    }
    return found
  }

  /**
   * The model as ONNX bytes, written to `path` (whole or not at all) where one is given. A model that came from ONNX keeps
   * its graph, names and metadata.
   */
  async exportOnnx(path?: string): Promise<Uint8Array> {
    this.#check()
    const bytes = await this.#onnxBytes()
    if (path !== undefined) await writeFileAtomically(path, bytes)
    return bytes
  }

  async #onnxBytes(): Promise<Uint8Array> {
    const { onnx, file } = this.#origin
    if (onnx) return exportOnnx(onnx, await this.#namedTensors())
    const { network, parameters } = await this.source()
    return exportNetwork(network, parameters, undefined, file)
  }

  /** Weights and named constants of one moment. */
  #namedTensors(): Promise<TensorMap> {
    return this.#atOnce(async () => new Map([...(await this.statistics()), ...(await this.tensors())]))
  }

  /** Saves weights and running statistics, and the history, as safetensors. */
  async save(path: string): Promise<void> {
    this.#check()
    const tensors = await this.#namedTensors()
    const done = this.#history
      .map((each) => (each.verb === 'scrub' ? `scrub:${each.method}` : `fit:${each.codes}`))
      .join()
    const metadata = { format: 'palimpsest-weights', ...(done && { history: done }) }
    await writeFileAtomically(path, writeSafetensors(tensors, metadata))
  }

  /** Reads weights (and running statistics, where the file has them) that `save` or PyTorch wrote under the same names. */
  async loadWeights(source: string | URL | Uint8Array): Promise<void> {
    this.#check()
    const bytes = await readBytes(source)
    const { tensors, metadata } = readSafetensors(bytes)
    const history = historyOf(metadata.history)
    const fits = (name: string, shape: readonly number[]) => {
      const tensor = tensors.get(name)
      if (tensor === undefined || tensor.shape.join() !== shape.join()) {
        const got = tensor ? `shape [${tensor.shape.join(', ')}]` : 'none'
        throw new PalimpsestError('ERR_MODEL_FORMAT', `expected '${name}' of shape [${shape.join(', ')}], got ${got}`)
      }
      if (tensor.data.some((value) => !Number.isFinite(value))) {
        throw new PalimpsestError('ERR_MODEL_FORMAT', `expected finite values in '${name}'`)
      }
      return tensor.data
    }
    const values = Object.fromEntries(this.parameters.map(({ name, shape }) => [name, fits(name, shape)]))
    const variances = variancesOf(this.description)
    const constants = this.engine.network.constants.map(({ name, shape }, i) => {
      if (name === '' || !tensors.has(name)) return undefined
      const data = fits(name, shape)
      if (variances.has(i)) requireVariance(name, data)
      return data
    })
    const weights = this.vector(values)
    const statistics = new Map(constants.flatMap((data, i) => (data === undefined ? [] : [[i, data] as const])))
    await this.replace(weights.native, statistics)
    this.#history = history
    weights.dispose()
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees the network, its weights and plans once no step needs them. Idempotent; later use is ERR_DISPOSED. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.engine.programs.dispose()
    this.#wide?.dispose()
    this.#weights.dispose()
    this.engine.network.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #check(): void {
    if (this.#disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  }

  /** The engine for one product, which refuses to go on where weights or statistics are changed between its parts. */
  #steady(): Engine {
    let began: number | undefined
    const steady = (): void => {
      began ??= this.#version
      if (this.#version === began) return
      const what = 'weights and running statistics that stay as they are during a product'
      throw new PalimpsestError('ERR_INVALID_ARGUMENT', `expected ${what}, got others that were set meanwhile`)
    }
    return { ...this.#engine, steady }
  }

  /** What is read of weights and statistics, all of one moment. */
  async #atOnce<T>(read: () => Promise<T>): Promise<T> {
    for (;;) {
      const version = this.#version
      const found = await read()
      if (version === this.#version) return found
    }
  }

  async #weightsIn(dtype: DType): Promise<NativeVector> {
    this.#check()
    if (dtype === 'float32') return this.#weights.native
    this.#wide ??= new (native().Vector)(this.engine.network, 'float64')
    while (this.#wideVersion !== this.#version) {
      const version = this.#version
      await this.#wide.copyFrom(this.#weights.native)
      this.#wideVersion = version
    }
    return this.#wide
  }

  async #curvatureProduct(
    quantity: 'ggnProduct' | 'hessianProduct',
    data: Data,
    v: ParameterVector,
    options: LossOptions,
  ): Promise<ParameterVector> {
    this.#check()
    const read = readLossOptions(options, `${quantity}()`)
    return withHeld(data, this.engine, quantity === 'hessianProduct', (held) =>
      this.#withTangent(
        v,
        read,
        async (tangent) => new ParameterVector(await lossProduct(this.#steady(), quantity, held, tangent, read)),
      ),
    )
  }

  /** A copy of the tangent, as it is now, in the type that the product works in. */
  async #withTangent<T>(
    v: ParameterVector,
    options: ProductOptions,
    work: (v: NativeVector) => Promise<T>,
  ): Promise<T> {
    if (!(v instanceof ParameterVector)) throw invalid('v', 'a ParameterVector', v)
    const copy = await finiteCopy(v, dtypeOf(options), 'v')
    try {
      return await work(copy.native)
    } finally {
      copy.dispose()
    }
  }
}

/** The history that `save` wrote, e.g. `fit:DIGEST,scrub:mnemonic`. */
function historyOf(text: string | undefined): HistoryEntry[] {
  return (text ? text.split(',') : []).map((entry) => {
    const [, method, codes] = /^(?:scrub:(\w+)|fit:([0-9a-f]{64}))$/.exec(entry) ?? []
    if (method !== undefined) return { verb: 'scrub', method }
    if (codes !== undefined) return { verb: 'fit', codes }
    const what = 'a history of what was done, e.g. scrub:mnemonic, in the metadata'
    throw new PalimpsestError('ERR_MODEL_FORMAT', `expected ${what}, got '${entry}'`)
  })
}
