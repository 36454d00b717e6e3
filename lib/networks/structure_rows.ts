// Shape rules of rows that rearrange elements: Reshape, Transpose, Expand, Concat, Slice, Unslice, Gather.
import type { Dimension } from '../network.js'
import { batchAxis, product, sameDims, showDims, type Shape } from './dims.js'
import { axisOf, broadcast, mixes, refuse, workAxis, type RowCall, type RowRule } from './row_rule.js'

export const reshape: RowRule = {
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

export const transpose: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const perm = row.attributes.perm ?? []
    if (perm.length !== x.dims.length || new Set(perm).size !== perm.length) refuse(row, 'perm to name every axis once')
    return [{ dims: perm.map((axis) => x.dims[axisOf(row, axis, x.dims.length)]), outer: x.outer }]
  },
}

export const expand: RowRule = {
  inputs: [1, 1],
  shapes(row) {
    const x = row.inputs[0]
    const dims = row.attributes.dims ?? []
    const result = broadcast(row, [x, { dims, outer: batchAxis(x.dims) >= 0 ? x.outer : 1 }])
    if (!sameDims(result.dims, dims)) refuse(row, `a shape that broadcasts to ${showDims(dims)}`)
    return [result]
  },
}

export const concat: RowRule = {
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
export const slice: RowRule = {
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
export const unslice: RowRule = {
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

export const gather: RowRule = {
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
