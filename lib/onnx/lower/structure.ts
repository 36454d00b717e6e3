// Operators that rearrange elements: shapes, permutations, joining and splitting.
import type { Dimension } from '../../network.js'
import { batchAxis, product } from '../../networks/dims.js'
import { dimsOf, type Operand, type Sequence, type Tensor } from '../emitter.js'
import { castKnown, dimensionOf, knownDims, knownInts, reshapeKnown, type Linear } from '../known.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'
import { areAlike, decodeTensor, type Known } from '../tensors.js'
import { examples } from './positions.js'

const shape = lowering(1, 1, (s) => {
  const dims = dimsOf(s.input(0))
  const clamp = (axis: number): number => Math.min(Math.max(axis < 0 ? axis + dims.length : axis, 0), dims.length)
  const start = clamp(s.attributes.int('start', 0))
  return knownDims(dims.slice(start, Math.max(clamp(s.attributes.int('end', dims.length)), start)))
})

const size = lowering(1, 1, (s) => reshapeKnown(knownDims([product(dimsOf(s.input(0)))]), []))

const reshape = lowering(2, 2, (s) => {
  const x = s.input(0)
  const target = s.linears(1, 'the shape')
  const allowZero = s.attributes.int('allowzero', 0) !== 0
  return s.emit.reshape(x, reshapeDims(s, x, target, allowZero))
})

/** Dimensions that Reshape's target means: 0 copies, -1 takes what is left. */
function reshapeDims(s: NodeScope, x: Tensor, target: readonly Linear[], allowZero: boolean): Dimension[] {
  const from = dimsOf(x)
  const dims = target.map((t, i): Dimension | undefined => {
    if (t.batch !== 0) return dimensionOf(t)
    if (t.constant === 0 && !allowZero)
      return from[i] ?? s.malformed(`expected axis ${i} to copy, got rank ${from.length}`)
    if (t.constant === -1) return undefined
    if (!Number.isSafeInteger(t.constant) || t.constant < 0)
      s.malformed(`expected sizes within 2^53, got ${t.constant}`)
    return t.constant
  })
  if (dims.filter((d) => d === undefined).length > 1) s.malformed('expected at most one -1 in the shape, got more')
  return rebatched(s, x, dims) ?? inferred(s, from, dims)
}

function inferred(s: NodeScope, from: readonly Dimension[], dims: readonly (Dimension | undefined)[]): Dimension[] {
  const total = product(from)
  const rest = product(dims.filter((d) => d !== undefined))
  // A rest that holds the batch leaves a constant; a constant rest leaves what there is.
  const missing = rest < 0 ? total / rest : total / Math.abs(rest)
  const resolved = dims.map((d) => d ?? missing)
  if (product(resolved) !== total || resolved.some((d) => !Number.isInteger(d))) {
    const wanted = dims.map((d) => (d === undefined ? '-1' : d < 0 ? `${-d}N` : d)).join(', ')
    s.shapeError(`expected a shape of as many elements as the input has, got [${wanted}] for [${showAll(from)}]`)
  }
  return resolved
}

function showAll(dims: readonly Dimension[]): string {
  return dims.map((d) => (d < 0 ? `${-d}N` : d)).join(', ')
}

/**
 * Where the file fixes the batch size, its shapes hold that number: the axis at which as many elements lie before as lie
 * before the examples of x is the batch's.
 */
function rebatched(s: NodeScope, x: Tensor, dims: readonly (Dimension | undefined)[]): Dimension[] | undefined {
  const fixed = s.emit.fixedBatch
  if (fixed === undefined || x.kind === 'known' || dims.some((d) => d !== undefined && d < 0)) return undefined
  const from = x.value.dims
  const axis = batchAxis(from)
  if (axis < 0) return undefined
  const total = product(from)
  const before = Math.abs(product(from.slice(0, axis))) * x.value.outer
  const rest = product(dims.filter((d) => d !== undefined))
  const concrete = dims.map((d) => d ?? (-total * fixed) / rest)
  for (let i = 0, passed = 1; i < concrete.length; passed *= concrete[i++]) {
    const d = concrete[i]
    if (before % passed !== 0 || d % fixed !== 0 || (d / fixed) % (before / passed) !== 0) continue
    const candidate = concrete.with(i, -d / fixed)
    if (product(candidate) === total) return candidate
  }
  return undefined
}

const flatten = lowering(1, 1, (s) => {
  const dims = dimsOf(s.input(0))
  const given = s.attributes.int('axis', 1)
  const axis = given === dims.length ? given : s.axis(given, Math.max(dims.length, 1))
  return s.emit.reshape(s.input(0), [product(dims.slice(0, axis)), product(dims.slice(axis))])
})

const squeeze = lowering(1, 2, (s) => {
  const dims = dimsOf(s.input(0))
  const given = s.optionalInts(1, 'axes')
  const axes = given ? s.axes(given, dims.length) : dims.flatMap((d, i) => (d === 1 ? [i] : []))
  if (axes.some((axis) => dims[axis] !== 1))
    s.shapeError(`expected axes of size 1, got [${showAll(dims)}] along [${axes.join(', ')}]`)
  return s.emit.reshape(s.input(0), dims.filter((_, i) => !axes.includes(i))) // prettier-ignore
})

const unsqueeze = lowering(2, 2, (s) => {
  const dims = dimsOf(s.input(0))
  const given = s.ints(1, 'axes')
  const axes = s.axes(given, dims.length + given.length)
  const result = [...dims]
  for (const axis of axes) result.splice(axis, 0, 1)
  return s.emit.reshape(s.input(0), result)
})

const transpose = lowering(1, 1, (s) => {
  const rank = s.rank(0)
  const perm = s.attributes.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i)
  if (perm.length !== rank || s.axes(perm, rank).some((axis, i) => axis !== i)) {
    s.malformed(`expected perm to name each of ${rank} axes once, got [${perm.join(', ')}]`)
  }
  return s.emit.transpose(s.input(0), perm)
})

const expand = lowering(2, 2, (s) => {
  const x = s.input(0)
  const target = s.linears(1, 'the shape').map(dimensionOf)
  return s.emit.expand(x, expandedDims(s, dimsOf(x), target))
})

/** Broadcasting both ways: a target of 1 keeps the input's size. */
function expandedDims(s: NodeScope, from: readonly Dimension[], target: readonly Dimension[]): Dimension[] {
  const rank = Math.max(from.length, target.length)
  return Array.from({ length: rank }, (_, i) => {
    const own = from[from.length - rank + i] ?? 1
    const wanted = target[target.length - rank + i] ?? 1
    if (!Number.isSafeInteger(wanted) || wanted === 0)
      s.malformed(`expected sizes of at least 1 within 2^53, got ${wanted}`)
    const fixed = own < 0 && wanted === -own * (s.emit.fixedBatch ?? NaN)
    if (wanted === 1 || wanted === own || fixed) return own
    return own === 1
      ? wanted
      : s.shapeError(`expected a shape that [${showAll(from)}] broadcasts to, got [${showAll(target)}]`)
  })
}

const concat = lowering(1, Infinity, (s) => {
  const tensors = s.tensors()
  const axis = s.axis(s.attributes.int('axis', 0), dimsOf(tensors[0]).length)
  return s.emit.concat(adoptBatch(s, tensors, axis), axis)
})

/** Where the file fixes the batch size, tensors that were repeated to that size are repeated for every example. */
function adoptBatch(s: NodeScope, tensors: readonly Tensor[], axis: number): readonly Tensor[] {
  const batched = tensors.map(dimsOf).find((d) => batchAxis(d) >= 0)
  const at = batched ? batchAxis(batched) : -1
  if (s.emit.fixedBatch === undefined || at < 0 || at === axis) return tensors
  return tensors.map((x) => {
    const dims = dimsOf(x)
    if (dims.length !== batched!.length || dims[at] !== -batched![at] * s.emit.fixedBatch!) return x
    requireRepeated(s, x, at)
    return s.emit.expand(s.emit.narrow(x, at, 0, 1), dims.with(at, batched![at]))
  })
}

/** What has a row for each example of the fixed batch must be seen to repeat one. */
function requireRepeated(s: NodeScope, x: Tensor, axis: number): void {
  const refuse = (got: string) =>
    s.unsupported(`expected rows that are repeated for every example of the fixed batch, got ${got}`)
  if (x.kind === 'known') {
    if (!areAlike(x.data, x.shape, axis)) refuse('rows that differ')
    return
  }
  const { graph, repeated } = s.emit
  const parameter = graph.parameterName(x.value)
  // Its values are looked at when the graph is done.
  if (parameter !== undefined) repeated.set(parameter, axis)
  else if (!graph.isRepeated(x.value, axis)) refuse('computed ones that may differ')
}

const tile = lowering(2, 2, (s) => {
  const repeats = s.ints(1, 'repeats')
  const dims = dimsOf(s.input(0))
  if (repeats.length !== dims.length) s.malformed(`expected ${dims.length} repeats, got ${repeats.length}`)
  return repeats.reduce<Tensor>((x, count, axis) => {
    if (count === 1) return x
    if (count < 1) s.malformed(`expected repeats of at least 1, got ${count}`)
    const length = dims[axis]
    s.emit.budget.take(64 * length * count, 'Tile')
    return s.emit.gather(x, axis, Array.from({ length: length * count }, (_, i) => i % length)) // prettier-ignore
  }, s.input(0))
})

/** Rearranges blocks of b x b pixels into channels and back (ONNX DepthToSpace, SpaceToDepth). */
function blocks(toSpace: boolean): Lowering {
  return lowering(1, 1, (s) => {
    const x = s.input(0)
    const [n, c, h, w] = dimsOf(x)
    const b = s.attributes.int('blocksize', 0)
    if (w === undefined || s.rank(0) !== 4 || b < 1)
      return s.malformed('expected an input of rank 4 and a blocksize of at least 1')
    if (!toSpace) {
      const split = s.emit.reshape(x, [n, c, h / b, b, w / b, b])
      return s.emit.reshape(s.emit.transpose(split, [0, 3, 5, 1, 2, 4]), [n, c * b * b, h / b, w / b])
    }
    const depthFirst = s.attributes.string('mode', 'DCR') === 'DCR'
    const parts = c / (b * b)
    const split = s.emit.reshape(x, depthFirst ? [n, b, b, parts, h, w] : [n, parts, b, b, h, w])
    const moved = s.emit.transpose(split, depthFirst ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3])
    return s.emit.reshape(moved, [n, parts, h * b, w * b])
  })
}

const constantOfShape = lowering(1, 1, (s) => {
  const dims = s.linears(0, 'the shape').map(dimensionOf)
  if (dims.some((d) => !Number.isSafeInteger(d))) s.malformed('expected sizes within 2^53')
  const value = s.attributes.tensor('value')
  const one = value ? decodeTensor(value, s.emit.budget) : castKnown(knownInts([0]), DataType.FLOAT)
  if (one.data.length !== 1) s.malformed(`expected one value, got ${one.data.length}`)
  const scalar: Known = { kind: 'known', type: one.type, shape: dims.map(() => 1), data: one.data }
  return s.emit.expand(scalar, dims)
})

const range = lowering(3, 3, (s): Operand => {
  const [limit] = s.linears(1, 'limit')
  if (limit?.batch === 1 && limit.constant === 0 && s.number(0, 'start') === 0 && s.number(2, 'delta') === 1)
    return examples
  const [start, end, delta] = [s.number(0, 'start'), s.number(1, 'limit'), s.number(2, 'delta')]
  const count = Math.max(Math.ceil((end - start) / delta), 0)
  if (!Number.isSafeInteger(count)) return s.malformed(`expected a finite range, got ${start} to ${end} by ${delta}`)
  s.emit.budget.take(64 * count, 'Range')
  const values = Array.from({ length: count }, (_, i) => start + i * delta)
  return { ...knownInts(values), type: s.known(0, 'start').type }
})

const sequenceAt = lowering(2, 2, (s) => {
  const list = s.operand(0)
  if (list.kind !== 'sequence') return s.malformed('expected a sequence, got a tensor')
  return list.items[s.axis(s.number(1, 'the position'), list.items.length)]
})

const sequenceConstruct = lowering(1, Infinity, (s): Sequence => ({ kind: 'sequence', items: s.tensors() }))

export const structure: Readonly<Record<string, Lowering>> = {
  Shape: shape,
  Size: size,
  Reshape: reshape,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,
  Expand: expand,
  Concat: concat,
  Tile: tile,
  DepthToSpace: blocks(true),
  SpaceToDepth: blocks(false),
  ConstantOfShape: constantOfShape,
  Range: range,
  SequenceAt: sequenceAt,
  SequenceConstruct: sequenceConstruct,
}
