// A reference interpreter of networks: every row as plain loops over float64, slow and meant to be obviously right.
import type { NetworkDescription, NodeAttributes, TensorMap } from '../lib/network.js'
import { rowMajorStrides } from '../lib/networks/dims.js'

export interface Array64 {
  shape: number[]
  data: Float64Array
}

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

export function array(shape: number[], f: (index: number[]) => number): Array64 {
  const data = new Float64Array(count(shape))
  const index = new Array<number>(shape.length).fill(0)
  for (let i = 0; i < data.length; i++) {
    data[i] = f(index)
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++index[axis] < shape[axis]) break
      index[axis] = 0
    }
  }
  return { shape, data }
}

function at(x: Array64, index: readonly number[]): number {
  const strides = rowMajorStrides(x.shape)
  const lead = index.length - x.shape.length
  let flat = 0
  for (let axis = 0; axis < x.shape.length; axis++) {
    if (x.shape[axis] !== 1) flat += strides[axis] * index[lead + axis]
  }
  return x.data[flat]
}

function broadcast(inputs: Array64[], f: (...values: number[]) => number): Array64 {
  const rank = Math.max(...inputs.map((x) => x.shape.length))
  const shape = Array.from({ length: rank }, (_, i) =>
    Math.max(...inputs.map((x) => x.shape[x.shape.length - rank + i] ?? 1)),
  )
  return array(shape, (index) => f(...inputs.map((x) => at(x, index))))
}

/** erf by its series below 3 and its continued fraction above (Abramowitz and Stegun 7.1.6, 7.1.14). */
export function erf(x: number): number {
  const a = Math.abs(x)
  if (a > 6) return Math.sign(x)
  if (a < 3) {
    let term = a
    let sum = a
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (2 * a * a) / (2 * n + 1)
      sum += term
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum
  }
  let fraction = 0
  for (let n = 60; n >= 1; n--) fraction = n / 2 / (a + fraction)
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)))
}

const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

export const unary: Record<string, (x: number, alpha: number, beta: number) => number> = {
  Relu: (x) => Math.max(x, 0),
  LeakyRelu: (x, a) => (x > 0 ? x : a * x),
  Elu: (x, a) => (x > 0 ? x : a * Math.expm1(x)),
  Sigmoid: sigmoid,
  HardSigmoid: (x, a, b) => Math.max(0, Math.min(1, a * x + b)),
  Tanh: Math.tanh,
  Gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  GeluTanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  Silu: (x) => x * sigmoid(x),
  HardSwish: (x) => x * Math.max(0, Math.min(1, x / 6 + 0.5)),
  Mish: (x) => x * Math.tanh(softplus(x)),
  Softplus: softplus,
  Softsign: (x) => x / (1 + Math.abs(x)),
  Clip: (x, a, b) => Math.min(Math.max(x, a), b),
  Abs: Math.abs,
  Sqrt: Math.sqrt,
  Pow: (x, a) => x ** a,
  Exp: Math.exp,
  Log: Math.log,
  Erf: erf,
  Reciprocal: (x) => 1 / x,
  Affine: (x, a, b) => a * x + b,
}

/** Derivatives f' and f'' by central differences of Richardson's third order, good to some 1e-9. */
function derivative(f: (x: number) => number, order: number, x: number): number {
  if (order === 0) return f(x)
  const difference = (h: number): number =>
    (derivative(f, order - 1, x + h) - derivative(f, order - 1, x - h)) / (2 * h)
  const [a, b, c] = [difference(4e-3), difference(2e-3), difference(1e-3)]
  const [p, q] = [(4 * b - a) / 3, (4 * c - b) / 3]
  return (16 * q - p) / 15
}

/** Positions of a window over x [.., H, W] that lie inside, and how many with the pads. */
function window(a: NodeAttributes, kernel: readonly number[], height: number, width: number, oh: number, ow: number) {
  const [sh, sw] = a.strides ?? [1, 1]
  const [dh, dw] = a.dilations ?? [1, 1]
  const [top, left] = a.pads ?? [0, 0]
  const taps: { h: number; w: number; kh: number; kw: number }[] = []
  for (let kh = 0; kh < kernel[0]; kh++) {
    for (let kw = 0; kw < kernel[1]; kw++) {
      const [h, w] = [oh * sh + kh * dh - top, ow * sw + kw * dw - left]
      if (h >= 0 && h < height && w >= 0 && w < width) taps.push({ h, w, kh, kw })
    }
  }
  return taps
}

function windowResult(x: readonly number[], kernel: readonly number[], a: NodeAttributes): number[] {
  return [0, 1].map((i) => {
    const padded = x[2 + i] + (a.pads?.[i] ?? 0) + (a.pads?.[2 + i] ?? 0)
    return Math.floor((padded - (kernel[i] - 1) * (a.dilations?.[i] ?? 1) - 1) / (a.strides?.[i] ?? 1)) + 1
  })
}

function conv([x, w]: Array64[], a: NodeAttributes): Array64 {
  const group = a.group ?? 1
  const [o, i] = [w.shape[0], w.shape[1]]
  const kernel = w.shape.slice(2)
  return array([x.shape[0], o, ...windowResult(x.shape, kernel, a)], ([n, c, oh, ow]) => {
    let sum = 0
    const base = Math.floor(c / (o / group)) * i
    for (const t of window(a, kernel, x.shape[2], x.shape[3], oh, ow)) {
      for (let k = 0; k < i; k++) sum += at(x, [n, base + k, t.h, t.w]) * at(w, [c, k, t.kh, t.kw])
    }
    return sum
  })
}

function maxPool([x]: Array64[], a: NodeAttributes): Array64[] {
  const shape = [...x.shape.slice(0, 2), ...windowResult(x.shape, a.kernel!, a)]
  const best = (index: number[]): { h: number; w: number; value: number } => {
    const [n, c, oh, ow] = index as [number, number, number, number]
    const taps = window(a, a.kernel!, x.shape[2], x.shape[3], oh, ow)
    const values = taps.map((t) => ({ ...t, value: at(x, [n, c, t.h, t.w]) }))
    return values.reduce((p, q) => (q.value > p.value ? q : p))
  }
  return [array(shape, (i) => best(i).value), array(shape, (i) => best(i).h * x.shape[3] + best(i).w)]
}

function averagePool([x]: Array64[], a: NodeAttributes): Array64 {
  const shape = [...x.shape.slice(0, 2), ...windowResult(x.shape, a.kernel!, a)]
  return array(shape, ([n, c, oh, ow]) => {
    const taps = window(a, a.kernel!, x.shape[2], x.shape[3], oh, ow)
    const sum = taps.reduce((s, t) => s + at(x, [n, c, t.h, t.w]), 0)
    return sum / (a.countPads ? count(a.kernel!) : taps.length)
  })
}

function matMul([a, b]: Array64[], t: NodeAttributes): Array64 {
  const element = (x: Array64, lead: number[], i: number, j: number, transposed = false): number =>
    at(x, [...lead.slice(lead.length - (x.shape.length - 2)), ...(transposed ? [j, i] : [i, j])])
  const dims = (x: Array64, transposed = false): [number, number] =>
    transposed ? [x.shape.at(-1)!, x.shape.at(-2)!] : [x.shape.at(-2)!, x.shape.at(-1)!]
  const [[m, k], [, n]] = [dims(a, t.transA), dims(b, t.transB)]
  const rank = Math.max(a.shape.length, b.shape.length) - 2
  const lead = Array.from({ length: rank }, (_, i) =>
    Math.max(...[a, b].map((x) => x.shape.slice(0, -2)[x.shape.length - 2 - rank + i] ?? 1)),
  )
  return array([...lead, m, n], (index) => {
    const [i, j] = index.slice(-2) as [number, number]
    let sum = 0
    for (let p = 0; p < k; p++)
      sum += element(a, index.slice(0, -2), i, p, t.transA) * element(b, index.slice(0, -2), p, j, t.transB)
    return (t.alpha ?? 1) * sum
  })
}

function reduceSum(x: Array64, a: NodeAttributes): Array64 {
  const y = array(x.shape.map((d, i) => (a.axes!.includes(i) ? 1 : d)), () => 0) // prettier-ignore
  const strides = rowMajorStrides(y.shape)
  array(x.shape, (index) => {
    y.data[index.reduce((s, i, axis) => s + (a.axes!.includes(axis) ? 0 : i * strides[axis]), 0)] +=
      (a.alpha ?? 1) * at(x, index)
    return 0
  })
  return y
}

function reduceMax(x: Array64, axis: number): Array64[] {
  const shape = x.shape.with(axis, 1)
  const first = (index: number[]): number => {
    let best = 0
    for (let i = 1; i < x.shape[axis]; i++) if (at(x, index.with(axis, i)) > at(x, index.with(axis, best))) best = i
    return best
  }
  return [array(shape, (i) => at(x, i.with(axis, first(i)))), array(shape, (i) => first(i))]
}

function softmax(x: Array64, axis: number, log: boolean): Array64 {
  return array(x.shape, (index) => {
    const all = Array.from({ length: x.shape[axis] }, (_, i) => at(x, index.with(axis, i)))
    const most = Math.max(...all)
    const logSum = most + Math.log(all.reduce((s, v) => s + Math.exp(v - most), 0))
    return log ? at(x, index) - logSum : Math.exp(at(x, index) - logSum)
  })
}

function concat(inputs: Array64[], axis: number): Array64 {
  const shape = inputs[0].shape.with(axis, inputs.reduce((s, x) => s + x.shape[axis], 0)) // prettier-ignore
  return array(shape, (index) => {
    let position = index[axis]
    for (const x of inputs) {
      if (position < x.shape[axis]) return at(x, index.with(axis, position))
      position -= x.shape[axis]
    }
    return NaN
  })
}

function unslice(x: Array64, a: NodeAttributes, dims: number[]): Array64 {
  return array(dims, (index) => {
    const from = index.map((i, axis) => (i - a.starts![axis]) / a.steps![axis])
    return from.every((i, axis) => Number.isInteger(i) && i >= 0 && i < x.shape[axis]) ? at(x, from) : 0
  })
}

function run(op: string, x: Array64[], a: NodeAttributes, batch: number): Array64[] {
  const dims = (a.dims ?? []).map((d) => (d < 0 ? -d * batch : d))
  const [p, q] = x as [Array64, Array64]
  if (op in unary) {
    const f = (v: number): number => unary[op](v, a.alpha ?? 1, a.beta ?? 0)
    const order = a.order ?? 0
    return [order === 0 ? broadcast([p], f) : broadcast([p, q], (u, v) => derivative(f, order, u) * v)]
  }
  switch (op) {
    case 'Add':
      return [broadcast(x, (u, v) => u + v)]
    case 'Sub':
      return [broadcast(x, (u, v) => u - v)]
    case 'Mul':
      return [broadcast(x, (u, v) => u * v)]
    case 'Div':
      return [broadcast(x, (u, v) => u / v)]
    case 'Where':
      return [broadcast(x, (c, u, v) => (c !== 0 ? u : v))]
    case 'Greater':
      return [broadcast(x, (u, v) => (u > v ? 1 : 0))]
    case 'GreaterOrEqual':
      return [broadcast(x, (u, v) => (u >= v ? 1 : 0))]
    case 'Equal':
      return [broadcast(x, (u, v) => (u === v ? 1 : 0))]
    case 'MatMul':
      return [matMul(x, a)]
    case 'Conv':
      return [conv(x, a)]
    case 'Reshape':
      return [{ shape: dims, data: p.data }]
    case 'Transpose':
      return [array(a.perm!.map((axis) => p.shape[axis]), (i) => at(p, i.map((_, axis) => i[a.perm!.indexOf(axis)])))] // prettier-ignore
    case 'Expand':
      return [array(dims, (i) => at(p, i))]
    case 'Concat':
      return [concat(x, a.axis!)]
    case 'Slice':
      return [array(dims, (i) => at(p, i.map((v, axis) => a.starts![axis] + v * a.steps![axis])))] // prettier-ignore
    case 'Unslice':
      return [unslice(p, a, dims)]
    case 'Gather':
      return [array(p.shape.with(a.axis!, a.indices!.length), (i) => at(p, i.with(a.axis!, a.indices![i[a.axis!]])))]
    case 'ReduceSum':
      return [reduceSum(p, a)]
    case 'ReduceMax':
      return reduceMax(p, a.axis!)
    case 'TakeAlongAxis':
      return [array(q.shape, (i) => at(p, i.with(a.axis!, at(q, i))))]
    case 'Softmax':
    case 'LogSoftmax':
      return [softmax(p, a.axis!, op === 'LogSoftmax')]
    case 'MaxPool':
      return maxPool(x, a)
    case 'PoolGather': {
      const width = p.shape[3]
      return [array(q.shape, (i) => at(p, [i[0], i[1], Math.floor(at(q, i) / width), at(q, i) % width]))]
    }
    case 'AveragePool':
      return [averagePool(x, a)]
    case 'BatchNormalization': {
      const [v, scale, bias, mean, variance] = x as [Array64, Array64, Array64, Array64, Array64]
      return [
        array(v.shape, (i) => {
          const c = [i[1]]
          return (
            ((at(v, i) - at(mean, c)) / Math.sqrt(at(variance, c) + (a.epsilon ?? 1e-5))) * at(scale, c) + at(bias, c)
          )
        }),
      ]
    }
    case 'ConstantOfShape':
      return [array(dims, () => a.alpha ?? 1)]
    case 'StopGradient':
      return [p]
    default:
      throw new Error(`the interpreter has no row ${op}`)
  }
}

/** Values of all ids after a run on inputs [N, ...inputShape]. */
export function interpretAll(
  network: NetworkDescription,
  parameters: TensorMap,
  inputs: ArrayLike<number>,
  tangents: TensorMap = new Map(),
): Map<number, Array64> {
  const values = new Map<number, Array64>()
  const batch = inputs.length / count(network.inputShape)
  const named = (from: TensorMap, name: string): Array64 => {
    const tensor = from.get(name)
    if (!tensor) throw new Error(`the interpreter was given no ${name}`)
    return { shape: [...tensor.shape], data: Float64Array.from(tensor.data) }
  }
  for (const leaf of network.leaves) {
    if (leaf.kind === 'input')
      values.set(leaf.id, { shape: [batch, ...network.inputShape], data: Float64Array.from(inputs) })
    else if (leaf.kind === 'parameter') values.set(leaf.id, named(parameters, leaf.name))
    else if (leaf.kind === 'tangent') values.set(leaf.id, named(tangents, leaf.name))
    else values.set(leaf.id, { shape: [...leaf.shape], data: Float64Array.from(leaf.data) })
  }
  for (const node of network.nodes) {
    const results = run(node.op, node.inputs.filter((id) => id >= 0).map((id) => values.get(id)!), node.attributes, batch) // prettier-ignore
    node.outputs.forEach((id, i) => values.set(id, results[i]))
  }
  return values
}

/** Logits [N, K]. */
export function interpret(
  network: NetworkDescription,
  parameters: TensorMap,
  inputs: ArrayLike<number>,
  tangents: TensorMap = new Map(),
): Array64 {
  return interpretAll(network, parameters, inputs, tangents).get(network.output)!
}
