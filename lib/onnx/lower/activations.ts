// Elementwise functions of one tensor.
import type { NodeAttributes } from '../../network.js'
import type { UnaryRow } from '../../networks/rows.js'
import { dimsOf, type Tensor } from '../emitter.js'
import { foldBinary, foldUnary } from '../folding.js'
import { knownFloat as known } from '../known.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'

/** ONNX operators that are a row, with the attributes that the row reads. */
function direct(op: UnaryRow, attributes: (s: NodeScope) => NodeAttributes = () => ({})): Lowering {
  return lowering(1, 1, (s) => s.emit.unary(op, s.input(0), attributes(s)))
}

const alpha =
  (otherwise: number) =>
  (s: NodeScope): NodeAttributes => ({ alpha: s.attributes.float('alpha', otherwise) })

/** Selu(x) = gamma Elu_alpha(x) */
const selu = lowering(1, 1, (s) => {
  const elu = s.emit.unary('Elu', s.input(0), { alpha: s.attributes.float('alpha', 1.67326319217681884765625) })
  return s.emit.affine(elu, s.attributes.float('gamma', 1.05070102214813232421875), 0)
})

/** Celu(x) = alpha Elu_1(x / alpha) */
const celu = lowering(1, 1, (s) => {
  const a = s.attributes.float('alpha', 1)
  return s.emit.affine(s.emit.unary('Elu', s.emit.affine(s.input(0), 1 / a, 0), { alpha: 1 }), a, 0)
})

/** PRelu(x) = max(x, 0) - slope max(-x, 0) */
const pRelu = lowering(2, 2, (s) => {
  const [x, slope] = [s.input(0), s.input(1)]
  const negative = s.emit.unary('Relu', s.emit.affine(x, -1, 0))
  return s.emit.arithmetic('Sub', s.emit.unary('Relu', x), s.emit.mul(slope, negative))
})

const gelu = lowering(1, 1, (s) => {
  const form = s.attributes.string('approximate', 'none')
  if (form !== 'none' && form !== 'tanh') s.malformed(`expected approximate to be none or tanh, got "${form}"`)
  return s.emit.unary(form === 'tanh' ? 'GeluTanh' : 'Gelu', s.input(0))
})

const clip = lowering(1, 3, (s) => {
  const low = s.optional(1) ? s.number(1, 'the lower bound') : -Infinity
  const high = s.optional(2) ? s.number(2, 'the upper bound') : Infinity
  if (Number.isNaN(low) || Number.isNaN(high)) s.malformed('expected bounds that are numbers, got NaN')
  return clamp(s, s.input(0), low, high)
})

/** The largest float32: rows have finite attributes. */
const unbounded = 3.4028234663852886e38

/** min(max(x, low), high) */
export function clamp(s: NodeScope, x: Tensor, low: number, high: number): Tensor {
  if (x.kind === 'known') return foldUnary(x, s.emit.budget, (v) => Math.min(Math.max(v, low), high))
  if (low === -Infinity && high === Infinity) return x
  if (low === 0 && high === Infinity) return s.emit.unary('Relu', x)
  return s.emit.unary('Clip', x, { alpha: Math.max(low, -unbounded), beta: Math.min(high, unbounded) })
}

/** x > alpha ? x : 0 */
const thresholdedRelu = lowering(1, 1, (s) => {
  const x = s.input(0)
  const bound = s.attributes.float('alpha', 1)
  return s.emit.where(s.emit.compare('Greater', x, known(bound)), x, known(0))
})

/** x < -lambd ? x + bias : x > lambd ? x - bias : 0 */
const shrink = lowering(1, 1, (s) => {
  const x = s.input(0)
  const [bias, bound] = [s.attributes.float('bias', 0), s.attributes.float('lambd', 0.5)]
  const above = s.emit.where(s.emit.compare('Greater', x, known(bound)), s.emit.affine(x, 1, -bias), known(0))
  return s.emit.where(s.emit.compare('Greater', known(-bound), x), s.emit.affine(x, 1, bias), above)
})

/** x > 0 ? 1 : x < 0 ? -1 : 0, which has no slope. */
const sign = lowering(1, 1, (s) => {
  const x = s.input(0)
  if (x.kind === 'known') return foldUnary(x, s.emit.budget, Math.sign)
  return s.emit.arithmetic('Sub', s.emit.compare('Greater', x, known(0)), s.emit.compare('Greater', known(0), x))
})

/** x^p with a constant exponent, or c^x = e^(x ln c) with a constant base. */
const pow = lowering(2, 2, (s) => {
  const [x, exponent] = [s.input(0), s.input(1)]
  if (x.kind === 'known' && exponent.kind === 'known') return foldBinary('Pow', x, exponent, s.emit.budget)
  if (exponent.kind === 'known') return power(s, x, s.number(1, 'the exponent'))
  if (x.kind !== 'known') return s.unsupported('expected a constant exponent or base, got two computed tensors')
  const base = s.number(0, 'the base')
  if (!(base > 0)) s.unsupported(`expected a positive base, got ${base}`)
  if (x.shape.length > dimsOf(exponent).length) s.unsupported('expected a base without axes of its own')
  return s.emit.unary('Exp', s.emit.affine(exponent, Math.log(base), 0))
})

function power(s: NodeScope, x: Tensor, exponent: number): Tensor {
  if (exponent === 1) return x
  if (exponent === 0.5) return s.emit.unary('Sqrt', x)
  if (exponent === -1) return s.emit.unary('Reciprocal', x)
  return s.emit.unary('Pow', x, { alpha: exponent })
}

const folded = (f: (x: number) => number): Lowering =>
  lowering(1, 1, (s) => foldUnary(s.known(0, 'the operand'), s.emit.budget, f))

export const activations: Readonly<Record<string, Lowering>> = {
  Relu: direct('Relu'),
  LeakyRelu: direct('LeakyRelu', alpha(0.01)),
  Elu: direct('Elu', alpha(1)),
  Sigmoid: direct('Sigmoid'),
  HardSigmoid: direct('HardSigmoid', (s) => ({
    alpha: s.attributes.float('alpha', 0.2),
    beta: s.attributes.float('beta', 0.5),
  })),
  Tanh: direct('Tanh'),
  HardSwish: direct('HardSwish'),
  Mish: direct('Mish'),
  Softplus: direct('Softplus'),
  Softsign: direct('Softsign'),
  Abs: direct('Abs'),
  Sqrt: direct('Sqrt'),
  Exp: direct('Exp'),
  Log: direct('Log'),
  Erf: direct('Erf'),
  Reciprocal: direct('Reciprocal'),
  Neg: lowering(1, 1, (s) => s.emit.affine(s.input(0), -1, 0)),
  Gelu: gelu,
  Selu: selu,
  Celu: celu,
  PRelu: pRelu,
  Clip: clip,
  ThresholdedRelu: thresholdedRelu,
  Shrink: shrink,
  Sign: sign,
  Pow: pow,
  Floor: folded(Math.floor),
  Ceil: folded(Math.ceil),
}
