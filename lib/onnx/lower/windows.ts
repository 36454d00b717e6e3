// Windows of convolutions and pools as ONNX describes them, made two-dimensional.
import type { Dimension } from '../../network.js'
import { windowExtent } from '../../networks/windows.js'
import { dimsOf, type Tensor } from '../emitter.js'
import type { NodeScope } from '../scope.js'

/** A two-dimensional window; pads are top, left, bottom, right. */
export interface Window {
  readonly kernel: number[]
  readonly strides: number[]
  readonly dilations: number[]
  readonly pads: number[]
}

/** Reads the window of a node whose input has one or two spatial axes; one axis L becomes H = 1, W = L. */
export function readWindow(s: NodeScope, spatial: readonly Dimension[], kernel: readonly number[]): Window {
  const rank = spatial.length
  if (rank < 1 || rank > 2) s.unsupported(`expected one or two spatial axes, got ${rank}`)
  if (spatial.some((d) => d < 0))
    s.shapeError('expected every example to stay apart from the others, got a window along the batch')
  if (kernel.length !== rank || kernel.some((k) => k < 1))
    s.malformed(`expected a kernel of ${rank} sizes, got [${kernel.join(', ')}]`)
  const list = (name: string, otherwise: number, length: number, least: number): number[] => {
    const values = s.attributes.ints(name) ?? new Array<number>(length).fill(otherwise)
    if (values.length !== length || values.some((v) => v < least)) {
      s.malformed(`expected ${length} ${name} of at least ${least}, got [${values.join(', ')}]`)
    }
    return values
  }
  const strides = list('strides', 1, rank, 1)
  const dilations = list('dilations', 1, rank, 1)
  const pads = automaticPads(s, spatial, kernel, strides, dilations) ?? list('pads', 0, 2 * rank, 0)
  if (rank === 2) return { kernel: [...kernel], strides, dilations, pads }
  return {
    kernel: [1, kernel[0]],
    strides: [1, strides[0]],
    dilations: [1, dilations[0]],
    pads: [0, pads[0], 0, pads[1]],
  }
}

/** Pads that auto_pad asks for: results of size ceil(size / stride), the odd one at the end (or start). */
function automaticPads(
  s: NodeScope,
  spatial: readonly number[],
  kernel: readonly number[],
  strides: readonly number[],
  dilations: readonly number[],
): number[] | undefined {
  const mode = s.attributes.string('auto_pad', 'NOTSET')
  if (mode === 'NOTSET') return undefined
  if (mode === 'VALID') return new Array<number>(2 * spatial.length).fill(0)
  if (mode !== 'SAME_UPPER' && mode !== 'SAME_LOWER') s.malformed(`expected a known auto_pad, got "${mode}"`)
  const totals = spatial.map((size, i) => {
    const last = (Math.ceil(size / strides[i]) - 1) * strides[i]
    return Math.max(last + windowExtent(kernel[i], dilations[i]) - size, 0)
  })
  const begin = totals.map((t) => (mode === 'SAME_UPPER' ? Math.floor(t / 2) : Math.ceil(t / 2)))
  return [...begin, ...totals.map((t, i) => t - begin[i])]
}

/** x [N, C, L] as [N, C, 1, L]; x of rank 4 as it is. */
export function planar(s: NodeScope, x: Tensor): Tensor {
  const dims = dimsOf(x)
  return dims.length === 3 ? s.emit.reshape(x, [dims[0], dims[1], 1, dims[2]]) : x
}

/** A result [N, C, 1, L] of a one-dimensional operator as [N, C, L]. */
export function linearAgain(s: NodeScope, y: Tensor, rank: number): Tensor {
  const dims = dimsOf(y)
  return rank === 3 ? s.emit.reshape(y, [dims[0], dims[1], dims[3]]) : y
}
