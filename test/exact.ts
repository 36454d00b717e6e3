// Ridge problems of small networks solved in 320-bit fixed point: the truth that certificates must not fall below.

/** Bits after the point. Products and quotients are cut there: what is lost lies a hundred digits below anything tested. */
const fraction = 320n

/** The number as fixed point, exactly (doubles from 2^-267 on). */
export function fixed(value: number): bigint {
  if (value === 0) return 0n
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, value)
  const bits = view.getBigUint64(0)
  const exponent = (bits >> 52n) & 0x7ffn
  if (exponent === 0x7ffn) throw new Error(`expected a finite number, got ${value}`)
  const mantissa = (bits & 0xfffffffffffffn) | (exponent > 0n ? 1n << 52n : 0n)
  const shift = (exponent > 0n ? exponent : 1n) - 1075n + fraction
  const size = shift >= 0n ? mantissa << shift : mantissa >> -shift
  return value < 0 ? -size : size
}

/** The nearest double, or one beside it. */
export function toNumber(value: bigint): number {
  const size = value < 0n ? -value : value
  const digits = size.toString(16).length * 4
  const shift = BigInt(Math.max(0, digits - 64))
  const top = Number(size >> shift) * 2 ** Number(shift - fraction)
  return value < 0n ? -top : top
}

export const times = (a: bigint, b: bigint): bigint => (a * b) >> fraction
const over = (a: bigint, b: bigint): bigint => (a << fraction) / b

export function inner(a: readonly bigint[], b: readonly bigint[]): bigint {
  let sum = 0n
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum >> fraction
}

export interface Layer {
  /** [outputs, inputs] */
  weight: Float32Array
  bias: Float32Array
  /** Of the activation that follows, where its argument is negative: 1 for none, 0 for a rectifier. */
  slope: number
}

/** Outputs [K] and Jacobian rows [K][P] of a multilayer perceptron at one input; P: weight, bias, layer by layer. */
export function perceptron(layers: readonly Layer[], input: ArrayLike<number>): { f: bigint[]; rows: bigint[][] } {
  const slopes: bigint[][] = []
  const entering: bigint[][] = []
  let h = Array.from(input, fixed)
  for (const { weight, bias, slope } of layers) {
    entering.push(h)
    const z = Array.from(bias, (b, o) => fixed(b) + inner(rowOf(weight, o, h.length), h))
    slopes.push(z.map((value) => fixed(value < 0n ? slope : 1)))
    h = z.map((value, o) => times(slopes[slopes.length - 1][o], value))
  }
  const rows = h.map((_, k) => {
    const parts: bigint[][] = []
    let cotangent = h.map((__, o) => (o === k ? fixed(1) : 0n))
    for (let l = layers.length - 1; l >= 0; l--) {
      const through = cotangent.map((value, o) => times(value, slopes[l][o]))
      parts.unshift([...through.flatMap((value) => entering[l].map((x) => times(value, x))), ...through])
      const { weight } = layers[l]
      const width = entering[l].length
      cotangent = entering[l].map((_x, i) =>
        inner(
          through,
          through.map((_t, o) => fixed(weight[o * width + i])),
        ),
      )
    }
    return parts.flat()
  })
  return { f: h, rows }
}

const rowOf = (weight: Float32Array, o: number, width: number): bigint[] =>
  Array.from(weight.subarray(o * width, (o + 1) * width), fixed)

/** L(w) = 1/(2n) |r0 + J w|^2 + mu/2 |w|^2 with J [n K][P]. */
export class RidgeProblem {
  readonly #h: bigint[][]
  readonly #g: bigint[]

  constructor(rows: readonly (readonly bigint[])[], r0: readonly bigint[], n: number, damping: number) {
    const width = rows[0].length
    const columns = Array.from({ length: width }, (_, j) => rows.map((row) => row[j]))
    const count = BigInt(n)
    this.#g = columns.map((column) => inner(column, r0) / count)
    this.#h = columns.map((a, i) =>
      columns.slice(0, i + 1).map((b, j) => inner(a, b) / count + (i === j ? fixed(damping) : 0n)),
    )
  }

  /** grad L(w) = H w + g. */
  gradient(w: readonly bigint[]): bigint[] {
    return this.product(w).map((value, i) => value + this.#g[i])
  }

  product(v: readonly bigint[]): bigint[] {
    const h = this.#h
    return v.map((_, i) =>
      inner(
        v.map((__, j) => (j <= i ? h[i][j] : h[j][i])),
        v,
      ),
    )
  }

  /** The minimiser, by H = L D L^T. */
  solution(): bigint[] {
    const n = this.#g.length
    const l: bigint[][] = []
    const d: bigint[] = []
    for (let i = 0; i < n; i++) {
      l.push([])
      const scaled: bigint[] = []
      for (let j = 0; j < i; j++) {
        let sum = this.#h[i][j] << fraction
        for (let k = 0; k < j; k++) sum -= scaled[k] * l[j][k]
        scaled.push(sum >> fraction)
        l[i].push(over(scaled[j], d[j]))
      }
      d.push(this.#h[i][i] - inner(scaled, l[i]))
      if (d[i] <= 0n) throw new Error('expected a positive definite matrix')
    }
    const x = this.#g.map((value) => -value)
    for (let i = 0; i < n; i++) x[i] -= inner(l[i], x.slice(0, i))
    for (let i = 0; i < n; i++) x[i] = over(x[i], d[i])
    for (let i = n - 1; i >= 0; i--) for (let k = i + 1; k < n; k++) x[i] -= times(l[k][i], x[k])
    return x
  }
}
