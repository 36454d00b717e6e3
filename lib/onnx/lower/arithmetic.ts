// Arithmetic and comparisons of several tensors, with broadcasting.
import { type Arithmetic, type Comparison, type Tensor } from '../emitter.js'
import { foldBinary, foldUnary } from '../folding.js'
import { castKnown, knownFloat } from '../known.js'
import { TensorProto_DataType as DataType } from '../onnx_pb.js'
import { isFloat, typeName } from '../tensors.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'
import { clamp } from './activations.js'

const binary = (op: Arithmetic): Lowering => lowering(2, 2, (s) => s.emit.arithmetic(op, s.input(0), s.input(1)))

const comparison = (op: Comparison, swapped = false): Lowering =>
  lowering(2, 2, (s) => s.emit.compare(op, s.input(swapped ? 1 : 0), s.input(swapped ? 0 : 1)))

/** The larger (or smaller) of two tensors: a > b ? a : b. */
function extremum(s: NodeScope, a: Tensor, b: Tensor, larger: boolean): Tensor {
  if (a.kind === 'known' && b.kind === 'known') return foldBinary(larger ? 'Max' : 'Min', a, b, s.emit.budget)
  const bound = [a, b].find((x) => x.kind === 'known' && x.data.length === 1 && !x.batch && x.shape.length === 0)
  if (bound?.kind === 'known') {
    const value = bound.data[0]
    return clamp(s, bound === a ? b : a, larger ? value : -Infinity, larger ? Infinity : value)
  }
  return s.emit.where(s.emit.compare('Greater', larger ? a : b, larger ? b : a), a, b)
}

const variadic = (f: (s: NodeScope, a: Tensor, b: Tensor) => Tensor): Lowering =>
  lowering(1, Infinity, (s) => s.tensors().reduce((a, b) => f(s, a, b)))

const mean = lowering(1, Infinity, (s) => {
  const tensors = s.tensors()
  return s.emit.affine(
    tensors.reduce((a, b) => s.emit.add(a, b)),
    1 / tensors.length,
    0,
  )
})

/** 1 - x of a mask. */
function negated(s: NodeScope, x: Tensor): Tensor {
  if (x.kind === 'known') return foldUnary(x, s.emit.budget, (v) => (v === 0 ? 1 : 0))
  return { ...s.emit.row('Affine', [x], { alpha: -1, beta: 1 }), boolean: true }
}

function both(s: NodeScope, a: Tensor, b: Tensor): Tensor {
  if (a.kind === 'known' && b.kind === 'known') return foldBinary('And', a, b, s.emit.budget)
  return { ...s.emit.row('Mul', [a, b]), boolean: true }
}

const where = lowering(3, 3, (s) => s.emit.where(s.input(0), s.input(1), s.input(2)))

/** Conversion of element types: nothing between floats, masks are 0 and 1 already. */
function cast(s: NodeScope, x: Tensor, type: DataType): Tensor {
  if (x.kind === 'known') return castKnown(x, type)
  if (isFloat(type)) return { ...x, boolean: false }
  if (type !== DataType.BOOL) return s.unsupported(`expected floats at run time, got a cast to ${typeName(type)}`)
  return x.boolean ? x : negated(s, s.emit.compare('Equal', x, knownFloat(0)))
}

const castTo = lowering(1, 1, (s) => {
  const type = s.attributes.int('to', 0) as DataType
  if (!isFloat(type) && !(type >= DataType.UINT8 && type <= DataType.UINT64)) {
    return s.unsupported(`expected a cast between numbers, got ${typeName(type)}`)
  }
  if (type === DataType.STRING) return s.unsupported('expected a cast between numbers, got string')
  return cast(s, s.input(0), type)
})

const castLike = lowering(2, 2, (s) => {
  const like = s.input(1)
  if (like.kind === 'known') return cast(s, s.input(0), like.type)
  return cast(s, s.input(0), like.boolean ? DataType.BOOL : DataType.FLOAT)
})

const mod = lowering(2, 2, (s) =>
  foldBinary('Mod', s.known(0, 'the dividend'), s.known(1, 'the divisor'), s.emit.budget),
)

export const arithmetic: Readonly<Record<string, Lowering>> = {
  Add: binary('Add'),
  Sub: binary('Sub'),
  Mul: binary('Mul'),
  Div: binary('Div'),
  Sum: variadic((s, a, b) => s.emit.add(a, b)),
  Mean: mean,
  Max: variadic((s, a, b) => extremum(s, a, b, true)),
  Min: variadic((s, a, b) => extremum(s, a, b, false)),
  Mod: mod,
  Greater: comparison('Greater'),
  GreaterOrEqual: comparison('GreaterOrEqual'),
  Less: comparison('Greater', true),
  LessOrEqual: comparison('GreaterOrEqual', true),
  Equal: comparison('Equal'),
  Not: lowering(1, 1, (s) => negated(s, s.input(0))),
  And: lowering(2, 2, (s) => both(s, s.input(0), s.input(1))),
  Or: lowering(2, 2, (s) => negated(s, both(s, negated(s, s.input(0)), negated(s, s.input(1))))),
  Where: where,
  Cast: castTo,
  CastLike: castLike,
  Identity: lowering(1, 1, (s) => s.operand(0)),
  Dropout: lowering(1, 3, (s) => {
    const training = s.optional(2)
    if (training && s.number(2, 'training_mode') !== 0)
      return s.unsupported('expected Dropout in inference mode, got training mode')
    if (s.outputs > 1) return s.unsupported('expected one output of Dropout, got its mask too')
    return s.input(0)
  }),
}
