// Dimensions with an open batch size: products, equality and how they are written in messages.
import type { Dimension } from '../network.js'

/** Dimensions of a value and how examples lie in its batch axis, which has outer x batch x inner positions. */
export interface Shape {
  readonly dims: readonly Dimension[]
  /** Positions of the batch axis that lie before the examples: an axis -k is outer x batch x (k / outer). */
  readonly outer: number
}

/** The axis along which examples lie, or -1. */
export function batchAxis(dims: readonly Dimension[]): number {
  return dims.findIndex((d) => d < 0)
}

/** Product of dimensions, itself a dimension (-k: k times the batch size); NaN where two are batch sized. */
export function product(dims: readonly Dimension[]): Dimension {
  let count = 1
  let batch = false
  for (const d of dims) {
    if (d < 0 && batch) return Number.NaN
    batch ||= d < 0
    count *= Math.abs(d)
  }
  return batch ? -count : count
}

export function sameDims(a: readonly Dimension[], b: readonly Dimension[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i])
}

/** Row-major strides of concrete dimensions. */
export function rowMajorStrides(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length)
  let stride = 1
  for (let i = dims.length - 1; i >= 0; i--) {
    strides[i] = stride
    stride *= dims[i]
  }
  return strides
}

/** `[N, 3, 32, 32]`, where N is the batch size. */
export function showDims(dims: readonly Dimension[]): string {
  return `[${dims.map((d) => (d >= 0 ? String(d) : d === -1 ? 'N' : `${-d}N`)).join(', ')}]`
}
