// Compositions that exporters write for one function, recognised while rows are appended.
import type { NodeAttributes } from '../network.js'
import type { NetworkGraph, Value } from '../networks/graph.js'

/** Relative difference within which a constant counts as the one looked for: constants come in float32. */
const tolerance = 1e-6

function near(x: number, y: number): boolean {
  return Math.abs(x - y) <= tolerance * Math.abs(y)
}

/** alpha x + beta; consecutive ones become one, and the identity nothing. */
export function affine(graph: NetworkGraph, x: Value, alpha: number, beta: number): Value {
  const inner = undoAffine(graph, x)
  const merged = inner.x !== x
  const [a, b] = [alpha * inner.alpha, alpha * inner.beta + beta]
  // Two constants of float32 that undo each other leave a rounding error.
  const scale = merged && near(a, 1) ? 1 : a
  const shift = merged && Math.abs(b) <= tolerance * Math.abs(beta) ? 0 : b
  return scale === 1 && shift === 0 ? inner.x : graph.append('Affine', [inner.x], { alpha: scale, beta: shift })
}

/** op(a) b with the transposition of b's matrices, where something just made it, as an attribute. */
export function matMul(graph: NetworkGraph, a: Value, b: Value, attributes: NodeAttributes = {}): Value {
  const node = graph.producer(b.id)
  const perm = node?.op === 'Transpose' ? node.attributes.perm! : []
  const last = perm.length - 1
  const swaps = last > 0 && perm.every((axis, i) => axis === (i === last ? last - 1 : i === last - 1 ? last : i))
  if (!swaps) return graph.append('MatMul', [a, b], attributes)
  return graph.append('MatMul', [a, graph.valueOf(node!.inputs[0])], { ...attributes, transB: !attributes.transB })
}

/** a b, or the function that this product completes: SiLU, HardSwish, Mish, GELU in both forms. */
export function fusedProduct(graph: NetworkGraph, a: Value, b: Value): Value | undefined {
  return gated(graph, a, b) ?? gated(graph, b, a)
}

interface Scaled {
  readonly x: Value
  readonly alpha: number
  readonly beta: number
}

/** value = alpha x + beta. */
function undoAffine(graph: NetworkGraph, value: Value): Scaled {
  const node = graph.producer(value.id)
  if (node?.op !== 'Affine') return { x: value, alpha: 1, beta: 0 }
  return { x: graph.valueOf(node.inputs[0]), alpha: node.attributes.alpha ?? 1, beta: node.attributes.beta ?? 0 }
}

/** The input of `value` where it is computed by `op`. */
function undo(graph: NetworkGraph, op: string, value: Value): Value | undefined {
  const node = graph.producer(value.id)
  return node?.op === op ? graph.valueOf(node.inputs[0]) : undefined
}

/** x gate(x) */
function gated(graph: NetworkGraph, x: Value, gate: Value): Value | undefined {
  const node = graph.producer(gate.id)
  if (node?.op === 'Sigmoid' && node.inputs[0] === x.id) return graph.append('Silu', [x])
  if (node?.op === 'HardSigmoid' && node.inputs[0] === x.id) {
    const { alpha = 0, beta = 0 } = node.attributes
    return near(alpha, 1 / 6) && near(beta, 1 / 2) ? graph.append('HardSwish', [x]) : undefined
  }
  if (node?.op === 'Clip') return clippedGate(graph, x, gate)
  if (node?.op === 'Tanh') {
    const inner = undo(graph, 'Softplus', undo(graph, 'Tanh', gate)!)
    return inner?.id === x.id ? graph.append('Mish', [x]) : undefined
  }
  return geluGate(graph, x, gate)
}

/** x min(max(x + 3, 0), 6) = 6 HardSwish(x) */
function clippedGate(graph: NetworkGraph, x: Value, gate: Value): Value | undefined {
  const { alpha = 0, beta = 0 } = graph.producer(gate.id)!.attributes
  const inner = undoAffine(graph, undo(graph, 'Clip', gate)!)
  if (alpha !== 0 || beta !== 6 || inner.x.id !== x.id || inner.alpha !== 1 || inner.beta !== 3) return undefined
  return affine(graph, graph.append('HardSwish', [x]), 6, 0)
}

/** s x (c + c F(x)) = 2 s c GELU(x), F the error function or the tanh of the approximate form. */
function geluGate(graph: NetworkGraph, scaled: Value, gate: Value): Value | undefined {
  const { x, alpha, beta } = undoAffine(graph, scaled)
  const outer = undoAffine(graph, gate)
  if (beta !== 0 || !near(outer.alpha, outer.beta)) return undefined
  const erf = undo(graph, 'Erf', outer.x)
  const tanh = undo(graph, 'Tanh', outer.x)
  const exact = erf && isScaled(graph, erf, x, Math.SQRT1_2)
  if (!exact && !(tanh && isTanhArgument(graph, tanh, x))) return undefined
  const scale = 2 * alpha * outer.alpha
  return affine(graph, graph.append(exact ? 'Gelu' : 'GeluTanh', [x]), near(scale, 1) ? 1 : scale, 0)
}

function isScaled(graph: NetworkGraph, value: Value, x: Value, factor: number): boolean {
  const inner = undoAffine(graph, value)
  return inner.x.id === x.id && inner.beta === 0 && near(inner.alpha, factor)
}

/** sqrt(2/pi) (x + 0.044715 x^3), as a sum or as the product x (1 + 0.044715 x^2). */
function isTanhArgument(graph: NetworkGraph, value: Value, x: Value): boolean {
  const { x: inner, alpha, beta } = undoAffine(graph, value)
  const node = graph.producer(inner.id)
  if (beta !== 0 || !node) return false
  const operands = node.inputs.map((id) => graph.valueOf(id))
  for (const [p, q] of [operands, operands.toReversed()] as [Value, Value][]) {
    if (node.op === 'Add' && p.id === x.id && isPower(graph, q, x, 3, 0.044715))
      return near(alpha, Math.sqrt(2 / Math.PI))
    if (node.op === 'Mul') {
      const [left, right] = [undoAffine(graph, p), undoAffine(graph, q)]
      const square = isPower(graph, right.x, x, 2, 1)
      if (left.x.id !== x.id || left.beta !== 0 || !square || !near(right.alpha, 0.044715 * right.beta)) continue
      return near(alpha * left.alpha * right.beta, Math.sqrt(2 / Math.PI))
    }
  }
  return false
}

/** value = factor x^power */
function isPower(graph: NetworkGraph, value: Value, x: Value, power: number, factor: number): boolean {
  const { x: inner, alpha, beta } = undoAffine(graph, value)
  if (beta !== 0 || !near(alpha, factor)) return false
  const node = graph.producer(inner.id)
  if (node?.op === 'Pow') return node.inputs[0] === x.id && node.attributes.alpha === power
  if (node?.op !== 'Mul') return false
  const [a, b] = node.inputs as [number, number]
  if (power === 2) return a === x.id && b === x.id
  const other = a === x.id ? b : b === x.id ? a : -1
  return other >= 0 && isPower(graph, graph.valueOf(other), x, 2, 1)
}
