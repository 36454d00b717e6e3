// Rows in ONNX's operators of opset 17, with the batch size open.
import { PalimpsestError } from '../../errors.js'
import type { NodeAttributes } from '../../network.js'
import { type Shape } from '../../networks/dims.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { floatTensor, type GraphWriter } from './writer.js'

/** One row and what it reads, by ONNX names. */
export interface RowInput {
  readonly op: string
  readonly inputs: readonly string[]
  readonly shapes: readonly Shape[]
  readonly results: readonly Shape[]
  readonly attributes: NodeAttributes
  /** Which results anything reads. */
  readonly wanted: readonly boolean[]
}

/** Names of the row's results. */
export type RowWriter = (w: GraphWriter, row: RowInput) => readonly string[]

const direct =
  (op: string): RowWriter =>
  (w, { inputs }) => [w.node(op, inputs)]

/** A comparison as numbers 0 and 1. */
const comparison =
  (op: string): RowWriter =>
  (w, { inputs }) => [w.node('Cast', [w.node(op, inputs)], { to: DataType.FLOAT })]

const where: RowWriter = (w, { inputs: [condition, a, b] }) => [
  w.node('Where', [w.node('Cast', [condition], { to: DataType.BOOL }), a, b]),
]

const matMul: RowWriter = (
  w,
  { inputs: [a, b], shapes, attributes: { transA = false, transB = false, alpha = 1 } },
) => {
  if (shapes[0].dims.length === 2 && shapes[1].dims.length === 2) {
    return [w.node('Gemm', [a, b], { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } })]
  }
  const swapped = (x: string, rank: number): string => {
    const axes = Array.from({ length: rank }, (_, i) => i)
    return w.node('Transpose', [x], { perm: [...axes.slice(0, -2), rank - 1, rank - 2] })
  }
  const left = transA ? swapped(a, shapes[0].dims.length) : a
  const right = transB ? swapped(b, shapes[1].dims.length) : b
  return [scaled(w, w.node('MatMul', [left, right]), alpha)]
}

function scaled(w: GraphWriter, x: string, alpha: number): string {
  return alpha === 1 ? x : w.node('Mul', [x, w.scalar(alpha)])
}

/** Attributes of a window over two axes. */
function windowOf({ op, attributes }: RowInput, kernel: readonly number[]): Record<string, readonly number[]> {
  const { strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1] } = attributes
  if (op !== 'Conv' && pads.some((p, i) => p >= kernel[i % 2])) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `${op}: expected pads below the kernel's size, which ONNX asks for, got [${pads.join(', ')}]`,
    )
  }
  return { kernel_shape: kernel, strides, pads, ...(op === 'AveragePool' ? {} : { dilations }) }
}

const conv: RowWriter = (w, row) => [
  w.node('Conv', row.inputs, { ...windowOf(row, row.shapes[1].dims.slice(2)), group: row.attributes.group ?? 1 }),
]

/** ONNX's Indices are flat over N C H W: modulo H W they are the engine's h W + w. */
const maxPool: RowWriter = (w, row) => {
  const window = windowOf(row, row.attributes.kernel ?? [1, 1])
  if (!row.wanted[1]) return [w.node('MaxPool', row.inputs, window)]
  const [y, indices] = [w.name('MaxPool'), w.name('MaxPoolIndices')]
  w.node('MaxPool', row.inputs, window, [y, indices])
  const [, , height, width] = row.shapes[0].dims
  return [y, w.node('Mod', [indices, w.ints([height * width])])]
}

/** y[n, c, p] = x[n, c, index[n, c, p]] over flattened positions. */
const poolGather: RowWriter = (w, { inputs: [x, index], shapes, results }) => {
  const [, channels, height, width] = shapes[0].dims
  const [, , resultHeight, resultWidth] = results[0].dims
  const flat = w.node('Reshape', [x, w.ints([-1, channels, height * width])])
  const at = w.node('Reshape', [index, w.ints([-1, channels, resultHeight * resultWidth])])
  const taken = w.node('GatherElements', [flat, at], { axis: 2 })
  return [w.node('Reshape', [taken, w.ints([-1, channels, resultHeight, resultWidth])])]
}

const averagePool: RowWriter = (w, row) => {
  if (row.attributes.dilations?.some((d) => d !== 1)) {
    throw new PalimpsestError('ERR_UNSUPPORTED', 'AveragePool: expected dilations of 1, which opset 17 has alone')
  }
  const window = windowOf(row, row.attributes.kernel ?? [1, 1])
  return [
    w.node('AveragePool', row.inputs, { ...window, count_include_pad: Number(row.attributes.countPads ?? false) }),
  ]
}

const reshape: RowWriter = (w, { inputs: [x], results: [{ dims }] }) => [
  w.node('Reshape', [x, w.ints(dims.map((d) => Math.max(d, -1)))]),
]

/** Axes that the input has already stay 1 in the target, so that only a new batch axis needs the input's size. */
const expand: RowWriter = (w, { inputs: [x], shapes: [from], results: [to] }) => {
  const lead = to.dims.length - from.dims.length
  const dims = to.dims.map((d, i) => (i >= lead && from.dims[i - lead] === d ? 1 : d))
  return [w.node('Expand', [x, w.dims({ dims, outer: to.outer })])]
}

const slice: RowWriter = (w, { inputs: [x], shapes: [from], attributes }) => {
  const { starts = [], steps = [], dims = [] } = attributes
  const axes = from.dims.flatMap((d, i) => (d === dims[i] && steps[i] === 1 ? [] : [i]))
  if (axes.length === 0) return [w.node('Identity', [x])]
  // Going down to 0, the end before it cannot be written as -1, which means the last position.
  const ends = axes.map((i) => {
    const end = starts[i] + steps[i] * dims[i]
    return end < 0 ? Number.MIN_SAFE_INTEGER : end
  })
  const operands = [starts, ends, axes, steps].map((list) =>
    w.ints(list === ends || list === axes ? list : axes.map((i) => list[i])),
  )
  return [w.node('Slice', [x, ...operands])]
}

/** Positions apart by a step: zeros between by padding an axis of its own; backwards by reversing. */
const unslice: RowWriter = (w, { inputs: [x], shapes: [from], attributes }) => {
  const { starts = [], steps = [], dims = [] } = attributes
  let y = x
  let sizes = from.dims.map((d) => Math.max(d, -1))
  const low = [...starts]
  steps.forEach((step, axis) => {
    const [size, gap] = [sizes[axis], Math.abs(step)]
    if (step < 0) {
      low[axis] = starts[axis] + step * (size - 1)
      y = w.node('Slice', [y, w.ints([size - 1]), w.ints([Number.MIN_SAFE_INTEGER]), w.ints([axis]), w.ints([-1])])
    }
    if (gap === 1 || size === 1) return
    const apart = w.node('Reshape', [y, w.ints(sizes.toSpliced(axis + 1, 0, 1))])
    const pads = [...sizes.map(() => 0), 0, ...sizes.map(() => 0), 0]
    pads[sizes.length + 1 + axis + 1] = gap - 1
    const padded = w.node('Pad', [apart, w.ints(pads)])
    sizes = sizes.with(axis, size * gap)
    const together = w.node('Reshape', [padded, w.ints(sizes)])
    sizes = sizes.with(axis, (size - 1) * gap + 1)
    y = w.node('Slice', [together, w.ints([0]), w.ints([sizes[axis]]), w.ints([axis])])
  })
  const high = dims.map((d, axis) => (d < 0 ? 0 : d - low[axis] - sizes[axis]))
  return [w.node('Pad', [y, w.ints([...low, ...high])])]
}

const gather: RowWriter = (w, { inputs: [x], attributes }) => [
  w.node('Gather', [x, w.ints(attributes.indices ?? [])], { axis: attributes.axis ?? 0 }),
]

const reduceSum: RowWriter = (w, { inputs: [x], attributes: { axes = [], alpha = 1 } }) => {
  if (axes.length === 0) return [scaled(w, w.node('Identity', [x]), alpha)]
  return [scaled(w, w.node('ReduceSum', [x, w.ints(axes)], { keepdims: 1 }), alpha)]
}

const reduceMax: RowWriter = (w, { inputs: [x], attributes: { axis = 0 }, wanted }) => {
  const y = w.node('ReduceMax', [x], { axes: [axis], keepdims: 1 })
  return wanted[1] ? [y, w.node('ArgMax', [x], { axis, keepdims: 1 })] : [y]
}

const constantOfShape: RowWriter = (w, { results: [shape], attributes: { alpha = 1 } }) => [
  w.node('ConstantOfShape', [w.dims(shape)], { value: floatTensor('', [1], Float32Array.of(alpha)) }),
]

/** By row; unary rows are in unary.ts. */
export const rowWriters: Readonly<Record<string, RowWriter>> = {
  Add: direct('Add'),
  Sub: direct('Sub'),
  Mul: direct('Mul'),
  Div: direct('Div'),
  Where: where,
  Greater: comparison('Greater'),
  GreaterOrEqual: comparison('GreaterOrEqual'),
  Equal: comparison('Equal'),
  MatMul: matMul,
  Conv: conv,
  Reshape: reshape,
  Transpose: (w, { inputs, attributes: { perm = [] } }) => [w.node('Transpose', inputs, { perm })],
  Expand: expand,
  Concat: (w, { inputs, attributes: { axis = 0 } }) => [w.node('Concat', inputs, { axis })],
  Slice: slice,
  Unslice: unslice,
  Gather: gather,
  ReduceSum: reduceSum,
  ReduceMax: reduceMax,
  TakeAlongAxis: (w, { inputs, attributes: { axis = 0 } }) => [w.node('GatherElements', inputs, { axis })],
  Softmax: (w, { inputs, attributes: { axis = 0 } }) => [w.node('Softmax', inputs, { axis })],
  LogSoftmax: (w, { inputs, attributes: { axis = 0 } }) => [w.node('LogSoftmax', inputs, { axis })],
  MaxPool: maxPool,
  PoolGather: poolGather,
  AveragePool: averagePool,
  BatchNormalization: (w, { inputs, attributes: { epsilon = 1e-5 } }) => [
    w.node('BatchNormalization', inputs, { epsilon: { float: epsilon } }),
  ],
  ConstantOfShape: constantOfShape,
  StopGradient: direct('Identity'),
}
