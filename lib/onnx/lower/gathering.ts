// Operators at positions that are known at import: Gather, GatherND, ScatterND, NonZero, Trilu.
import type { Dimension } from '../../network.js'
import { product } from '../../networks/dims.js'
import { dimsOf, type Tensor } from '../emitter.js'
import { knownInts, linears } from '../known.js'
import { foldBinary } from '../folding.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { lowering, type NodeScope } from '../scope.js'
import type { Known } from '../tensors.js'

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

export const gathering = {
  Gather: gather,
  GatherND: gatherNd,
  ScatterND: scatterNd,
  NonZero: nonZero,
  Trilu: trilu,
}
