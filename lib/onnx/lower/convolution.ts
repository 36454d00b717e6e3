// Convolution of one or two spatial axes.
import { dimsOf } from '../emitter.js'
import { lowering, type Lowering } from '../scope.js'
import { linearAgain, planar, readWindow } from './windows.js'

/** y [N, O, OH, OW] = conv(x, w) + b, the bias as an Add of b [1, O, 1, 1]. */
const conv = lowering(2, 3, (s) => {
  const [x, w] = [s.input(0), s.input(1)]
  const rank = s.rank(0)
  if (rank < 3 || s.rank(1) !== rank)
    return s.shapeError(`expected x and w of one rank of at least 3, got ${rank} and ${s.rank(1)}`)
  const kernel = dimsOf(w).slice(2)
  const given = s.attributes.ints('kernel_shape') ?? kernel
  if (given.some((k, i) => k !== kernel[i]))
    s.malformed(`expected kernel_shape [${kernel.join(', ')}] as in w, got [${given.join(', ')}]`)
  const group = s.attributes.int('group', 1)
  if (group < 1) s.malformed(`expected at least 1 group, got ${group}`)
  const { strides, pads, dilations } = readWindow(s, dimsOf(x).slice(2), kernel)
  const y = s.emit.row('Conv', [planar(s, x), planar(s, w)], { strides, pads, dilations, group })
  const b = s.optional(2)
  const biased = b ? s.emit.add(y, s.emit.reshape(b, [1, dimsOf(w)[0], 1, 1])) : y
  return linearAgain(s, biased, rank)
})

export const convolution: Readonly<Record<string, Lowering>> = { Conv: conv }
