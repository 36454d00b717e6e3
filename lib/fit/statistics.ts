// Running statistics of batch normalisation: which constants they are, and PyTorch's running averages over the steps.
import { PalimpsestError } from '../errors.js'
import type { FloatArray, NativeNetwork } from '../native.js'
import type { NetworkDescription } from '../network.js'
import type { Shape } from '../networks/dims.js'
import { inferShapes } from '../networks/shapes.js'

/** A batch normalisation of a network, in the order in which programs give the statistics of a batch. */
export interface Normalization {
  /** Positions among the network's constants. */
  mean: number
  variance: number
  epsilon: number
  /** Values averaged for a channel, of one example. */
  positions: number
}

/** The batch normalisations of a network, in the order of its nodes. */
export function normalizationsOf(network: NetworkDescription): Normalization[] {
  const nodes = network.nodes.filter((node) => node.op === 'BatchNormalization')
  if (nodes.length === 0) return []
  const shapes = inferShapes(network)
  const constants = network.leaves.filter((leaf) => leaf.kind === 'constant').map((leaf) => leaf.id)
  return nodes.map(({ inputs: [x, , , mean, variance], attributes }) => {
    const dims = (shapes.get(x) as Shape).dims
    const size = dims.reduce((product, d) => product * Math.abs(d), 1)
    const { epsilon = defaultEpsilon } = attributes
    return { mean: constants.indexOf(mean), variance: constants.indexOf(variance), epsilon, positions: size / dims[1] }
  })
}

/** What no file can hold is not trained: save(), exports and records would keep the values from before. */
export function requireNames(normalizations: readonly Normalization[], { constants }: NativeNetwork): void {
  const unnamed = normalizations.some(({ mean, variance }) => [mean, variance].some((i) => constants[i]?.name === ''))
  if (!unnamed) return
  const what = "running statistics that have names in the model's file, or batchNorm: 'evaluation'"
  throw new PalimpsestError('ERR_UNSUPPORTED', `expected ${what}; got some without`)
}

/** Of native/ops/graph.h's Attributes. */
const defaultEpsilon = 1e-5

/** The running means and variances of a network while it is fitted. */
export class RunningStatistics {
  /** By position among the network's constants. */
  readonly values = new Map<number, Float32Array>()
  readonly #normalizations: readonly Normalization[]
  readonly #momentum: number

  private constructor(normalizations: readonly Normalization[], momentum: number) {
    this.#normalizations = normalizations
    this.#momentum = momentum
  }

  /** @param read - gives the value of a constant by its position */
  static async of(
    normalizations: readonly Normalization[],
    momentum: number,
    read: (constant: number) => Promise<Float32Array>,
  ): Promise<RunningStatistics> {
    const statistics = new RunningStatistics(normalizations, momentum)
    for (const { mean, variance } of normalizations) {
      if (mean < 0 || variance < 0) {
        const what = "running statistics that are stored in the model, or batchNorm: 'evaluation'"
        throw new PalimpsestError('ERR_UNSUPPORTED', `expected ${what}; got a network that computes them`)
      }
      for (const constant of [mean, variance]) {
        if (!statistics.values.has(constant)) statistics.values.set(constant, await read(constant))
      }
    }
    return statistics
  }

  /**
   * Takes a batch's statistics in: r = (1 - momentum) r + momentum s with s the batch's mean, or its unbiased variance
   * n / (n - 1) (1 / rstd^2 - epsilon) over the n values of a channel. A normalisation that is used twice counts twice.
   *
   * @param outputs - mean and rstd [C] of each normalisation, in their order
   */
  update(outputs: readonly FloatArray[], rows: number): void {
    this.#normalizations.forEach(({ mean, variance, epsilon, positions }, i) => {
      const n = rows * positions
      const means = outputs[2 * i]
      const rstds = outputs[2 * i + 1]
      const unbiased = Float64Array.from(rstds, (rstd) => Math.max(0, 1 / (rstd * rstd) - epsilon) * (n / (n - 1)))
      this.#average(mean, means)
      this.#average(variance, unbiased)
    })
  }

  #average(constant: number, batch: FloatArray): void {
    const running = this.values.get(constant) as Float32Array
    running.forEach((value, c) => {
      running[c] = (1 - this.#momentum) * value + this.#momentum * batch[c]
    })
  }

  get finite(): boolean {
    return [...this.values.values()].every((values) => values.every(Number.isFinite))
  }
}
