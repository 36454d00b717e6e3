// Unary rows in ONNX's operators: f(x), and f'(x) b where a linearised graph holds it.
import type { NodeAttributes } from '../../network.js'
import type { UnaryRow } from '../../networks/rows.js'
import type { GraphWriter } from './writer.js'

/** Short hands for the operators that formulas need. */
class Formula {
  constructor(readonly w: GraphWriter) {}

  of = (op: string, ...x: string[]): string => this.w.node(op, x)
  num = (value: number): string => this.w.scalar(value)
  add = (a: string, b: string | number): string => this.of('Add', a, this.#operand(b))
  sub = (a: string | number, b: string | number): string => this.of('Sub', this.#operand(a), this.#operand(b))
  mul = (a: string, b: string | number): string => this.of('Mul', a, this.#operand(b))
  div = (a: string | number, b: string): string => this.of('Div', this.#operand(a), b)
  greater = (a: string, b: string | number): string => this.of('Greater', a, this.#operand(b))
  less = (a: string, b: string | number): string => this.of('Less', a, this.#operand(b))
  where = (c: string, a: string | number, b: string | number): string =>
    this.of('Where', c, this.#operand(a), this.#operand(b))
  square = (x: string): string => this.mul(x, x)
  affine = (x: string, alpha: number, beta: number): string => {
    const scaled = alpha === 1 ? x : this.mul(x, alpha)
    return beta === 0 ? scaled : this.add(scaled, beta)
  }
  clip = (x: string, low: number, high: number): string => this.of('Clip', x, this.num(low), this.num(high))

  #operand(x: string | number): string {
    return typeof x === 'number' ? this.num(x) : x
  }

  /** s (1 - s) */
  sigmoidSlope(x: string): string {
    const s = this.of('Sigmoid', x)
    return this.mul(s, this.of('Sigmoid', this.of('Neg', x)))
  }

  /** 1 - tanh^2 */
  tanhSlope(x: string): string {
    return this.sub(1, this.square(this.of('Tanh', x)))
  }

  /** Phi(x) = (1 + erf(x / sqrt 2)) / 2 */
  cumulative(x: string): string {
    return this.affine(this.of('Erf', this.mul(x, Math.SQRT1_2)), 0.5, 0.5)
  }

  /** sqrt(2/pi) (x + 0.044715 x^3) */
  geluInner(x: string): string {
    return this.mul(this.add(x, this.mul(this.mul(this.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI))
  }
}

type Value = (f: Formula, x: string, at: Required<Pick<NodeAttributes, 'alpha' | 'beta'>>) => string

const values: Readonly<Record<UnaryRow, Value>> = {
  Relu: (f, x) => f.of('Relu', x),
  LeakyRelu: (f, x, { alpha }) => f.w.node('LeakyRelu', [x], { alpha: { float: alpha } }),
  Elu: (f, x, { alpha }) => f.w.node('Elu', [x], { alpha: { float: alpha } }),
  Sigmoid: (f, x) => f.of('Sigmoid', x),
  HardSigmoid: (f, x, { alpha, beta }) =>
    f.w.node('HardSigmoid', [x], { alpha: { float: alpha }, beta: { float: beta } }),
  Tanh: (f, x) => f.of('Tanh', x),
  Gelu: (f, x) => f.mul(x, f.cumulative(x)),
  GeluTanh: (f, x) => f.mul(x, f.affine(f.of('Tanh', f.geluInner(x)), 0.5, 0.5)),
  Silu: (f, x) => f.mul(x, f.of('Sigmoid', x)),
  HardSwish: (f, x) => f.of('HardSwish', x),
  Mish: (f, x) => f.mul(x, f.of('Tanh', f.of('Softplus', x))),
  Softplus: (f, x) => f.of('Softplus', x),
  Softsign: (f, x) => f.of('Softsign', x),
  Clip: (f, x, { alpha, beta }) => f.clip(x, alpha, beta),
  Abs: (f, x) => f.of('Abs', x),
  Sqrt: (f, x) => f.of('Sqrt', x),
  Pow: (f, x, { alpha }) => f.of('Pow', x, f.num(alpha)),
  Exp: (f, x) => f.of('Exp', x),
  Log: (f, x) => f.of('Log', x),
  Erf: (f, x) => f.of('Erf', x),
  Reciprocal: (f, x) => f.of('Reciprocal', x),
  Affine: (f, x, { alpha, beta }) => (alpha === 1 && beta === 0 ? f.of('Identity', x) : f.affine(x, alpha, beta)),
}

type Slope = (f: Formula, x: string, b: string, at: Required<Pick<NodeAttributes, 'alpha' | 'beta'>>) => string

/** f'(x) b; at kinks as the engine has it. */
const slopes: Readonly<Record<UnaryRow, Slope>> = {
  Relu: (f, x, b) => f.where(f.greater(x, 0), b, 0),
  LeakyRelu: (f, x, b, { alpha }) => f.where(f.greater(x, 0), b, f.mul(b, alpha)),
  Elu: (f, x, b, { alpha }) => f.where(f.greater(x, 0), b, f.mul(f.mul(f.of('Exp', x), alpha), b)),
  Sigmoid: (f, x, b) => f.mul(f.sigmoidSlope(x), b),
  HardSigmoid: (f, x, b, { alpha, beta }) => {
    const line = f.affine(x, alpha, beta)
    return f.where(f.of('And', f.greater(line, 0), f.less(line, 1)), f.mul(b, alpha), 0)
  },
  Tanh: (f, x, b) => f.mul(f.tanhSlope(x), b),
  Gelu: (f, x, b) => {
    const density = f.mul(f.of('Exp', f.mul(f.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI))
    return f.mul(f.add(f.cumulative(x), f.mul(x, density)), b)
  },
  GeluTanh: (f, x, b) => {
    const u = f.geluInner(x)
    const k = Math.sqrt(2 / Math.PI)
    const innerSlope = f.affine(f.square(x), 3 * 0.044715 * k, k)
    const bend = f.mul(f.mul(f.mul(x, 0.5), f.tanhSlope(u)), innerSlope)
    return f.mul(f.add(f.affine(f.of('Tanh', u), 0.5, 0.5), bend), b)
  },
  Silu: (f, x, b) => f.mul(f.add(f.of('Sigmoid', x), f.mul(x, f.sigmoidSlope(x))), b),
  HardSwish: (f, x, b) => {
    const middle = f.mul(f.affine(x, 1 / 3, 0.5), b)
    return f.where(f.less(x, 3), f.where(f.greater(x, -3), middle, 0), b)
  },
  Mish: (f, x, b) => {
    const t = f.of('Tanh', f.of('Softplus', x))
    return f.mul(f.add(t, f.mul(f.mul(x, f.sub(1, f.square(t))), f.of('Sigmoid', x))), b)
  },
  Softplus: (f, x, b) => f.mul(f.of('Sigmoid', x), b),
  Softsign: (f, x, b) => f.div(b, f.square(f.add(f.of('Abs', x), 1))),
  Clip: (f, x, b, { alpha, beta }) => {
    const outside = f.of('Or', f.less(x, alpha), f.greater(x, beta))
    return f.where(outside, 0, b)
  },
  Abs: (f, x, b) => f.mul(f.of('Sign', x), b),
  Sqrt: (f, x, b) => f.div(f.mul(b, 0.5), f.of('Sqrt', x)),
  Pow: (f, x, b, { alpha }) => {
    if (alpha === 0) return f.mul(b, 0)
    return alpha === 1 ? b : f.mul(f.mul(f.of('Pow', x, f.num(alpha - 1)), alpha), b)
  },
  Exp: (f, x, b) => f.mul(f.of('Exp', x), b),
  Log: (f, x, b) => f.div(b, x),
  Erf: (f, x, b) => f.mul(f.mul(f.of('Exp', f.of('Neg', f.square(x))), 2 / Math.sqrt(Math.PI)), b),
  Reciprocal: (f, x, b) => f.of('Neg', f.div(b, f.square(x))),
  Affine: (f, _, b, { alpha }) => f.affine(b, alpha, 0),
}

/** The name of f(x), or of f'(x) b where b is given. */
export function writeUnary(
  w: GraphWriter,
  op: UnaryRow,
  x: string,
  b: string | undefined,
  attributes: NodeAttributes,
): string {
  const parameters = { alpha: attributes.alpha ?? 1, beta: attributes.beta ?? 0 }
  const f = new Formula(w)
  return b === undefined ? values[op](f, x, parameters) : slopes[op](f, x, b, parameters)
}
