// Matrix products: MatMul, Gemm, and Einsum of one or two tensors.
import type { Dimension } from '../../network.js'
import { product } from '../../networks/dims.js'
import { dimsOf, type Tensor } from '../emitter.js'
import { lowering, type Lowering, type NodeScope } from '../scope.js'

/** Vectors become matrices of one row (left) or one column (right) and lose that axis again. */
const matMul = lowering(2, 2, (s) => {
  const [a, b] = [s.input(0), s.input(1)]
  const [p, q] = [dimsOf(a), dimsOf(b)]
  if (p.length === 0 || q.length === 0) return s.shapeError('expected vectors or matrices, got a scalar')
  const left = p.length === 1 ? s.emit.reshape(a, [1, p[0]]) : a
  const right = q.length === 1 ? s.emit.reshape(b, [q[0], 1]) : b
  const y = s.emit.matMul(left, right)
  const dims = [...dimsOf(y)]
  if (q.length === 1) dims.pop()
  if (p.length === 1) dims.splice(dims.length - (q.length === 1 ? 1 : 2), 1)
  return s.emit.reshape(y, dims)
})

/** alpha op(a) op(b) + beta c */
const gemm = lowering(2, 3, (s) => {
  if (s.rank(0) !== 2 || s.rank(1) !== 2) return s.shapeError('expected two matrices')
  const y = s.emit.matMul(s.input(0), s.input(1), {
    transA: s.attributes.int('transA', 0) !== 0,
    transB: s.attributes.int('transB', 0) !== 0,
    alpha: s.attributes.float('alpha', 1),
  })
  const c = s.optional(2)
  return c ? s.emit.add(y, s.emit.affine(c, s.attributes.float('beta', 1), 0)) : y
})

/** A tensor whose axes are named by letters. */
interface Labelled {
  readonly x: Tensor
  readonly labels: readonly string[]
}

const einsum = lowering(1, 2, (s) => {
  const { operands, result } = parseEquation(s)
  const [a, b] = operands
  const single = b
    ? contract(s, summed(s, a, b.labels, result), summed(s, b, a.labels, result), result)
    : summed(s, a, [], result)
  return arranged(s, single, result)
})

function parseEquation(s: NodeScope): { operands: Labelled[]; result: string[] } {
  const equation = s.attributes.string('equation', '').replaceAll(' ', '')
  const [left, right] = equation.split('->') as [string, string | undefined]
  const terms = left.split(',')
  if (!/^[a-zA-Z,]+(->[a-zA-Z]*)?$/.test(equation) || terms.length !== s.count) {
    return s.unsupported(`expected an equation of ${s.count} operands in letters, got "${equation}"`)
  }
  const operands = terms.map((term, i): Labelled => {
    const labels = [...term]
    if (new Set(labels).size !== labels.length) s.unsupported(`expected every letter once an operand, got "${term}"`)
    if (labels.length !== s.rank(i)) s.shapeError(`expected operand ${i} of rank ${labels.length}, got ${s.rank(i)}`)
    return { x: s.input(i), labels }
  })
  const once = [...new Set(left.replaceAll(',', ''))].filter((l) => left.split(l).length === 2).sort()
  return { operands, result: right === undefined ? once : [...right] }
}

/** Sums the axes that neither the other operand nor the result names. */
function summed(s: NodeScope, a: Labelled, other: readonly string[], result: readonly string[]): Labelled {
  const lone = a.labels.flatMap((l, i) => (other.includes(l) || result.includes(l) ? [] : [i]))
  if (lone.length === 0) return a
  const dims = dimsOf(a.x).filter((_, i) => !lone.includes(i))
  return { x: s.emit.reshape(s.emit.sum(a.x, lone), dims), labels: a.labels.filter((_, i) => !lone.includes(i)) }
}

/** Two operands as one product of matrices [shared.., rows, inner] [shared.., inner, columns]. */
function contract(s: NodeScope, a: Labelled, b: Labelled, result: readonly string[]): Labelled {
  const common = a.labels.filter((l) => b.labels.includes(l))
  const shared = common.filter((l) => result.includes(l))
  const inner = common.filter((l) => !result.includes(l))
  const rows = a.labels.filter((l) => !common.includes(l))
  const columns = b.labels.filter((l) => !common.includes(l))
  const size = (of: Labelled, labels: readonly string[]): Dimension[] =>
    labels.map((l) => dimsOf(of.x)[of.labels.indexOf(l)])
  const left = s.emit.reshape(arranged(s, a, [...shared, ...rows, ...inner]), [
    ...size(a, shared),
    product(size(a, rows)),
    product(size(a, inner)),
  ])
  const right = s.emit.reshape(arranged(s, b, [...shared, ...inner, ...columns]), [
    ...size(b, shared),
    product(size(b, inner)),
    product(size(b, columns)),
  ])
  const y = s.emit.matMul(left, right)
  const lead = dimsOf(y).slice(0, shared.length)
  return {
    x: s.emit.reshape(y, [...lead, ...size(a, rows), ...size(b, columns)]),
    labels: [...shared, ...rows, ...columns],
  }
}

function arranged(s: NodeScope, a: Labelled, labels: readonly string[]): Tensor {
  if (labels.length !== a.labels.length || labels.some((l) => !a.labels.includes(l))) {
    return s.malformed(`expected a result of the letters ${a.labels.join('')}, got ${labels.join('')}`)
  }
  return s.emit.transpose(a.x, labels.map((l) => a.labels.indexOf(l))) // prettier-ignore
}

export const linear: Readonly<Record<string, Lowering>> = { MatMul: matMul, Gemm: gemm, Einsum: einsum }
