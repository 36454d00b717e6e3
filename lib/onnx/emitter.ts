// What operators are lowered with: operations on tensors that are known at import (folded) or computed by rows (appended).
import { PalimpsestError } from '../errors.js'
import type { Dimension, NodeAttributes } from '../network.js'
import { batchAxis, product, sameDims } from '../networks/dims.js'
import type { NetworkGraph, Value } from '../networks/graph.js'
import type { UnaryRow } from '../networks/rows.js'
import type { Budget } from './budget.js'
import { foldBinary, foldReduce, foldUnary, foldWhere } from './folding.js'
import { concatKnown, expandKnown, gatherKnown, reshapeKnown, sliceKnown, transposeKnown } from './known.js'
import { affine, fusedProduct, matMul } from './patterns.js'
import { isFloat, type Known } from './tensors.js'

/** A value of a row; `boolean` where it is a mask of 0 and 1 that ONNX types as bool. */
export interface Computed {
  readonly kind: 'computed'
  readonly value: Value
  readonly boolean: boolean
}

export type Tensor = Known | Computed

/** A list of tensors, as SplitToSequence makes it. */
export interface Sequence {
  readonly kind: 'sequence'
  readonly items: readonly Tensor[]
}

/** Whole numbers slope n + offsets, n the example: offsets [1, ..] repeated along the batch axis. */
export interface Positions {
  readonly kind: 'positions'
  readonly slope: number
  readonly offsets: Known
}

export type Operand = Tensor | Sequence | Positions

export type Arithmetic = 'Add' | 'Sub' | 'Mul' | 'Div'
export type Comparison = 'Equal' | 'Greater' | 'GreaterOrEqual'

const foldableUnary: Partial<Record<UnaryRow, (x: number) => number>> = {
  Abs: Math.abs,
  Exp: Math.exp,
  Log: Math.log,
  Reciprocal: (x) => 1 / x,
  Sqrt: Math.sqrt,
}

export function dimsOf(x: Tensor): readonly Dimension[] {
  return x.kind === 'known' ? x.shape : x.value.dims
}

export function computed(value: Value, boolean = false): Computed {
  return { kind: 'computed', value, boolean }
}

export class Emitter {
  /** Parameters of which a fixed batch has one for each example, all alike, with the axis; the first is what is used. */
  readonly repeated = new Map<string, number>()
  readonly #constants = new Map<Known, Value>()

  constructor(
    readonly graph: NetworkGraph,
    readonly budget: Budget,
    /** The batch size that the file fixes, if it does; shapes in the file then hold it as a number. */
    readonly fixedBatch: number | undefined,
  ) {}

  /** The row value of a tensor; what is known becomes a constant of the network. */
  value(x: Tensor): Value {
    if (x.kind === 'computed') return x.value
    let value = this.#constants.get(x)
    if (!value) {
      if (x.batch)
        throw new PalimpsestError(
          'ERR_UNSUPPORTED',
          'expected numbers that do not depend on the batch size, got some that do',
        )
      this.budget.take(4 * x.data.length, 'a constant')
      if (isFloat(x.type) && x.data.some(Number.isNaN)) {
        throw new PalimpsestError(
          'ERR_MODEL_FORMAT',
          `constant${x.name ? ` "${x.name}"` : ''}: expected numbers, got NaN`,
        )
      }
      value = this.graph.constant(x.shape, Float32Array.from(x.data), x.name)
      this.#constants.set(x, value)
    }
    return value
  }

  row(op: string, inputs: readonly Tensor[], attributes: NodeAttributes = {}): Computed {
    return computed(
      this.graph.append(
        op,
        inputs.map((x) => this.value(x)),
        attributes,
      ),
    )
  }

  unary(op: UnaryRow, x: Tensor, attributes: NodeAttributes = {}): Tensor {
    const fold = foldableUnary[op]
    return x.kind === 'known' && fold ? foldUnary(x, this.budget, fold) : this.row(op, [x], attributes)
  }

  /** alpha x + beta */
  affine(x: Tensor, alpha: number, beta: number): Tensor {
    if (x.kind === 'computed') return computed(affine(this.graph, x.value, alpha, beta), false)
    return alpha === 1 && beta === 0 ? x : foldUnary(x, this.budget, (v) => alpha * v + beta)
  }

  /** Add, Sub, Mul or Div with broadcasting; a constant that is the same everywhere becomes part of an Affine row. */
  arithmetic(op: Arithmetic, a: Tensor, b: Tensor): Tensor {
    if (a.kind === 'known' && b.kind === 'known') return foldBinary(op, a, b, this.budget)
    const right = uniform(b, a)
    if (right !== undefined) {
      if (op === 'Add' || op === 'Sub') return this.affine(a, 1, op === 'Add' ? right : -right)
      return this.affine(a, op === 'Mul' ? right : 1 / right, 0)
    }
    const left = uniform(a, b)
    if (left !== undefined) {
      if (op === 'Add' || op === 'Sub') return this.affine(b, op === 'Add' ? 1 : -1, left)
      return this.affine(op === 'Mul' ? b : this.unary('Reciprocal', b), left, 0)
    }
    const [x, y] = [this.value(a), this.value(b)]
    const fused = op === 'Mul' ? fusedProduct(this.graph, x, y) : undefined
    return computed(fused ?? this.graph.append(op, [x, y]))
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.arithmetic('Add', a, b)
  }

  mul(a: Tensor, b: Tensor): Tensor {
    return this.arithmetic('Mul', a, b)
  }

  matMul(a: Tensor, b: Tensor, attributes: NodeAttributes = {}): Tensor {
    return computed(matMul(this.graph, this.value(a), this.value(b), attributes))
  }

  /** 1 where the comparison holds, else 0. */
  compare(op: Comparison, a: Tensor, b: Tensor): Tensor {
    if (a.kind === 'known' && b.kind === 'known') return foldBinary(op, a, b, this.budget)
    return { ...this.row(op, [a, b]), boolean: true }
  }

  /** condition != 0 ? a : b */
  where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
    if (condition.kind === 'known' && a.kind === 'known' && b.kind === 'known') {
      return foldWhere(condition, a, b, this.budget)
    }
    return this.row('Where', [condition, a, b])
  }

  reshape(x: Tensor, dims: readonly Dimension[]): Tensor {
    if (x.kind === 'computed') return computed(this.graph.reshape(x.value, dims), x.boolean)
    if (product(dims) !== x.data.length) {
      throw new PalimpsestError('ERR_SHAPE', `expected ${x.data.length} elements, got shape [${dims.join(', ')}]`)
    }
    return sameDims(dims, x.shape) ? x : reshapeKnown(x, [...dims])
  }

  transpose(x: Tensor, perm: readonly number[]): Tensor {
    if (x.kind === 'known') return transposeKnown(x, perm, this.budget)
    return computed(this.graph.transpose(x.value, perm), x.boolean)
  }

  /** y[i] = x[starts + i steps] */
  slice(x: Tensor, starts: readonly number[], steps: readonly number[], dims: readonly Dimension[]): Tensor {
    if (sameDims(dims, dimsOf(x)) && steps.every((s, i) => s === 1 || dims[i] === 1)) return x
    if (x.kind === 'known') return sliceKnown(x, starts, steps, dims, this.budget)
    const attributes = { starts: [...starts], steps: [...steps], dims: [...dims] }
    return { ...this.row('Slice', [x], attributes), boolean: x.boolean }
  }

  /** Positions from `start` to `start + length` of one axis. */
  narrow(x: Tensor, axis: number, start: number, length: number): Tensor {
    const dims = dimsOf(x)
    const starts = dims.map((_, i) => (i === axis ? start : 0))
    return this.slice(x, starts, dims.map(() => 1), dims.with(axis, length)) // prettier-ignore
  }

  /** y[starts + i] = x[i], zero elsewhere. */
  unslice(x: Tensor, starts: readonly number[], dims: readonly Dimension[]): Tensor {
    return this.row('Unslice', [x], { starts: [...starts], steps: dims.map(() => 1), dims: [...dims] })
  }

  gather(x: Tensor, axis: number, indices: readonly number[]): Tensor {
    if (x.kind === 'known') return gatherKnown(x, axis, indices, this.budget)
    return { ...this.row('Gather', [x], { axis, indices: [...indices] }), boolean: x.boolean }
  }

  expand(x: Tensor, dims: readonly Dimension[]): Tensor {
    if (x.kind === 'known' && batchAxis(dims) < 0) return expandKnown(x, dims, this.budget)
    return computed(this.graph.expand(this.value(x), dims), x.kind === 'computed' && x.boolean)
  }

  concat(parts: readonly Tensor[], axis: number): Tensor {
    if (parts.length === 1) return parts[0]
    const known = parts.filter((p) => p.kind === 'known')
    return known.length === parts.length ? concatKnown(known, axis, this.budget) : this.row('Concat', parts, { axis })
  }

  /** alpha times the sum over `axes`, which stay with size 1. */
  sum(x: Tensor, axes: readonly number[], alpha = 1): Tensor {
    if (axes.length === 0) return this.affine(x, alpha, 0)
    if (x.kind === 'known')
      return this.affine(
        foldReduce(x, axes, this.budget, 0, (s, v) => s + v),
        alpha,
        0,
      )
    return this.row('ReduceSum', [x], { axes: [...axes], alpha })
  }

  mean(x: Tensor, axes: readonly number[]): Tensor {
    const dims = dimsOf(x)
    return this.sum(x, axes, 1 / axes.reduce((count, axis) => count * dims[axis], 1))
  }

  /** Maximum over `axes`, which stay with size 1. */
  max(x: Tensor, axes: readonly number[]): Tensor {
    if (x.kind === 'known') return foldReduce(x, axes, this.budget, -Infinity, Math.max)
    return axes.reduce<Tensor>((y, axis) => this.row('ReduceMax', [y], { axis }), x)
  }
}

/** The one number of a constant that `other` needs no broadcasting for; undefined where there is none. */
function uniform(x: Tensor, other: Tensor): number | undefined {
  if (x.kind !== 'known' || x.batch || x.data.length === 0) return undefined
  const dims = dimsOf(other)
  const lead = dims.length - x.shape.length
  if (lead < 0 || x.shape.some((d, i) => d !== 1 && d !== dims[lead + i])) return undefined
  const first = x.data[0]
  return Number.isFinite(first) && x.data.every((v) => v === first) ? first : undefined
}
