// Tensors known at import: making them, and the moves that only rearrange their elements.
import { PalimpsestError } from '../errors.js'
import { rowMajorStrides } from '../networks/dims.js'
import type { Dimension } from '../network.js'
import type { Budget } from './budget.js'
import { TensorProto_DataType as DataType } from './onnx_pb.js'
import { isFloat, type Known } from './tensors.js'

/** A whole number that may depend on the batch size: constant + batch times the batch size. */
export interface Linear {
  readonly constant: number
  readonly batch: number
}

export function knownInts(values: readonly number[], shape: readonly number[] = [values.length]): Known {
  return { kind: 'known', type: DataType.INT64, shape, data: Float64Array.from(values) }
}

export function knownFloat(value: number): Known {
  return { kind: 'known', type: DataType.FLOAT, shape: [], data: Float64Array.of(value) }
}

/** Sizes of axes as ONNX's Shape gives them. */
export function knownDims(dims: readonly Dimension[]): Known {
  const ints = knownInts(dims.map((d) => (d < 0 ? 0 : d)))
  if (dims.every((d) => d >= 0)) return ints
  return { ...ints, batch: Float64Array.from(dims, (d) => (d < 0 ? -d : 0)) }
}

export function linears(known: Known): Linear[] {
  return Array.from(known.data, (constant, i) => ({ constant, batch: known.batch?.[i] ?? 0 }))
}

/** The dimension that a number means; -k for k times the batch size. @throws ERR_UNSUPPORTED for other sums of both */
export function dimensionOf({ constant, batch }: Linear): Dimension {
  if (batch === 0) return constant
  if (constant === 0 && batch > 0) return -batch
  throw new PalimpsestError(
    'ERR_UNSUPPORTED',
    `expected a size that is constant or a multiple of the batch size N, got ${constant} + ${batch} N`,
  )
}

export function isScalar(known: Known): boolean {
  return known.data.length === 1 && !known.batch
}

/** Elements in a new order: element i of the result is element source(i). */
function rearranged(known: Known, shape: readonly number[], budget: Budget, source: (i: number) => number): Known {
  const count = shape.reduce((a, b) => a * b, 1)
  budget.take(count * (known.batch ? 16 : known.data.BYTES_PER_ELEMENT), 'a constant')
  const data = known.data instanceof Float32Array ? new Float32Array(count) : new Float64Array(count)
  const batch = known.batch && new Float64Array(count)
  for (let i = 0; i < count; i++) {
    const from = source(i)
    data[i] = known.data[from]!
    if (batch) batch[i] = known.batch[from]!
  }
  return { kind: 'known', type: known.type, shape, data, ...(batch ? { batch } : {}) }
}

/** Element i of a tensor of `shape`, read from strided storage. */
function strided(shape: readonly number[], strides: readonly number[], offset = 0): (i: number) => number {
  const own = rowMajorStrides(shape)
  return (i) => {
    let at = offset
    for (let axis = 0; axis < shape.length; axis++) at += (Math.floor(i / own[axis]) % shape[axis]) * strides[axis]
    return at
  }
}

export function reshapeKnown(known: Known, shape: readonly number[]): Known {
  const { type, data, batch } = known
  return { kind: 'known', type, shape, data, ...(batch ? { batch } : {}) }
}

export function transposeKnown(known: Known, perm: readonly number[], budget: Budget): Known {
  const strides = rowMajorStrides(known.shape)
  const shape = perm.map((axis) => known.shape[axis])
  return rearranged(
    known,
    shape,
    budget,
    strided(
      shape,
      perm.map((axis) => strides[axis]),
    ),
  )
}

export function sliceKnown(
  known: Known,
  starts: readonly number[],
  steps: readonly number[],
  shape: readonly number[],
  budget: Budget,
): Known {
  const strides = rowMajorStrides(known.shape)
  const offset = starts.reduce((sum, start, axis) => sum + start * strides[axis], 0)
  return rearranged(
    known,
    shape,
    budget,
    strided(
      shape,
      strides.map((s, axis) => s * steps[axis]),
      offset,
    ),
  )
}

export function gatherKnown(known: Known, axis: number, indices: readonly number[], budget: Budget): Known {
  const inner = known.shape.slice(axis + 1).reduce((a, b) => a * b, 1)
  const size = known.shape[axis]
  const shape = known.shape.with(axis, indices.length)
  return rearranged(known, shape, budget, (i) => {
    const [outer, position] = [Math.floor(i / (inner * indices.length)), Math.floor(i / inner) % indices.length]
    return (outer * size + indices[position]) * inner + (i % inner)
  })
}

export function expandKnown(known: Known, shape: readonly number[], budget: Budget): Known {
  return rearranged(known, shape, budget, strided(shape, broadcastStrides(known.shape, shape)))
}

/** Strides that read `from` as `to`: 0 along axes that are repeated. */
export function broadcastStrides(from: readonly number[], to: readonly number[]): number[] {
  const strides = rowMajorStrides(from)
  const lead = to.length - from.length
  return to.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : strides[axis - lead]))
}

export function concatKnown(parts: readonly Known[], axis: number, budget: Budget): Known {
  const first = parts[0]
  const sizes = parts.map((p) => p.shape[axis])
  const shape = first.shape.with(
    axis,
    sizes.reduce((a, b) => a + b, 0),
  )
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1)
  const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1)
  budget.take(outer * inner * shape[axis] * 16, 'a constant')
  const data = new Float64Array(outer * inner * shape[axis])
  const batch = parts.some((p) => p.batch) ? new Float64Array(data.length) : undefined
  let at = 0
  for (let o = 0; data.length > 0 && o < outer; o++) {
    parts.forEach((part, p) => {
      const length = sizes[p] * inner
      data.set(part.data.subarray(o * length, (o + 1) * length), at)
      if (part.batch) batch!.set(part.batch.subarray(o * length, (o + 1) * length), at)
      at += length
    })
  }
  return { kind: 'known', type: first.type, shape, data, ...(batch ? { batch } : {}) }
}

/** Conversion between element types. @throws ERR_UNSUPPORTED for types that are not numbers */
export function castKnown(known: Known, type: DataType): Known {
  if (type === known.type) return known
  const convert =
    type === DataType.BOOL
      ? (x: number) => (x === 0 ? 0 : 1)
      : isFloat(type)
        ? rounderOf(type)
        : (x: number) => Math.trunc(x)
  const data = Float64Array.from(known.data, convert)
  return { kind: 'known', type, shape: known.shape, data, ...(known.batch ? { batch: known.batch } : {}) }
}

/** Rounding of a result to its type; half types are computed in float32. */
export function rounderOf(type: DataType): (x: number) => number {
  return isFloat(type) && type !== DataType.DOUBLE ? Math.fround : (x) => x
}
