// Shape rules of the operator table's rows, with the batch size left open: what each result's dimensions are, and that
// no row mixes examples.
import { PalimpsestError } from '../errors.js'
import type { Dimension, NodeAttributes } from '../network.js'
import { batchAxis, product, sameDims, showDims, type Shape } from './dims.js'
import { windowExtent } from './windows.js'

export interface RowRule {
  readonly inputs: readonly [least: number, most: number]
  readonly shapes: (row: RowCall) => Shape[]
}

/** One use of a row: what a rule reads. */
export interface RowCall {
  readonly op: string
  readonly inputs: readonly Shape[]
  readonly attributes: NodeAttributes
}

function refuse(row: RowCall, expected: string): never {
  const got = row.inputs.map((s) => showDims(s.dims)).join(', ')
  throw new PalimpsestError('ERR_SHAPE', `${row.op}: expected ${expected}, got ${got}`)
}

const mixes = 'every example to stay apart from the others in the batch'

function axisOf(row: RowCall, axis: number | undefined, rank: number): number {
  if (axis === undefined || !Number.isInteger(axis) || axis < 0 || axis >= rank) {
    refuse(row, `an axis from 0 to ${rank - 1} (got ${axis})`)
  }
  return axis
}

/** An axis that the row works along: never the batch's. */
function workAxis(row: RowCall, axis: number | undefined, dims: readonly Dimension[]): number {
  const checked = axisOf(row, axis, dims.length)
  if (dims[checked] < 0) refuse(row, mixes)
  return checked
}

function rank4(row: RowCall, i: number): readonly Dimension[] {
  const { dims } = row.inputs[i]
  if (dims.length !== 4) refuse(row, `input ${i} of rank 4`)
  return dims
}

/** y has the broadcast shape of all inputs (NumPy's rule). */
export function broadcast(row: RowCall, inputs: readonly Shape[] = row.inputs): Shape {
  const rank = Math.max(...inputs.map((s) => s.dims.length))
  const dims: Dimension[] = new Array<Dimension>(rank).fill(1)
  let outer = 0
  for (const shape of inputs) {
    const lead = rank - shape.dims.length
    shape.dims.forEach((d, i) => {
      if (d === 1) return
      if (dims[lead + i] !== 1 && dims[lead + i] !== d) refuse(row, 'shapes that broadcast')
      dims[lead + i] = d
    })
    if (batchAxis(shape.dims) < 0) continue
    if (outer !== 0 && outer !== shape.outer) refuse(row, mixes)
    outer = shape.outer
  }
  return { dims, outer: outer || 1 }
}

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

/** y [N, O, OH, OW] from x [N, C, H, W] and w [O, C/group, KH, KW]. */
const conv: RowRule = {
  inputs: [2, 2],
  shapes(row) {
    const [x, w] = [rank4(row, 0), rank4(row, 1)]
    const group = row.attributes.group ?? 1
    if (batchAxis(w) >= 0) refuse(row, 'weights that are the same for every example')
    if (x[1] < 0 || x[2] < 0 || x[3] < 0) refuse(row, mixes)
    if (x[1] !== w[1] * group || w[0] % group !== 0) refuse(row, `channels that fit ${group} group(s)`)
    const spatial = spatialResult(row, x, w.slice(2))
    return [{ dims: [x[0], w[0], ...spatial], outer: row.inputs[0].outer }]
  },
}

function spatialResult(row: RowCall, x: readonly Dimension[], kernel: readonly number[]): Dimension[] {
  return [0, 1].map((i) => {
    const { strides, pads, dilations } = row.attributes
    const padded = x[2 + i] + (pads?.[i] ?? 0) + (pads?.[2 + i] ?? 0)
    const extent = windowExtent(kernel[i], dilations?.[i] ?? 1)
    if (padded < extent)
      refuse(row, `a window of at most ${padded}, the padded size of axis ${2 + i} (it is ${extent})`)
    return Math.floor((padded - extent) / (strides?.[i] ?? 1)) + 1
  })
}

const pool = (results: number, inputs: number): RowRule => ({
  inputs: [inputs, inputs],
  shapes(row) {
    const x = rank4(row, 0)
    if (x[1] < 0 || x[2] < 0 || x[3] < 0) refuse(row, mixes)
    const dims = [x[0], x[1], ...spatialResult(row, x, row.attributes.kernel ?? [1, 1])]
    if (inputs === 2 && !sameDims(dims, row.inputs[1].dims)) refuse(row, `an index of shape ${showDims(dims)}`)
    return new Array<Shape>(results).fill({ dims, outer: row.inputs[0].outer })
  },
})

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

const reshape: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = row.attributes.dims ?? []
    if (product(dims) !== product(x.dims)) refuse(row, `as many elements as ${showDims(dims)} has`)
    return [{ dims, outer: reshapedOuter(row, x, dims) }]
  },
}

/** Where examples lie after a Reshape; refuses one that would cut through them. */
function reshapedOuter(row: RowCall, x: Shape, dims: readonly Dimension[]): number {
  const [from, to] = [batchAxis(x.dims), batchAxis(dims)]
  if (from < 0) return 1
  const before = Math.abs(product(x.dims.slice(0, from))) * x.outer
  const outer = before / Math.abs(product(dims.slice(0, to)))
  if (!Number.isInteger(outer) || -dims[to] % outer !== 0) refuse(row, `${mixes} in ${showDims(dims)}`)
  return outer
}

const transpose: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const perm = row.attributes.perm ?? []
    if (perm.length !== x.dims.length || new Set(perm).size !== perm.length) refuse(row, 'perm to name every axis once')
    return [{ dims: perm.map((axis) => x.dims[axisOf(row, axis, x.dims.length)]), outer: x.outer }]
  },
}

const expand: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = row.attributes.dims ?? []
    const result = broadcast(row, [x, { dims, outer: batchAxis(x.dims) >= 0 ? x.outer : 1 }])
    if (!sameDims(result.dims, dims)) refuse(row, `a shape that broadcasts to ${showDims(dims)}`)
    return [result]
  },
}

const concat: RowRule = {
  inputs: [1, Infinity],
  shapes(row) {
    const first = row.inputs[0]
    const axis = workAxis(row, row.attributes.axis, first.dims)
    const dims = [...first.dims]
    dims[axis] = 0
    for (const { dims: d, outer } of row.inputs) {
      if (d.length !== dims.length || d.some((size, i) => (i === axis ? size < 0 : size !== dims[i]))) {
        refuse(row, `shapes that agree on every axis but ${axis}`)
      }
      if (outer !== first.outer) refuse(row, mixes)
      dims[axis] += d[axis]
    }
    return [{ dims, outer: first.outer }]
  },
}

/** y[i] = x[starts + i steps], y of `dims`. */
const slice: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = checkedStrides(row, x.dims.length)
    x.dims.forEach((size, i) => {
      const [start, step, length] = [row.attributes.starts![i], row.attributes.steps![i], dims[i]]
      if (size < 0 && (length !== size || start !== 0 || step !== 1)) refuse(row, mixes)
      const last = start + step * (length - 1)
      if (size >= 0 && (start < 0 || start >= size || last < 0 || last >= size))
        refuse(row, `positions inside axis ${i}`)
    })
    return [{ dims, outer: x.outer }]
  },
}

/** y[starts + i steps] = x[i], zero elsewhere, y of `dims`: the adjoint of Slice. */
const unslice: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = checkedStrides(row, x.dims.length)
    x.dims.forEach((length, i) => {
      const [start, step, size] = [row.attributes.starts![i], row.attributes.steps![i], dims[i]]
      if (length < 0 && (length !== size || start !== 0 || step !== 1)) refuse(row, mixes)
      const last = start + step * (length - 1)
      if (length >= 0 && (start < 0 || start >= size || last < 0 || last >= size))
        refuse(row, `positions inside axis ${i}`)
    })
    return [{ dims, outer: x.outer }]
  },
}

function checkedStrides(row: RowCall, rank: number): Dimension[] {
  const { dims = [], starts = [], steps = [] } = row.attributes
  if (dims.length !== rank || starts.length !== rank || steps.length !== rank || steps.includes(0)) {
    refuse(row, 'dims, starts and steps (not 0) for every axis')
  }
  return dims
}

const gather: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const axis = workAxis(row, row.attributes.axis, x.dims)
    const indices = row.attributes.indices ?? []
    if (indices.length === 0 || indices.some((i) => i < 0 || i >= x.dims[axis])) {
      refuse(row, `indices from 0 to ${x.dims[axis] - 1}`)
    }
    return [{ dims: x.dims.with(axis, indices.length), outer: x.outer }]
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
