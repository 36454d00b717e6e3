// Builds networks layer by layer: rows and Kaiming-initialised weights under PyTorch's names and shapes.
import { PalimpsestError } from '../errors.js'
import type { Dimension, NetworkDescription, TensorMap } from '../network.js'
import { product } from './dims.js'
import { NetworkGraph, type Value } from './graph.js'
import { normalValues } from './normal.js'
import type { UnaryRow } from './rows.js'

/** A network with weights: what `Model.fromNetwork` takes. */
export interface BuiltNetwork {
  network: NetworkDescription
  /** Weights by name. Running statistics are named constants of the network. */
  parameters: TensorMap
}

export interface ConvOptions {
  channels: number
  kernel: number
  stride?: number
  padding?: number
  groups?: number
  bias?: boolean
  gain?: number
}

export interface LinearOptions {
  features: number
  bias?: boolean
  gain?: number
}

const mostValues = 2 ** 32

/** Gains of He et al. 2015 (eq. 10): before a rectifier, and before nothing. */
export const gains = { rectifier: Math.SQRT2, linear: 1 } as const

/**
 * Layers for one example; the batch axis is theirs to carry. Weights are normal with standard deviation
 * gain / sqrt(fan in) (Kaiming; He et al. 2015, eq. 10), biases zero, scales one, the same for the same seed.
 */
export class NetworkBuilder {
  readonly input: Value
  readonly #graph: NetworkGraph
  readonly #parameters: TensorMap = new Map()
  readonly #seed: number

  /** @param inputShape of one example, e.g. [3, 32, 32] */
  constructor(inputShape: readonly number[], { seed = 0 }: { seed?: number } = {}) {
    if (inputShape.length === 0 || !inputShape.every((d) => Number.isSafeInteger(d) && d > 0)) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `inputShape: expected sizes of at least 1, got [${inputShape.join(', ')}]`,
      )
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new PalimpsestError('ERR_INVALID_ARGUMENT', `seed: expected a whole number from 0 to 2^53, got ${seed}`)
    }
    this.#graph = new NetworkGraph(inputShape)
    this.#seed = seed
    this.input = this.#graph.input
  }

  /** A parameter of normal values of standard deviation `scale`, or of one value. */
  parameter(name: string, shape: readonly number[], init: { scale: number } | { value: number }): Value {
    if (this.#parameters.has(name)) {
      throw new PalimpsestError('ERR_INVALID_ARGUMENT', `parameter: expected every name once, got "${name}" twice`)
    }
    const count = product(shape)
    // A Float32Array of more could not be made.
    if (!(count <= mostValues)) {
      throw new PalimpsestError(
        'ERR_OUT_OF_MEMORY',
        `expected a parameter "${name}" of at most 2^32 values, got [${shape.join(', ')}]`,
      )
    }
    const data =
      'value' in init
        ? new Float32Array(count).fill(init.value)
        : normalValues(count, init.scale, this.#seed, this.#parameters.size)
    this.#parameters.set(name, { shape: [...shape], data })
    return this.#graph.parameter(name, shape)
  }

  /** x [N, C, H, W] to [N, channels, H', W']; NAME.weight [channels, C / groups, kernel, kernel], NAME.bias [channels]. */
  conv(x: Value, name: string, options: ConvOptions): Value {
    const { channels, kernel, stride = 1, padding = 0, groups = 1, bias = true, gain = gains.rectifier } = options
    const inputs = x.dims[1] / groups
    const scale = gain / Math.sqrt(inputs * kernel * kernel)
    const w = this.parameter(`${name}.weight`, [channels, inputs, kernel, kernel], { scale })
    const attributes = {
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
      dilations: [1, 1],
      group: groups,
    }
    const y = this.#graph.append('Conv', [x, w], attributes)
    return bias ? this.#shifted(y, `${name}.bias`, [1, channels, 1, 1]) : y
  }

  /** x [.., D] to [.., features]; NAME.weight [features, D], NAME.bias [features]. */
  linear(x: Value, name: string, { features, bias = true, gain = gains.rectifier }: LinearOptions): Value {
    const inputs = x.dims.at(-1)!
    const w = this.parameter(`${name}.weight`, [features, inputs], { scale: gain / Math.sqrt(inputs) })
    const y = this.#graph.append('MatMul', [x, w], { transB: true })
    return bias ? this.#shifted(y, `${name}.bias`, [features]) : y
  }

  #shifted(y: Value, name: string, dims: number[]): Value {
    const b = this.parameter(name, [Math.max(...dims)], { value: 0 })
    return this.#graph.append('Add', [y, this.#graph.reshape(b, dims)])
  }

  /** Over channels, axis 1: NAME.weight, NAME.bias, and NAME.running_mean, NAME.running_var as constants. */
  batchNorm(x: Value, name: string, epsilon = 1e-5): Value {
    const shape = [x.dims[1]]
    const [scale, bias] = this.#scaleAndBias(name, shape)
    const mean = this.#graph.constant(shape, new Float32Array(shape[0]), `${name}.running_mean`)
    const variance = this.#graph.constant(shape, new Float32Array(shape[0]).fill(1), `${name}.running_var`)
    return this.#graph.append('BatchNormalization', [x, scale, bias, mean, variance], { epsilon })
  }

  /** Over the last axis: y = (x - mean) / sqrt(var + epsilon) scale + bias. */
  layerNorm(x: Value, name: string, epsilon = 1e-5): Value {
    const [axes, size] = [[x.dims.length - 1], x.dims.at(-1)!]
    const [scale, bias] = this.#scaleAndBias(name, [size])
    const graph = this.#graph
    const centred = graph.append('Sub', [x, graph.append('ReduceSum', [x], { axes, alpha: 1 / size })])
    const variance = graph.append('ReduceSum', [graph.append('Mul', [centred, centred])], { axes, alpha: 1 / size })
    const inverse = graph.append('Pow', [graph.append('Affine', [variance], { alpha: 1, beta: epsilon })], {
      alpha: -0.5,
    })
    return graph.append('Add', [graph.append('Mul', [graph.append('Mul', [centred, inverse]), scale]), bias])
  }

  #scaleAndBias(name: string, shape: readonly number[]): [Value, Value] {
    return [this.parameter(`${name}.weight`, shape, { value: 1 }), this.parameter(`${name}.bias`, shape, { value: 0 })]
  }

  activation(x: Value, row: UnaryRow, attributes: { alpha?: number; beta?: number } = {}): Value {
    return this.#graph.append(row, [x], attributes)
  }

  relu(x: Value): Value {
    return this.activation(x, 'Relu')
  }

  add(a: Value, b: Value): Value {
    return this.#graph.append('Add', [a, b])
  }

  /** alpha a b, products of the last two axes. */
  matMul(a: Value, b: Value, { transB = false, alpha = 1 } = {}): Value {
    return this.#graph.append('MatMul', [a, b], { transB, alpha })
  }

  softmax(x: Value, axis: number): Value {
    return this.#graph.append('Softmax', [x], { axis })
  }

  maxPool(x: Value, kernel: number, stride = kernel, padding = 0): Value {
    const pads = [padding, padding, padding, padding]
    const attributes = { kernel: [kernel, kernel], strides: [stride, stride], pads, dilations: [1, 1] }
    return this.#graph.append('MaxPool', [x], attributes)
  }

  /** x [N, C, H, W] to [N, C]. */
  globalAveragePool(x: Value): Value {
    const [, channels, height, width] = x.dims
    const mean = this.#graph.append('ReduceSum', [x], { axes: [2, 3], alpha: 1 / (height * width) })
    return this.#graph.reshape(mean, [-1, channels])
  }

  /** The mean over one axis, which goes. */
  mean(x: Value, axis: number): Value {
    const mean = this.#graph.append('ReduceSum', [x], { axes: [axis], alpha: 1 / x.dims[axis] })
    return this.#graph.reshape(mean, x.dims.toSpliced(axis, 1))
  }

  /** x [N, ..] to [N, D]. */
  flatten(x: Value): Value {
    return this.#graph.reshape(x, [-1, product(x.dims.slice(1))])
  }

  /** `dims` with -1 for the batch axis. */
  reshape(x: Value, dims: readonly Dimension[]): Value {
    return this.#graph.reshape(x, dims)
  }

  transpose(x: Value, perm: readonly number[]): Value {
    return this.#graph.transpose(x, perm)
  }

  /** x[i, ..] of one axis, which goes. */
  select(x: Value, axis: number, position: number): Value {
    return this.#graph.reshape(this.#slice(x, axis, position, 1, 1), x.dims.toSpliced(axis, 1))
  }

  /** Every second row and column of x [N, C, H, W], with zero channels around: the shortcut without weights. */
  shortcut(x: Value, channels: number): Value {
    const [, own, height, width] = x.dims
    const half = this.#slice(this.#slice(x, 2, 0, Math.ceil(height / 2), 2), 3, 0, Math.ceil(width / 2), 2)
    const starts = [0, Math.floor((channels - own) / 2), 0, 0]
    return this.#graph.append('Unslice', [half], { starts, steps: [1, 1, 1, 1], dims: half.dims.with(1, channels) })
  }

  #slice(x: Value, axis: number, start: number, length: number, step: number): Value {
    const zeros = x.dims.map(() => 0)
    const ones = x.dims.map(() => 1)
    const attributes = {
      starts: zeros.with(axis, start),
      steps: ones.with(axis, step),
      dims: x.dims.with(axis, length),
    }
    return this.#graph.append('Slice', [x], attributes)
  }

  /** The network whose logits [N, K] these are. @throws ERR_SHAPE */
  build(logits: Value): BuiltNetwork {
    const network = this.#graph.finish(logits)
    const used = network.leaves.flatMap((leaf) => (leaf.kind === 'parameter' ? [leaf.name] : []))
    return { network, parameters: new Map(used.map((name) => [name, this.#parameters.get(name)!])) }
  }
}
