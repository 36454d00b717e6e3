// What the shape rules of rows share: how a row is described to them, axes, broadcasting and refusals.
import { PalimpsestError } from '../errors.js'
import type { Dimension, NodeAttributes } from '../network.js'
import { batchAxis, showDims, type Shape } from './dims.js'

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

export function refuse(row: RowCall, expected: string): never {
  const got = row.inputs.map((s) => showDims(s.dims)).join(', ')
  throw new PalimpsestError('ERR_SHAPE', `${row.op}: expected ${expected}, got ${got}`)
}

export const mixes = 'every example to stay apart from the others in the batch'

export function axisOf(row: RowCall, axis: number | undefined, rank: number): number {
  if (axis === undefined || !Number.isInteger(axis) || axis < 0 || axis >= rank) {
    refuse(row, `an axis from 0 to ${rank - 1} (got ${axis})`)
  }
  return axis
}

/** An axis that the row works along: never the batch's. */
export function workAxis(row: RowCall, axis: number | undefined, dims: readonly Dimension[]): number {
  const checked = axisOf(row, axis, dims.length)
  if (dims[checked] < 0) refuse(row, mixes)
  return checked
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
