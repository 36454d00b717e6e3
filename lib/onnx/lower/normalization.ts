// Normalisations: batch normalisation is a row in inference mode, the others are compositions.
import { dimsOf, type Tensor } from '../emitter.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'

const defaultEpsilon = 1e-5

/** The running statistics stay constants of the network, under their names. */
const batchNormalization = lowering(5, 5, (s) => {
  if (s.attributes.int('training_mode', 0) !== 0 || s.outputs > 1) {
    return s.unsupported(
      'expected batch normalisation in inference mode, got training mode (export after model.eval())',
    )
  }
  s.known(3, 'the running mean')
  s.known(4, 'the running variance')
  if (s.rank(0) < 2 || s.rank(0) > 4) return s.unsupported(`expected an input of rank 2 to 4, got ${s.rank(0)}`)
  return s.emit.row('BatchNormalization', s.tensors(), { epsilon: s.attributes.float('epsilon', defaultEpsilon) })
})

/** What normalising over axes yields: (x - mean) / sqrt(var + epsilon), and its parts. */
interface Normalized {
  readonly y: Tensor
  readonly mean: Tensor
  readonly inverse: Tensor
}

function normalized(s: NodeScope, x: Tensor, axes: readonly number[], epsilon: number): Normalized {
  const mean = s.emit.mean(x, axes)
  const centred = s.emit.arithmetic('Sub', x, mean)
  const variance = s.emit.mean(s.emit.mul(centred, centred), axes)
  const inverse = s.emit.unary('Pow', s.emit.affine(variance, 1, epsilon), { alpha: -0.5 })
  return { y: s.emit.mul(centred, inverse), mean, inverse }
}

const layerNormalization = lowering(2, 3, (s) => {
  const x = s.input(0)
  const rank = s.rank(0)
  const first = s.axis(s.attributes.int('axis', -1), rank)
  const axes = Array.from({ length: rank - first }, (_, i) => first + i)
  const { y, mean, inverse } = normalized(s, x, axes, s.attributes.float('epsilon', defaultEpsilon))
  return [scaled(s, y, s.input(1), s.optional(2)), mean, inverse].slice(0, s.outputs)
})

function scaled(s: NodeScope, y: Tensor, scale: Tensor, bias: Tensor | undefined): Tensor {
  const product = s.emit.mul(y, scale)
  return bias ? s.emit.add(product, bias) : product
}

/** Parameters [C] along axis 1 of a tensor of `rank`. */
function perChannel(s: NodeScope, x: Tensor, rank: number): Tensor {
  return s.emit.reshape(x, [1, dimsOf(x)[0], ...new Array<number>(rank - 2).fill(1)])
}

const instanceNormalization = lowering(3, 3, (s) => {
  const rank = s.rank(0)
  if (rank < 3) return s.shapeError(`expected spatial axes, got rank ${rank}`)
  const axes = Array.from({ length: rank - 2 }, (_, i) => i + 2)
  const { y } = normalized(s, s.input(0), axes, s.attributes.float('epsilon', defaultEpsilon))
  return scaled(s, y, perChannel(s, s.input(1), rank), perChannel(s, s.input(2), rank))
})

/** Over groups of channels; scale and bias are one a group before opset 21, one a channel from then on. */
const groupNormalization = lowering(3, 3, (s) => {
  const x = s.input(0)
  const dims = dimsOf(x)
  const groups = s.attributes.int('num_groups', 0)
  const [channels, scales] = [dims[1], dimsOf(s.input(1))[0]]
  if (dims.length < 3 || channels < 0 || groups < 1 || channels % groups !== 0) {
    return s.shapeError(`expected channels in ${groups} equal groups`)
  }
  const size = dims.slice(2).reduce((a, b) => a * b, channels / groups)
  const grouped = s.emit.reshape(x, [dims[0], groups, size])
  const { y } = normalized(s, grouped, [2], s.attributes.float('epsilon', defaultEpsilon))
  if (scales === groups && s.opset < 21) {
    return s.emit.reshape(scaled(s, y, perChannel(s, s.input(1), 3), perChannel(s, s.input(2), 3)), dims)
  }
  const rank = dims.length
  return scaled(s, s.emit.reshape(y, dims), perChannel(s, s.input(1), rank), perChannel(s, s.input(2), rank))
})

/** (x - mean) / sqrt(var) over `axes`; refused by the rows below where they hold the batch, as ONNX's default does. */
const meanVariance = lowering(1, 1, (s) => {
  const axes = s.axes(s.attributes.ints('axes') ?? [0, 2, 3], s.rank(0))
  return normalized(s, s.input(0), axes, 1e-9).y
})

/** x / (bias + alpha/size sum of squares over neighbouring channels)^beta */
const lrn = lowering(1, 1, (s) => {
  const x = s.input(0)
  const dims = dimsOf(x)
  const size = s.attributes.int('size', 0)
  if (dims.length < 3 || dims[1] < 0 || size < 1)
    return s.shapeError('expected channels, spatial axes and a size of at least 1')
  const pixels = dims.slice(2).reduce((a, b) => a * b, 1)
  const squares = s.emit.reshape(s.emit.mul(x, x), [dims[0], 1, dims[1], pixels])
  const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)]
  const window = { kernel: [size, 1], strides: [1, 1], dilations: [1, 1], pads: [before, 0, after, 0], countPads: true }
  const means = s.emit.reshape(s.emit.row('AveragePool', [squares], window), dims)
  const base = s.emit.affine(means, s.attributes.float('alpha', 1e-4), s.attributes.float('bias', 1))
  return s.emit.mul(x, s.emit.unary('Pow', base, { alpha: -s.attributes.float('beta', 0.75) }))
})

export const normalization: Readonly<Record<string, Lowering>> = {
  BatchNormalization: batchNormalization,
  LayerNormalization: layerNormalization,
  InstanceNormalization: instanceNormalization,
  GroupNormalization: groupNormalization,
  MeanVarianceNormalization: meanVariance,
  LRN: lrn,
}
