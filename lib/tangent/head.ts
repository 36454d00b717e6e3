// The last linear layer of a network: where it is, the features before it, and its closed form over rows.
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { evaluate, type Engine } from '../model/products.js'
import { Programs } from '../model/programs.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import {
  native,
  type NativeNetwork,
  type NativeRidge,
  type NativeRidgeCertificate,
  type NativeVector,
} from '../native.js'
import type { NetworkDescription, NodeDescription } from '../network.js'

/** The last linear layer: logits = features W^T + bias. */
export interface Head {
  weight: string
  /** True where the weight is stored [K, f], false for [f, K]. */
  outputsFirst: boolean
  bias: string | undefined
  /** The network cut off before the layer: its outputs are the features [N, f]. */
  features: NetworkDescription
}

function refuse(why: string): never {
  throw new PalimpsestError(
    'ERR_UNSUPPORTED',
    `expected a network that ends in a linear layer for layers: 'head', got one where ${why}`,
  )
}

/** Finds the last linear layer. Throws ERR_UNSUPPORTED where the network ends in something else. */
export function findHead(network: NetworkDescription): Head {
  const made = new Map<number, NodeDescription>()
  for (const node of network.nodes) for (const id of node.outputs) made.set(id, node)
  const parameters = new Map(network.leaves.flatMap((leaf) => (leaf.kind === 'parameter' ? [[leaf.id, leaf]] : [])))
  const behind = (id: number): number => {
    const node = made.get(id)
    return node?.op === 'Reshape' ? behind(node.inputs[0]) : id
  }
  let product = made.get(network.output)
  let bias: string | undefined
  if (product?.op === 'Add') {
    const at = product.inputs.findIndex((id) => parameters.has(behind(id)))
    if (at < 0) refuse('the last Add has no bias')
    bias = parameters.get(behind(product.inputs[at]))?.name
    product = made.get(product.inputs[1 - at])
  }
  if (product?.op !== 'MatMul') refuse(`the last layer is ${product?.op ?? 'an input'}`)
  const { transA = false, transB = false, alpha = 1 } = product.attributes
  if (transA || alpha !== 1) refuse('the last MatMul is transposed or scaled')
  let weightId = product.inputs[1]
  let outputsFirst = transB
  const turned = made.get(weightId)
  if (turned?.op === 'Transpose') {
    weightId = turned.inputs[0]
    outputsFirst = !outputsFirst
  }
  const weight = parameters.get(weightId)
  if (weight === undefined || weight.shape.length !== 2) refuse('the last MatMul has no weight of its own')
  const uses = network.nodes.filter((node) => node.inputs.includes(weightId)).length
  if (uses !== 1) refuse('the last weight is used more than once')
  const width = outputsFirst ? weight.shape[1] : weight.shape[0]
  const features = product.inputs[0]
  const until = network.nodes.findIndex((node) => node.outputs.includes(features))
  return {
    weight: weight.name,
    outputsFirst,
    bias,
    features: { ...network, nodes: network.nodes.slice(0, until + 1), output: features, classes: width },
  }
}

/** What is kept of each row, so that exactly what was added can be subtracted. */
interface KeptRows {
  /** [n, f] with a constant 1 last where the layer has a bias. */
  features: Float32Array
  /** f_core - target, [n, K]. */
  residuals: Float64Array
}

const block = 4096

/** The closed form of a head over the rows of a dataset, from which rows can be taken out. */
export class HeadRows {
  readonly #ridge: NativeRidge
  readonly #kept: KeptRows
  readonly #head: Head
  readonly rows: number
  readonly width: number
  readonly #classes: number

  private constructor(head: Head, ridge: NativeRidge, kept: KeptRows, rows: number, classes: number) {
    this.#head = head
    this.#ridge = ridge
    this.#kept = kept
    this.rows = rows
    this.#classes = classes
    this.width = rows === 0 ? 0 : kept.features.length / rows
  }

  /** One pass for the features and one for the core's logits. */
  static async of(
    engine: Engine,
    head: Head,
    data: Dataset,
    targetScale: number,
    options: PassOptions,
  ): Promise<HeadRows> {
    const [features, logits] = await Promise.all([
      featuresOf(engine, head, data, options),
      evaluate(engine, data, { ...options }),
    ])
    const k = engine.classes
    const labels = data.labels
    const residuals = Float64Array.from(logits)
    labels.forEach((label, i) => {
      residuals[i * k + label] -= targetScale
    })
    const kept = { features, residuals }
    const width = features.length / data.size
    const ridge = new (native().Ridge)(width, k, engine.network.device)
    const made = new HeadRows(head, ridge, kept, data.size, k)
    try {
      await made.#each((rows, phi, r0) => ridge.add(rows, phi, r0), options)
      return made
    } catch (error) {
      ridge.dispose()
      throw error
    }
  }

  /** The same without some rows: an independent object; this one stays as it is. */
  async without(positions: Int32Array, options: PassOptions): Promise<HeadRows> {
    const gone = new Set(positions)
    const pick = (keep: boolean): KeptRows => {
      const chosen = Array.from({ length: this.rows }, (_, i) => i).filter((i) => gone.has(i) !== keep)
      const features = new Float32Array(chosen.length * this.width)
      const residuals = new Float64Array(chosen.length * this.#classes)
      chosen.forEach((from, to) => {
        features.set(this.#kept.features.subarray(from * this.width, (from + 1) * this.width), to * this.width)
        residuals.set(
          this.#kept.residuals.subarray(from * this.#classes, (from + 1) * this.#classes),
          to * this.#classes,
        )
      })
      return { features, residuals }
    }
    const ridge = new (native().Ridge)(this.#ridge)
    try {
      const leaving = new HeadRows(this.#head, ridge, pick(false), gone.size, this.#classes)
      await leaving.#each((rows, phi, r0) => ridge.subtract(rows, phi, r0), options)
      return new HeadRows(this.#head, ridge, pick(true), this.rows - gone.size, this.#classes)
    } catch (error) {
      ridge.dispose()
      throw error
    }
  }

  /** The exact minimiser [f, K]. */
  solve(damping: number): Promise<Float64Array> {
    return this.#ridge.solve(damping)
  }

  /** Bounds for W; after solve. */
  certify(w: Float64Array): Promise<NativeRidgeCertificate> {
    return this.#ridge.certify(w)
  }

  /** Noise of covariance scale^2 H^-1; after solve. */
  sample(scale: number, seed?: number): Promise<Float64Array> {
    return this.#ridge.sample(scale, seed)
  }

  /** W [f, K] as the values of the weight and bias parameters. */
  toParameters(w: Float64Array): Record<string, Float64Array> {
    const k = this.#classes
    const f = this.#head.bias === undefined ? this.width : this.width - 1
    const weight = new Float64Array(f * k)
    for (let i = 0; i < f; i++) {
      for (let c = 0; c < k; c++) weight[this.#head.outputsFirst ? c * f + i : i * k + c] = w[i * k + c]
    }
    return {
      [this.#head.weight]: weight,
      ...(this.#head.bias !== undefined && { [this.#head.bias]: w.slice(f * k) }),
    }
  }

  /** The inverse of toParameters, from a float64 vector. */
  fromVector(vector: NativeVector): Float64Array {
    const k = this.#classes
    const f = this.#head.bias === undefined ? this.width : this.width - 1
    const w = new Float64Array(this.width * k)
    const weight = vector.get(this.#head.weight)
    for (let i = 0; i < f; i++) {
      for (let c = 0; c < k; c++) w[i * k + c] = weight[this.#head.outputsFirst ? c * f + i : i * k + c]
    }
    if (this.#head.bias !== undefined) w.set(vector.get(this.#head.bias), f * k)
    return w
  }

  dispose(): void {
    this.#ridge.dispose()
  }

  async #each(
    step: (rows: number, features: Float32Array, residuals: Float64Array) => Promise<void>,
    options: PassOptions,
  ): Promise<void> {
    const { features, residuals } = this.#kept
    for (let start = 0; start < this.rows; start += block) {
      checkSignal(options.signal)
      const end = Math.min(start + block, this.rows)
      await step(
        end - start,
        features.subarray(start * this.width, end * this.width),
        residuals.subarray(start * this.#classes, end * this.#classes),
      )
    }
  }
}

/** Features [n, f] of every row, with a constant 1 last where the layer has a bias. */
async function featuresOf(engine: Engine, head: Head, data: Dataset, options: PassOptions): Promise<Float32Array> {
  const network: NativeNetwork = new (native().Network)(head.features, engine.network.device)
  const programs = new Programs(network)
  try {
    const cut: Engine = {
      network,
      programs,
      inputShape: engine.inputShape,
      classes: head.features.classes,
      weights: (dtype) => engine.weights(dtype),
    }
    const f = cut.classes
    const plain = (await evaluate(cut, data, options)) as Float32Array
    if (head.bias === undefined) return plain
    const wide = new Float32Array(data.size * (f + 1))
    for (let i = 0; i < data.size; i++) {
      wide.set(plain.subarray(i * f, (i + 1) * f), i * (f + 1))
      wide[i * (f + 1) + f] = 1
    }
    return wide
  } finally {
    programs.dispose()
    network.dispose()
  }
}
