// Operators that take parts of a tensor or put it into a larger one: Slice, Split, Gather, Pad.
import type { Dimension } from '../../network.js'
import { product } from '../../networks/dims.js'
import { dimsOf, type Sequence, type Tensor } from '../emitter.js'
import { knownFloat, knownInts, linears, type Linear } from '../known.js'
import { foldBinary } from '../folding.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { lowering, type NodeScope } from '../scope.js'
import type { Known } from '../tensors.js'

/** The part of one axis: length positions from start by step. */
interface Part {
  readonly start: number
  readonly step: number
  readonly length: Dimension
}

const slice = lowering(3, 5, (s) => {
  const x = s.input(0)
  const dims = dimsOf(x)
  const [starts, ends] = [s.linears(1, 'starts'), s.linears(2, 'ends')]
  const given = s.optionalInts(3, 'axes') ?? starts.map((_, i) => i)
  const steps = s.optionalInts(4, 'steps') ?? starts.map(() => 1)
  if (ends.length !== starts.length || given.length !== starts.length || steps.length !== starts.length) {
    s.malformed('expected starts, ends, axes and steps of one length')
  }
  s.axes(given, dims.length)
  const parts = dims.map((length): Part => ({ start: 0, step: 1, length }))
  given.forEach((axis, i) => {
    const at = s.axis(axis, dims.length)
    parts[at] = partOf(s, dims[at], starts[i], ends[i], steps[i])
  })
  return s.emit.slice(x, parts.map((p) => p.start), parts.map((p) => p.step), parts.map((p) => p.length)) // prettier-ignore
})

/** ONNX's clamping of start and end to one axis. */
function partOf(s: NodeScope, size: Dimension, from: Linear, to: Linear, step: number): Part {
  if (step === 0) s.malformed('expected steps other than 0, got 0')
  if (size < 0) return wholeBatch(s, size, from, to, step)
  if (from.batch !== 0 || to.batch !== 0) s.unsupported('expected starts and ends that do not depend on the batch size')
  const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x < 0 ? x + size : x, low), high)
  const start = step > 0 ? clamp(from.constant, 0, size) : clamp(from.constant, 0, size - 1)
  const end = step > 0 ? clamp(to.constant, 0, size) : clamp(to.constant, -1, size - 1)
  const length = Math.max(Math.ceil((end - start) / step), 0)
  if (length === 0 && s.input(0).kind !== 'known')
    s.unsupported(`expected a slice that is not empty, got ${from.constant} to ${to.constant} of ${size}`)
  return { start, step, length }
}

/** Along the batch axis everything, and nothing less. */
function wholeBatch(s: NodeScope, size: Dimension, from: Linear, to: Linear, step: number): Part {
  const far = to.batch === 0 && to.constant >= -size * (s.emit.fixedBatch ?? 2 ** 31 - 1)
  const whole = far || (to.constant === 0 && to.batch >= -size)
  if (step !== 1 || from.constant !== 0 || from.batch !== 0 || !whole) {
    s.shapeError('expected every example to stay apart from the others, got a slice along the batch axis')
  }
  return { start: 0, step: 1, length: size }
}

const split = lowering(1, 2, (s) => {
  const x = s.input(0)
  const axis = s.axis(s.attributes.int('axis', 0), s.rank(0))
  const size = dimsOf(x)[axis]
  const count = s.attributes.int('num_outputs', s.outputs)
  const given = s.optionalInts(1, 'split')
  const chunk = Math.ceil(size / count)
  const sizes = given ?? Array.from({ length: count }, (_, i) => Math.min(chunk, size - i * chunk))
  return parts(s, x, axis, sizes)
})

function parts(s: NodeScope, x: Tensor, axis: number, sizes: readonly number[]): Tensor[] {
  const size = dimsOf(x)[axis]
  if (size < 0) s.shapeError('expected every example to stay apart from the others, got a split along the batch axis')
  if (sizes.some((n) => n < 1) || sizes.reduce((a, b) => a + b, 0) !== size) {
    s.malformed(`expected parts that add up to ${size}, got [${sizes.join(', ')}]`)
  }
  let start = 0
  return sizes.map((length) => {
    const part = s.emit.narrow(x, axis, start, length)
    start += length
    return part
  })
}

const splitToSequence = lowering(1, 2, (s): Sequence => {
  const x = s.input(0)
  const axis = s.axis(s.attributes.int('axis', 0), s.rank(0))
  const size = dimsOf(x)[axis]
  const given = s.optionalInts(1, 'split')
  const keep = given !== undefined || s.attributes.int('keepdims', 1) !== 0
  const scalar = given && s.rank(1) === 0
  const chunk = scalar ? given[0] : 1
  if (size > 0 && !(chunk > 0)) s.malformed(`expected parts of at least 1, got ${chunk}`)
  const even = Array.from({ length: Math.ceil(size / chunk) || 0 }, (_, i) => Math.min(chunk, size - i * chunk))
  const items = parts(s, x, axis, given && !scalar ? given : even)
  return {
    kind: 'sequence',
    items: keep ? items : items.map((item) => s.emit.reshape(item, dimsOf(item).toSpliced(axis, 1))),
  }
})

const gather = lowering(2, 2, (s) => {
  const x = s.input(0)
  const dims = dimsOf(x)
  const axis = s.axis(s.attributes.int('axis', 0), dims.length)
  const indices = s.known(1, 'indices')
  const positions = positionsIn(s, dims[axis], s.ints(1, 'indices'))
  const result = dims.toSpliced(axis, 1, ...indices.shape)
  return s.emit.reshape(taken(s, x, axis, positions), result)
})

/** x at positions of one axis: a slice where they are evenly spaced. */
function taken(s: NodeScope, x: Tensor, axis: number, positions: readonly number[]): Tensor {
  const dims = dimsOf(x)
  const step = positions.length > 1 ? positions[1] - positions[0] : 1
  if (positions.length === 0) s.unsupported('expected at least one index, got none')
  if (step === 0 || positions.some((p, i) => p !== positions[0] + i * step)) return s.emit.gather(x, axis, positions)
  const starts = dims.map((_, i) => (i === axis ? positions[0] : 0))
  return s.emit.slice(x, starts, dims.map((_, i) => (i === axis ? step : 1)), dims.with(axis, positions.length)) // prettier-ignore
}

function positionsIn(s: NodeScope, size: Dimension, indices: readonly number[]): number[] {
  if (size < 0) s.shapeError('expected every example to stay apart from the others, got single examples of the batch')
  return indices.map((i) => s.axis(i, size))
}

/** GatherND with constant indices [.., M] into the first M axes, none of them the batch's. */
const gatherNd = lowering(2, 2, (s) => {
  const x = s.input(0)
  const dims = dimsOf(x)
  const indices = s.known(1, 'indices')
  const depth = indices.shape.at(-1) ?? 0
  if (s.attributes.int('batch_dims', 0) !== 0) return s.unsupported('expected batch_dims 0')
  if (depth < 1 || depth > dims.length)
    return s.malformed(`expected indices into 1 to ${dims.length} axes, got ${depth}`)
  const values = s.ints(1, 'indices')
  const flat = Array.from({ length: values.length / depth }, (_, i) =>
    values
      .slice(i * depth, (i + 1) * depth)
      .reduce((at, index, axis) => at * dims[axis] + positionsIn(s, dims[axis], [index])[0], 0),
  )
  const merged = s.emit.reshape(x, [product(dims.slice(0, depth)), ...dims.slice(depth)])
  return s.emit.reshape(taken(s, merged, 0, flat), [...indices.shape.slice(0, -1), ...dims.slice(depth)])
})

/** Parts of a tensor without examples replaced by constants: where(mask, updates, data). */
const scatterNd = lowering(3, 3, (s): Tensor => {
  const data = s.input(0)
  const [indices, updates] = [s.known(1, 'indices'), s.known(2, 'updates')]
  const dims = dimsOf(data)
  const depth = indices.shape.at(-1) ?? 0
  if (s.attributes.string('reduction', 'none') !== 'none') return s.unsupported('expected reduction none')
  if (dims.some((d) => d < 0) || updates.batch)
    return s.unsupported('expected data that are the same for every example')
  if (depth < 1 || depth > dims.length)
    return s.malformed(`expected indices into 1 to ${dims.length} axes, got ${depth}`)
  const size = product(dims.slice(depth))
  const values = s.ints(1, 'indices')
  if (updates.data.length !== (values.length / depth) * size) {
    return s.malformed(`expected updates for ${values.length / depth} positions, got ${updates.data.length} values`)
  }
  s.emit.budget.take(16 * product(dims), 'ScatterND')
  const [mask, full] = [new Float64Array(product(dims)), new Float64Array(product(dims))]
  for (let i = 0; i * depth < values.length; i++) {
    const index = values.slice(i * depth, (i + 1) * depth)
    const at = index.reduce((sum, position, axis) => sum * dims[axis] + s.axis(position, dims[axis]), 0) * size
    mask.fill(1, at, at + size)
    full.set(updates.data.subarray(i * size, (i + 1) * size), at)
  }
  const known = (type: DataType, of: Float64Array): Known => ({ kind: 'known', type, shape: dims, data: of })
  return s.emit.where(known(DataType.BOOL, mask), known(updates.type, full), data)
})

const pad = lowering(2, 4, (s) => {
  const rank = s.rank(0)
  const pads = s.ints(1, 'pads')
  const given = s.optionalInts(3, 'axes') ?? Array.from({ length: rank }, (_, i) => i)
  if (pads.length !== 2 * given.length) s.malformed(`expected ${2 * given.length} pads, got ${pads.length}`)
  s.axes(given, rank)
  const [before, after] = [new Array<number>(rank).fill(0), new Array<number>(rank).fill(0)]
  given.forEach((axis, i) => {
    before[s.axis(axis, rank)] = pads[i]!
    after[s.axis(axis, rank)] = pads[given.length + i]!
  })
  const mode = s.attributes.string('mode', 'constant')
  const cut = cropped(s, s.input(0), before, after)
  const [low, high] = [before.map((p) => Math.max(p, 0)), after.map((p) => Math.max(p, 0))]
  if (mode === 'constant') return padConstant(s, cut, low, high)
  if (mode !== 'reflect' && mode !== 'edge' && mode !== 'wrap')
    return s.unsupported(`expected a known mode, got "${mode}"`)
  return low.reduce<Tensor>((x, _, axis) => padMirrored(s, x, axis, low[axis], high[axis], mode), cut)
})

/** Negative pads take away. */
function cropped(s: NodeScope, x: Tensor, before: readonly number[], after: readonly number[]): Tensor {
  return before.reduce<Tensor>((y, _, axis) => {
    const [head, tail] = [Math.max(-before[axis], 0), Math.max(-after[axis], 0)]
    if (head + tail === 0) return y
    const length = dimsOf(y)[axis] - head - tail
    if (length < 1) s.shapeError(`expected pads that leave something of axis ${axis}, got ${-head} and ${-tail}`)
    return s.emit.narrow(y, axis, head, length)
  }, x)
}

/** Zeros around x; another value by shifting x before and after; an infinite one through a mask. */
function padConstant(s: NodeScope, x: Tensor, low: readonly number[], high: readonly number[]): Tensor {
  const from = dimsOf(x)
  const dims = from.map((d, i) => {
    if (d < 0 && low[i] + high[i] > 0)
      s.shapeError('expected every example to stay apart from the others, got pads along the batch axis')
    return d < 0 ? d : d + low[i] + high[i]
  })
  if (dims.every((d, i) => d === from[i])) return x
  const fill = s.optional(2)
  const value = fill ? s.number(2, 'the padding value') : 0
  if (x.kind === 'known') return padKnown(s, x, low, dims, value)
  if (value === 0) return s.emit.unslice(x, low, dims)
  if (Number.isFinite(value)) return s.emit.affine(s.emit.unslice(s.emit.affine(x, 1, -value), low, dims), 1, value)
  const inside = s.emit.unslice(s.emit.expand(knownFloat(1), from.map((d) => Math.max(d, 1))), low, dims.map((d) => Math.max(d, 1))) // prettier-ignore
  return s.emit.where(inside, s.emit.unslice(x, low, dims), knownFloat(value))
}

function padKnown(s: NodeScope, x: Tensor, low: readonly number[], dims: readonly number[], value: number): Tensor {
  if (x.kind !== 'known') return x
  return dims.reduce<Tensor>((y, size, axis) => {
    const have = dimsOf(y)[axis]
    const fill = (length: number): Tensor[] =>
      length > 0
        ? [
            s.emit.expand(
              { kind: 'known', type: x.type, shape: dims.map(() => 1), data: Float64Array.of(value) },
              dimsOf(y).with(axis, length),
            ),
          ]
        : []
    return s.emit.concat([...fill(low[axis]), y, ...fill(size - have - low[axis])], axis)
  }, x)
}

function padMirrored(
  s: NodeScope,
  x: Tensor,
  axis: number,
  low: number,
  high: number,
  mode: 'reflect' | 'edge' | 'wrap',
): Tensor {
  if (low + high === 0) return x
  const size = dimsOf(x)[axis]
  if (size < 0) s.shapeError('expected every example to stay apart from the others, got pads along the batch axis')
  if (mode === 'reflect' && Math.max(low, high) >= size)
    s.shapeError(`expected pads below ${size} in reflect mode, got ${low} and ${high}`)
  s.emit.budget.take(8 * (low + size + high), 'Pad')
  const at = (i: number): number => {
    if (mode === 'edge') return Math.min(Math.max(i, 0), size - 1)
    if (mode === 'wrap') return ((i % size) + size) % size
    return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i
  }
  return s.emit.gather(
    x,
    axis,
    Array.from({ length: low + size + high }, (_, i) => at(i - low)),
  )
}

/** Where a known tensor is not zero: indices [rank, count]. */
const nonZero = lowering(1, 1, (s) => {
  const x = s.known(0, 'the operand')
  const hits = linears(x).flatMap((v, i) => (v.constant !== 0 || v.batch !== 0 ? [i] : []))
  let stride = x.data.length
  const rows = x.shape.flatMap((size) => {
    stride /= size
    return hits.map((i) => Math.floor(i / stride) % size)
  })
  return knownInts(rows, [x.shape.length, hits.length])
})

/** The upper or lower triangle of matrices: a product with 0 and 1. */
const trilu = lowering(1, 2, (s) => {
  const dims = dimsOf(s.input(0))
  const [rows, columns] = dims.slice(-2)
  if (columns === undefined || rows < 0 || columns < 0) return s.shapeError('expected matrices of known sizes')
  const offset = s.optional(1) ? s.number(1, 'k') : 0
  const upper = s.attributes.int('upper', 1) !== 0
  s.emit.budget.take(8 * rows * columns, 'Trilu')
  const data = Float64Array.from({ length: rows * columns }, (_, i) => {
    const distance = (i % columns) - Math.floor(i / columns) - offset
    return Number(upper ? distance >= 0 : distance <= 0)
  })
  const triangle: Known = { kind: 'known', type: DataType.FLOAT, shape: [rows, columns], data }
  const x = s.input(0)
  return x.kind === 'known' ? foldBinary('Mul', x, triangle, s.emit.budget) : s.emit.mul(x, triangle)
})

export const slicing = {
  Slice: slice,
  Split: split,
  SplitToSequence: splitToSequence,
  Gather: gather,
  GatherND: gatherNd,
  ScatterND: scatterNd,
  Pad: pad,
  NonZero: nonZero,
  Trilu: trilu,
}
