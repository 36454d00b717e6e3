// Reductions over axes, softmax and its logarithm.
import { dimsOf, type Tensor } from '../emitter.js'
import { foldReduce } from '../folding.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'

type Reduction = (s: NodeScope, x: Tensor, axes: readonly number[]) => Tensor

/** From opset 13 (ReduceSum) or 18 (the others) on the axes are an input, before that an attribute. */
function reduction(reduce: Reduction): Lowering {
  return lowering(1, 2, (s) => {
    const x = s.input(0)
    const rank = s.rank(0)
    const given = s.optionalInts(1, 'axes') ?? s.attributes.ints('axes') ?? []
    // Nothing is summed then; squares and roots around the sum stay, as onnxruntime has it.
    if (given.length === 0 && s.attributes.int('noop_with_empty_axes', 0) !== 0) return reduce(s, x, [])
    const axes = given.length > 0 ? s.axes(given, rank) : Array.from({ length: rank }, (_, i) => i)
    const kept = reduce(s, x, axes)
    if (s.attributes.int('keepdims', 1) !== 0) return kept
    return s.emit.reshape(kept, dimsOf(x).filter((_, i) => !axes.includes(i))) // prettier-ignore
  })
}

const square = (s: NodeScope, x: Tensor): Tensor => s.emit.mul(x, x)

const l2: Reduction = (s, x, axes) => s.emit.unary('Sqrt', s.emit.sum(square(s, x), axes))

/** log sum e^x = m + log sum e^(x - m), m the maximum */
const logSumExp: Reduction = (s, x, axes) => {
  const most = s.emit.max(x, axes)
  const shifted = s.emit.unary('Exp', s.emit.arithmetic('Sub', x, most))
  return s.emit.add(s.emit.unary('Log', s.emit.sum(shifted, axes)), most)
}

const min: Reduction = (s, x, axes) => s.emit.affine(s.emit.max(s.emit.affine(x, -1, 0), axes), -1, 0)

const prod: Reduction = (s, x, axes) => {
  if (x.kind !== 'known') return s.unsupported('expected a product of constants, got a computed tensor')
  return foldReduce(x, axes, s.emit.budget, 1, (p, v) => p * v)
}

function softmax(op: 'Softmax' | 'LogSoftmax'): Lowering {
  return lowering(1, 1, (s) => s.emit.row(op, [s.input(0)], { axis: s.axis(s.attributes.int('axis', -1), s.rank(0)) }))
}

/** x / norm(x) along one axis. */
const lpNormalization = lowering(1, 1, (s) => {
  const x = s.input(0)
  const axes = [s.axis(s.attributes.int('axis', -1), s.rank(0))]
  const p = s.attributes.int('p', 2)
  if (p !== 1 && p !== 2) return s.malformed(`expected p to be 1 or 2, got ${p}`)
  return s.emit.arithmetic('Div', x, p === 2 ? l2(s, x, axes) : s.emit.sum(s.emit.unary('Abs', x), axes))
})

export const reductions: Readonly<Record<string, Lowering>> = {
  ReduceSum: reduction((s, x, axes) => s.emit.sum(x, axes)),
  ReduceMean: reduction((s, x, axes) => s.emit.mean(x, axes)),
  ReduceMax: reduction((s, x, axes) => s.emit.max(x, axes)),
  ReduceMin: reduction(min),
  ReduceL1: reduction((s, x, axes) => s.emit.sum(s.emit.unary('Abs', x), axes)),
  ReduceL2: reduction(l2),
  ReduceSumSquare: reduction((s, x, axes) => s.emit.sum(square(s, x), axes)),
  ReduceLogSum: reduction((s, x, axes) => s.emit.unary('Log', s.emit.sum(x, axes))),
  ReduceLogSumExp: reduction(logSumExp),
  ReduceProd: reduction(prod),
  Softmax: softmax('Softmax'),
  LogSoftmax: softmax('LogSoftmax'),
  LpNormalization: lpNormalization,
}
