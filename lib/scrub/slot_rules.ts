// How each row carries slots from its inputs to its results, and which it unites. A row that is not here loses nothing.
import type { NodeDescription } from '../network.js'
import { unaryRows } from '../networks/rows.js'
import type { Axis, Slots, Slotted } from './channels.js'

export interface SlottedNode {
  readonly node: NodeDescription
  readonly inputs: readonly Slotted[]
  /** Dimensions of the results. */
  readonly results: readonly (readonly number[])[]
}

/** Axes of the results. */
type SlotRule = (slots: Slots, row: SlottedNode) => readonly (readonly Axis[])[]

const keptWhole: SlotRule = (slots, { inputs, results }) => {
  for (const { axes } of inputs) axes.forEach((axis) => slots.pin(axis))
  return results.map((dims) => dims.map(() => null))
}

const sameAxes: SlotRule = (_, { inputs, results }) => results.map(() => inputs[0].axes)

/** Broadcast: positions that meet go together; an axis of size 1 repeats and stays. */
const elementwise: SlotRule = (slots, { inputs, results }) => [
  results[0].map((size, i) => {
    const meeting = inputs.flatMap(({ dims, axes }): Axis[] => {
      const at = i - (results[0].length - dims.length)
      return at >= 0 && dims[at] === size && size !== 1 ? [axes[at]] : []
    })
    return meeting.length === 0 ? null : meeting.reduce((a, b) => slots.uniteAxes(a, b))
  }),
]

/** y [N, O, ..] of x [N, C, ..] and w [O, C / group, ..]; a depthwise one keeps the channels it reads. */
const conv: SlotRule = (slots, { node, inputs: [x, w] }) => {
  const group = node.attributes.group ?? 1
  const [outputs, inner] = w.axes
  for (const axis of [x.axes[0], x.axes[2], x.axes[3], w.axes[2], w.axes[3]]) slots.pin(axis)
  if (group === 1) {
    slots.uniteAxes(x.axes[1], inner)
    return [[null, outputs, null, null]]
  }
  const read = x.axes[1]
  const depthwise = group === x.dims[1] && read !== null && outputs !== null
  slots.pin(inner)
  if (depthwise) {
    const copies = w.dims[0] / group
    outputs.forEach((slot, o) => slots.unite(slot, read[Math.floor(o / copies)]))
    return [[null, outputs, null, null]]
  }
  slots.pin(read)
  slots.pin(outputs)
  return [[null, null, null, null]]
}

const batchNormalization: SlotRule = (slots, { inputs: [x, ...perChannel] }) => {
  const channels = perChannel.reduce<Axis>((axis, { axes }) => slots.uniteAxes(axis, axes[0]), x.axes[1])
  return [x.axes.with(1, channels)]
}

/** a [.., M, K] b [.., K, N], either transposed; leading axes stay. */
const matMul: SlotRule = (slots, { node, inputs: [a, b], results: [dims] }) => {
  const { transA = false, transB = false } = node.attributes
  const sides = (x: Slotted, swapped: boolean) => {
    const [rows, columns] = [x.axes.at(-2) ?? null, x.axes.at(-1) ?? null]
    x.axes.slice(0, -2).forEach((axis) => slots.pin(axis))
    return swapped ? [columns, rows] : [rows, columns]
  }
  const [m, k] = sides(a, transA)
  const [k2, n] = sides(b, transB)
  slots.uniteAxes(k, k2)
  return [[...dims.slice(2).map(() => null), m, n]]
}

/** Runs of axes with equal products: an axis that stands alone keeps its slots, one that is flattened repeats them. */
const reshape: SlotRule = (slots, { inputs: [x], results: [dims] }) => {
  const made: Axis[] = dims.map(() => null)
  let [from, to] = [0, 0]
  while (from < x.dims.length || to < dims.length) {
    const [firstFrom, firstTo] = [from, to]
    let [left, right] = [1, 1]
    if (from < x.dims.length) left *= x.dims[from++]
    if (to < dims.length) right *= dims[to++]
    while (Math.abs(left) !== Math.abs(right)) {
      if (Math.abs(left) < Math.abs(right)) left *= x.dims[from++]
      else right *= dims[to++]
    }
    const wide = range(firstTo, to).filter((i) => dims[i] !== 1)
    const merged = mergedAxis(slots, x, range(firstFrom, from), wide.length === 1)
    if (merged) made[wide[0]] = merged
  }
  return [made]
}

const range = (first: number, end: number) => Array.from({ length: end - first }, (_, i) => first + i)

/** The slots of several axes as one; null, with all of them staying, where they are not one with slots and others without. */
function mergedAxis(slots: Slots, x: Slotted, members: readonly number[], alone: boolean): Axis {
  const tracked = members.filter((i) => x.axes[i] !== null)
  if (tracked.length !== 1 || !alone || members.some((i) => x.dims[i] < 0)) {
    for (const i of tracked) slots.pin(x.axes[i])
    return null
  }
  const own = x.axes[tracked[0]] as Int32Array
  const inner = members.filter((i) => i > tracked[0]).reduce((count, i) => count * x.dims[i], 1)
  const total = members.reduce((count, i) => count * x.dims[i], 1)
  return Int32Array.from({ length: total }, (_, i) => own[Math.floor(i / inner) % own.length])
}

const transpose: SlotRule = (_, { node, inputs: [x] }) => [(node.attributes.perm ?? []).map((i) => x.axes[i])]

const expand: SlotRule = (_, { inputs: [x], results: [dims] }) => [
  dims.map((size, i) => {
    const at = i - (dims.length - x.dims.length)
    return at >= 0 && x.dims[at] === size ? x.axes[at] : null
  }),
]

const concat: SlotRule = (slots, { node, inputs, results: [dims] }) => [
  dims.map((_, i) => {
    const axes = inputs.map((input) => input.axes[i])
    if (i !== (node.attributes.axis ?? 0)) return axes.reduce((a, b) => slots.uniteAxes(a, b))
    if (axes.every((axis) => axis === null)) return null
    // What has no slots of its own gets some that stay.
    const whole = axes.map((axis, part) => axis ?? staying(slots, inputs[part].dims[i]))
    whole.forEach((axis) => slots.join(axis))
    return Int32Array.from(whole.flatMap((axis) => [...axis]))
  }),
]

function staying(slots: Slots, count: number): Int32Array {
  const axis = slots.fresh(count)
  slots.pin(axis)
  return axis
}

/** y[i] = x[start + i]: a run stays a run whatever goes; steps keep their axis whole. */
const slice: SlotRule = (slots, { node, inputs: [x], results: [dims] }) => [
  dims.map((length, i) => {
    const axis = x.axes[i]
    const [start, step] = [node.attributes.starts?.[i] ?? 0, node.attributes.steps?.[i] ?? 1]
    if (axis === null || step === 1) return axis && axis.subarray(start, start + length)
    slots.pin(axis)
    return null
  }),
]

/** y[start + i] = x[i]: the zeros around are slots of their own, which what is added to them can take along. */
const unslice: SlotRule = (slots, { node, inputs: [x], results: [dims] }) => [
  dims.map((size, i) => {
    const axis = x.axes[i]
    const [start, step] = [node.attributes.starts?.[i] ?? 0, node.attributes.steps?.[i] ?? 1]
    if (axis === null || step !== 1) {
      slots.pin(axis)
      return null
    }
    if (size === axis.length) return axis
    const whole = slots.fresh(size)
    whole.set(axis, start)
    return whole
  }),
]

const gather: SlotRule = (_, { node, inputs: [x] }) => {
  const along = node.attributes.axis ?? 0
  const { indices = [] } = node.attributes
  return [x.axes.map((axis, i) => (i === along && axis ? Int32Array.from(indices, (at) => axis[at]) : axis))]
}

/** What is worked along stays. */
const along = (axesOf: (node: NodeDescription) => readonly number[]): SlotRule => {
  return (slots, { node, inputs: [x], results }) => {
    const worked = axesOf(node)
    for (const i of worked) slots.pin(x.axes[i])
    return results.map(() => x.axes.map((axis, i) => (worked.includes(i) ? null : axis)))
  }
}

/** Windows move over the last two axes. */
const pool = along(() => [2, 3])
const oneAxis = along(({ attributes }) => [attributes.axis ?? 0])

const rules: Readonly<Record<string, SlotRule>> = {
  ...Object.fromEntries(unaryRows.map((op) => [op, elementwise])),
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Where: elementwise,
  Greater: elementwise,
  GreaterOrEqual: elementwise,
  Equal: elementwise,
  Conv: conv,
  BatchNormalization: batchNormalization,
  MatMul: matMul,
  Reshape: reshape,
  Transpose: transpose,
  Expand: expand,
  Concat: concat,
  Slice: slice,
  Unslice: unslice,
  Gather: gather,
  ReduceSum: along(({ attributes }) => attributes.axes ?? []),
  ReduceMax: oneAxis,
  Softmax: oneAxis,
  LogSoftmax: oneAxis,
  MaxPool: pool,
  AveragePool: pool,
  StopGradient: sameAxes,
}

export function slotRule(op: string): SlotRule {
  return Object.hasOwn(rules, op) ? rules[op] : keptWhole
}
