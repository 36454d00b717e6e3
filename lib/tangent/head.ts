// The last linear layer of a network: where it is, the features before it, and its closed form over rows.
import type { Dataset } from '../dataset.js'
import { findLastLayer } from '../model/last_layer.js'
import { runPass, type Engine } from '../model/products.js'
import { Programs } from '../model/programs.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import { native, type NativeRidge, type NativeRidgeCertificate, type NativeVector } from '../native.js'
import type { NetworkDescription } from '../network.js'

/** The last linear layer: logits = features W^T + bias. */
export interface Head {
  weight: string
  /** True where the weight is stored [K, f], false for [f, K]. */
  outputsFirst: boolean
  bias: string | undefined
  /** f, without the constant 1 of a bias. */
  width: number
  /** The network with its features put before its logits: [N, f + K]. */
  features: NetworkDescription
}

/** Finds the last linear layer. Throws ERR_UNSUPPORTED where the network ends in something else. */
export function findHead(network: NetworkDescription): Head {
  const { weight, outputsFirst, bias, width, features } = findLastLayer(network, "layers: 'head'")
  return {
    weight: weight.name,
    outputsFirst,
    bias: bias?.name,
    width,
    features: withFeatures(network, features, width),
  }
}

function withFeatures(network: NetworkDescription, features: number, width: number): NetworkDescription {
  const both = Math.max(...network.leaves.map(({ id }) => id), ...network.nodes.flatMap(({ outputs }) => outputs)) + 1
  const joined = { op: 'Concat', inputs: [features, network.output], outputs: [both], attributes: { axis: 1 } }
  return { ...network, nodes: [...network.nodes, joined], output: both, classes: width + network.classes }
}

/** What is kept of each row, so that exactly what was added can be subtracted; float64, as certificates are. */
interface KeptRows {
  /** [n, f] with a constant 1 last where the layer has a bias. */
  features: Float64Array
  /** f_core - target, [n, K]. */
  residuals: Float64Array
}

const block = 4096

/** What a float64 pass may lose of a feature or logit, relative to its size. */
const unit = 2 ** -46

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

  /** One pass, in float64. */
  static async of(
    engine: Engine,
    head: Head,
    data: Dataset,
    targetScale: number,
    options: PassOptions,
  ): Promise<HeadRows> {
    const k = engine.classes
    const kept = await keptRows(engine, head, data, targetScale, options)
    const ridge = new (native().Ridge)(kept.features.length / data.size, k, engine.network.device)
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
      const features = new Float64Array(chosen.length * this.width)
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

  /**
   * Bounds for W; after solve. What rounding may have changed in features and logits changes the gradient by at most
   * 2^-46 j (|r0| + j |W|), j and |r0| root mean squares over the rows.
   */
  async certify(w: Float64Array, damping: number): Promise<NativeRidgeCertificate> {
    const { residual, distance, energy, allowance, covarianceNats } = await this.#ridge.certify(w)
    const j = this.#rootMeanSquare(this.#kept.features)
    const e = unit * j * (2 * this.#rootMeanSquare(this.#kept.residuals) + j * Math.sqrt(sumOfSquares(w)))
    return {
      residual,
      distance: distance + e / damping,
      energy: (Math.sqrt(energy) + e / Math.sqrt(damping)) ** 2,
      allowance: allowance + e,
      covarianceNats,
    }
  }

  #rootMeanSquare(values: Float64Array): number {
    return Math.sqrt(sumOfSquares(values) / this.rows)
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
    step: (rows: number, features: Float64Array, residuals: Float64Array) => Promise<void>,
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

function sumOfSquares(values: Float64Array): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i]
  return sum
}

/** Features of every row, with a constant 1 last where the layer has a bias, and logits less targets. */
async function keptRows(
  engine: Engine,
  head: Head,
  data: Dataset,
  targetScale: number,
  options: PassOptions,
): Promise<KeptRows> {
  const network = new (native().Network)(head.features, engine.network.device)
  const programs = new Programs(network)
  const k = engine.classes
  const f = head.width
  const width = head.bias === undefined ? f : f + 1
  const features = new Float64Array(data.size * width).fill(1)
  const residuals = new Float64Array(data.size * k)
  try {
    const classes = head.features.classes
    // Running statistics change after the description was made: fit(), loadWeights().
    const present = engine.network.constants.map((_, i) => engine.network.getConstant(i))
    await Promise.all(present.map(async (value, i) => network.setConstant(i, await value)))
    await runPass({ ...engine, network, programs, classes } satisfies Engine, {
      phase: 'features',
      program: { quantity: 'evaluate', dtype: 'float64' },
      data,
      options,
      needLabels: false,
      inputs: () => ({}),
      collect: ([both], { rows, start }) => {
        for (let i = 0; i < rows; i++) {
          const row = both.subarray(i * (f + k), (i + 1) * (f + k))
          features.set(row.subarray(0, f), (start + i) * width)
          residuals.set(row.subarray(f), (start + i) * k)
        }
      },
    })
  } finally {
    programs.dispose()
    network.dispose()
  }
  data.labels.forEach((label, i) => {
    residuals[i * k + label] -= targetScale
  })
  return { features, residuals }
}
