// Operators that take parts of a tensor or put it into a larger one: Slice, Split, Pad.
import type { Dimension } from '../../network.js'
import { dimsOf, type Sequence, type Tensor } from '../emitter.js'
import { knownFloat, type Linear } from '../known.js'
import { lowering, type NodeScope } from '../scope.js'

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
  if (count !== s.outputs) s.malformed(`expected num_outputs to be ${s.outputs}, the node's outputs, got ${count}`)
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

/** Zeros around x; another value through a mask: shifting x to and fro would round it. */
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
  s.emit.budget.take(64 * (low + size + high), 'Pad')
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

export const slicing = {
  Slice: slice,
  Split: split,
  SplitToSequence: splitToSequence,
  Pad: pad,
}
