// Shape rules of the operator table's rows, with the batch size left open: what each result's dimensions are, and that
// no row mixes examples.
import { PalimpsestError } from '../errors.js'
import type { Dimension } from '../network.js'
import { batchAxis, sameDims, showDims, type Shape } from './dims.js'
import { broadcast, mixes, refuse, workAxis, type RowCall, type RowRule } from './row_rule.js'
import { concat, expand, gather, reshape, slice, transpose, unslice } from './structure_rows.js'
import { conv, pool } from './window_rows.js'

const elementwise = (count: number): RowRule => ({ inputs: [count, count], shapes: (row) => [broadcast(row)] })

const unary: RowRule = {
  inputs: [1, 2],
  shapes(row) {
    const order = row.attributes.order ?? 0
    if (order > 0 !== row.inputs.length > 1) refuse(row, 'a second input exactly where `order` is 1 or more')
    return [broadcast(row)]
  },
}

/** y [.., M, N] = alpha op(a) [.., M, K] op(b) [.., K, N]; leading axes broadcast. */
const matMul: RowRule = {
  inputs: [2, 2],
  shapes(row) {
    const [a, b] = row.inputs as [Shape, Shape]
    if (a.dims.length < 2 || b.dims.length < 2) refuse(row, 'matrices, rank 2 or more')
    const [m, k] = matrixDims(a.dims, row.attributes.transA)
    const [k2, n] = matrixDims(b.dims, row.attributes.transB)
    if (k !== k2)
      refuse(row, `inner dimensions that agree (transA ${!!row.attributes.transA}, transB ${!!row.attributes.transB})`)
    if (k < 0) refuse(row, mixes)
    const lead = broadcast(row, [
      { dims: a.dims.slice(0, -2), outer: a.outer },
      { dims: b.dims.slice(0, -2), outer: b.outer },
    ])
    const outer = batchAxis(a.dims) >= 0 ? a.outer : batchAxis(b.dims) >= 0 ? b.outer : 1
    return [{ dims: [...lead.dims, m, n], outer }]
  },
}

function matrixDims(dims: readonly Dimension[], transposed = false): [Dimension, Dimension] {
  const [rows, columns] = [dims.at(-2)!, dims.at(-1)!]
  return transposed ? [columns, rows] : [rows, columns]
}

/** y [N, C, ..] = scale (x - mean) / sqrt(var + epsilon) + bias, each [C]. */
const batchNormalization: RowRule = {
  inputs: [5, 5],
  shapes(row) {
    const [x, ...channels] = row.inputs as [Shape, ...Shape[]]
    if (x.dims.length < 2 || x.dims.length > 4) refuse(row, 'x of rank 2 to 4')
    if (x.dims[1] < 0) refuse(row, mixes)
    if (channels.some((s) => !sameDims(s.dims, [x.dims[1]])))
      refuse(row, `scale, bias, mean and var of shape [${x.dims[1]}]`)
    return [x]
  },
}

const reduceSum: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = [...x.dims]
    for (const axis of row.attributes.axes ?? []) dims[workAxis(row, axis, x.dims)] = 1
    return [{ dims, outer: x.outer }]
  },
}

const reduceMax: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const result = { dims: x.dims.with(workAxis(row, row.attributes.axis, x.dims), 1), outer: x.outer }
    return [result, result]
  },
}

const takeAlongAxis: RowRule = {
  inputs: [2, 2],
  shapes(row) {
    const [x, index] = row.inputs as [Shape, Shape]
    const axis = workAxis(row, row.attributes.axis, x.dims)
    if (!sameDims(index.dims, x.dims.with(axis, index.dims[axis] ?? 0)))
      refuse(row, `an index that fits off axis ${axis}`)
    return [{ dims: index.dims, outer: x.outer }]
  },
}

const softmax: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    workAxis(row, row.attributes.axis, x.dims)
    return [x]
  },
}

const constantOfShape: RowRule = {
  inputs: [0, 1],
  shapes: (row) => [{ dims: row.attributes.dims ?? [], outer: row.inputs[0]?.outer ?? 1 }],
}

/** Names of the unary rows, in the table's order. */
export const unaryRows = [
  'Relu', 'LeakyRelu', 'Elu', 'Sigmoid', 'HardSigmoid', 'Tanh', 'Gelu', 'GeluTanh', 'Silu', 'HardSwish', 'Mish',
  'Softplus', 'Softsign', 'Clip', 'Abs', 'Sqrt', 'Pow', 'Exp', 'Log', 'Erf', 'Reciprocal', 'Affine',
] as const // prettier-ignore

export type UnaryRow = (typeof unaryRows)[number]

const rules: Readonly<Record<string, RowRule>> = {
  ...Object.fromEntries(unaryRows.map((op) => [op, unary])),
  Add: elementwise(2),
  Sub: elementwise(2),
  Mul: elementwise(2),
  Div: elementwise(2),
  Where: elementwise(3),
  Greater: elementwise(2),
  GreaterOrEqual: elementwise(2),
  Equal: elementwise(2),
  MatMul: matMul,
  Conv: conv,
  Reshape: reshape,
  Transpose: transpose,
  Expand: expand,
  Concat: concat,
  Slice: slice,
  Unslice: unslice,
  Gather: gather,
  ReduceSum: reduceSum,
  ReduceMax: reduceMax,
  TakeAlongAxis: takeAlongAxis,
  Softmax: softmax,
  LogSoftmax: softmax,
  MaxPool: pool(2, 1),
  AveragePool: pool(1, 1),
  PoolGather: pool(1, 2),
  BatchNormalization: batchNormalization,
  ConstantOfShape: constantOfShape,
  StopGradient: { inputs: [1, 1], shapes: (row) => [row.inputs[0]] },
}

/**
 * Shapes of a row's results.
 * @throws ERR_UNSUPPORTED_OPERATOR where there is no such row, ERR_SHAPE where the inputs do not fit it
 */
export function rowShapes(row: RowCall): Shape[] {
  const rule = Object.hasOwn(rules, row.op) ? rules[row.op] : undefined
  if (!rule)
    throw new PalimpsestError('ERR_UNSUPPORTED_OPERATOR', `expected a row of the operator table, got "${row.op}"`)
  if (row.inputs.length < rule.inputs[0] || row.inputs.length > rule.inputs[1]) {
    refuse(row, `${rule.inputs[0]} to ${rule.inputs[1]} inputs`)
  }
  const shapes = rule.shapes(row)
  for (const { dims } of shapes) {
    if (dims.filter((d) => d < 0).length > 1) refuse(row, mixes)
    if (dims.some((d) => d === 0 || !Number.isSafeInteger(d)))
      refuse(row, `dimensions of at least 1 in ${showDims(dims)}`)
  }
  return shapes
}
