// Shape rules of rows that move a window over images: convolution and pooling.
import type { Dimension } from '../network.js'
import { batchAxis, sameDims, showDims, type Shape } from './dims.js'
import { mixes, refuse, type RowCall, type RowRule } from './row_rule.js'
import { windowExtent } from './windows.js'

function rank4(row: RowCall, i: number): readonly Dimension[] {
  const { dims } = row.inputs[i]
  if (dims.length !== 4) refuse(row, `input ${i} of rank 4`)
  return dims
}

/** y [N, O, OH, OW] from x [N, C, H, W] and w [O, C/group, KH, KW]. */
export const conv: RowRule = {
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

export const pool = (results: number, inputs: number): RowRule => ({
  inputs: [inputs, inputs],
  shapes(row) {
    const x = rank4(row, 0)
    if (x[1] < 0 || x[2] < 0 || x[3] < 0) refuse(row, mixes)
    const dims = [x[0], x[1], ...spatialResult(row, x, row.attributes.kernel ?? [1, 1])]
    if (inputs === 2 && !sameDims(dims, row.inputs[1].dims)) refuse(row, `an index of shape ${showDims(dims)}`)
    return new Array<Shape>(results).fill({ dims, outer: row.inputs[0].outer })
  },
})
