// Pooling over windows and over whole images.
import { windowExtent } from '../../networks/windows.js'
import { dimsOf, type Tensor } from '../emitter.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'
import { linearAgain, planar, readWindow, type Window } from './windows.js'

function kernelOf(s: NodeScope): number[] {
  return s.attributes.ints('kernel_shape') ?? s.malformed('expected kernel_shape, got none')
}

const maxPool = lowering(1, 1, (s) => {
  if (s.outputs > 1) return s.unsupported('expected one output of MaxPool, got its indices too')
  const x = planar(s, s.input(0))
  const window = readWindow(s, dimsOf(s.input(0)).slice(2), kernelOf(s))
  const pads = s.attributes.int('ceil_mode', 0) !== 0 ? ceilPads(dimsOf(x).slice(2), window) : window.pads
  return linearAgain(s, s.emit.row('MaxPool', [x], { ...window, pads }), s.rank(0))
})

/** Pads with the bottom and right ones as large as rounding up needs; a window never starts beyond the padded input. */
function ceilPads(spatial: readonly number[], { kernel, strides, dilations, pads }: Window): number[] {
  const extra = spatial.map((size, i) => {
    const padded = size + pads[i] + pads[2 + i]
    const extent = windowExtent(kernel[i], dilations[i])
    const last = Math.ceil((padded - extent) / strides[i])
    const fits = last * strides[i] < size + pads[i] ? last : last - 1
    return Math.max(fits * strides[i] + extent - padded, 0)
  })
  return [pads[0], pads[1], pads[2] + extra[0], pads[3] + extra[1]]
}

const averagePool = lowering(1, 1, (s) => {
  const x = planar(s, s.input(0))
  const window = readWindow(s, dimsOf(s.input(0)).slice(2), kernelOf(s))
  const countPads = s.attributes.int('count_include_pad', 0) !== 0
  const ceil = s.attributes.int('ceil_mode', 0) !== 0
  const pads = ceil ? ceilPads(dimsOf(x).slice(2), window) : window.pads
  const y = s.emit.row('AveragePool', [x], { ...window, pads, countPads })
  const rounded = pads.some((p, i) => p !== window.pads[i])
  const mean = countPads && rounded ? s.emit.mul(y, recount(dimsOf(x).slice(2), { ...window, pads }, window.pads)) : y
  return linearAgain(s, mean, s.rank(0))
})

/** [1, 1, OH, OW]: window size over positions that count; the pads that rounding up added do not. */
function recount(spatial: readonly number[], grown: Window, given: readonly number[]): Tensor {
  const counts = spatial.map((size, i) => {
    const extent = windowExtent(grown.kernel[i], grown.dilations[i])
    const results = Math.floor((size + grown.pads[i] + grown.pads[2 + i] - extent) / grown.strides[i]) + 1
    const end = size + given[i] + given[2 + i]
    return Array.from({ length: results }, (_, at) => {
      // Taps at * stride + k * dilation below the end.
      const taps = Math.ceil((end - at * grown.strides[i]) / grown.dilations[i])
      return Math.min(Math.max(taps, 0), grown.kernel[i])
    })
  }) as [number[], number[]]
  const area = grown.kernel[0] * grown.kernel[1]
  const data = Float64Array.from(counts[0].flatMap((a) => counts[1].map((b) => area / (a * b))))
  return { kind: 'known', type: DataType.FLOAT, shape: [1, 1, counts[0].length, counts[1].length], data }
}

function spatialAxes(s: NodeScope): number[] {
  const rank = s.rank(0)
  if (rank < 3) s.shapeError(`expected spatial axes, got rank ${rank}`)
  return Array.from({ length: rank - 2 }, (_, i) => i + 2)
}

export const pooling: Readonly<Record<string, Lowering>> = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: lowering(1, 1, (s) => s.emit.mean(s.input(0), spatialAxes(s))),
  GlobalMaxPool: lowering(1, 1, (s) => s.emit.max(s.input(0), spatialAxes(s))),
}
