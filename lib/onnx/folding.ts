// Arithmetic on tensors known at import: shapes, with the batch size left open, and constants.
import { PalimpsestError } from '../errors.js'
import type { Budget } from './budget.js'
import { broadcastStrides, rounderOf, type Linear } from './known.js'
import { TensorProto_DataType as DataType } from './onnx_pb.js'
import { isFloat, type Known } from './tensors.js'

export type BinaryName =
  | 'Add' | 'Sub' | 'Mul' | 'Div' | 'Mod' | 'Pow' | 'Min' | 'Max' | 'Equal' | 'Greater' | 'GreaterOrEqual' | 'And' | 'Or' // prettier-ignore

const comparisons: ReadonlySet<BinaryName> = new Set(['Equal', 'Greater', 'GreaterOrEqual', 'And', 'Or'])

/** NumPy broadcasting of two known shapes. @throws ERR_SHAPE */
export function broadcastShapes(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, i) => {
    const [p, q] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1]
    if (p !== q && p !== 1 && q !== 1) {
      throw new PalimpsestError(
        'ERR_SHAPE',
        `expected shapes that broadcast, got [${a.join(', ')}] and [${b.join(', ')}]`,
      )
    }
    return p === 1 ? q : p
  })
}

export function foldBinary(name: BinaryName, a: Known, b: Known, budget: Budget): Known {
  const shape = broadcastShapes(a.shape, b.shape)
  const type = comparisons.has(name) ? DataType.BOOL : a.type
  const round = rounderOf(type)
  const whole = !isFloat(a.type)
  return combined(type, shape, budget, [a, b], ([x, y]) => {
    const result = linearBinary(name, x, y, whole)
    return { constant: round(result.constant), batch: result.batch }
  })
}

/** c != 0 ? a : b */
export function foldWhere(condition: Known, a: Known, b: Known, budget: Budget): Known {
  const shape = broadcastShapes(broadcastShapes(condition.shape, a.shape), b.shape)
  return combined(a.type, shape, budget, [condition, a, b], ([c, x, y]) => (constantOf(c) !== 0 ? x : y))
}

export function foldUnary(known: Known, budget: Budget, f: (x: number) => number, type = known.type): Known {
  const round = rounderOf(type)
  return combined(type, known.shape, budget, [known], ([x]) => ({ constant: round(f(constantOf(x))), batch: 0 }))
}

/** Reduction over `axes`, which stay with size 1. */
export function foldReduce(
  known: Known,
  axes: readonly number[],
  budget: Budget,
  start: number,
  f: (sum: number, x: number) => number,
): Known {
  const shape = known.shape.map((d, i) => (axes.includes(i) ? 1 : d))
  const strides = broadcastStrides(shape, known.shape)
  const count = shape.reduce((a, b) => a * b, 1)
  budget.take(count * 8, 'a constant')
  const data = new Float64Array(count).fill(start)
  const index = new Array<number>(known.shape.length).fill(0)
  for (let i = 0; i < known.data.length; i++) {
    const at = index.reduce((sum, n, axis) => sum + n * strides[axis], 0)
    data[at] = f(data[at], constantOf({ constant: known.data[i], batch: known.batch?.[i] ?? 0 }))
    advance(index, known.shape)
  }
  return { kind: 'known', type: known.type, shape, data: data.map(rounderOf(known.type)) }
}

function combined(
  type: DataType,
  shape: readonly number[],
  budget: Budget,
  operands: readonly Known[],
  f: (elements: Linear[]) => Linear,
): Known {
  const count = shape.reduce((a, b) => a * b, 1)
  budget.take(count * 16, 'a constant')
  const data = new Float64Array(count)
  const batch = new Float64Array(count)
  const strides = operands.map((o) => broadcastStrides(o.shape, shape))
  const index = new Array<number>(shape.length).fill(0)
  for (let i = 0; i < count; i++) {
    const result = f(
      operands.map((o, k) => {
        const at = index.reduce((sum, n, axis) => sum + n * strides[k][axis], 0)
        return { constant: o.data[at], batch: o.batch?.[at] ?? 0 }
      }),
    )
    data[i] = result.constant
    batch[i] = result.batch
    advance(index, shape)
  }
  return { kind: 'known', type, shape, data, ...(batch.some((k) => k !== 0) ? { batch } : {}) }
}

function advance(index: number[], shape: readonly number[]): void {
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (++index[axis] < shape[axis]) return
    index[axis] = 0
  }
}

function open(what: string): PalimpsestError {
  return new PalimpsestError('ERR_UNSUPPORTED', `expected a value that is the same for every batch size, got ${what}`)
}

function constantOf(x: Linear): number {
  if (x.batch !== 0) throw open(`${x.constant} + ${x.batch} N`)
  return x.constant
}

function linearBinary(name: BinaryName, x: Linear, y: Linear, whole: boolean): Linear {
  if (x.batch === 0 && y.batch === 0) return { constant: scalarBinary(name, x.constant, y.constant, whole), batch: 0 }
  switch (name) {
    case 'Add':
      return { constant: x.constant + y.constant, batch: x.batch + y.batch }
    case 'Sub':
      return { constant: x.constant - y.constant, batch: x.batch - y.batch }
    case 'Mul': {
      if (x.batch !== 0 && y.batch !== 0) throw open('a square of the batch size')
      return { constant: x.constant * y.constant, batch: x.constant * y.batch + x.batch * y.constant }
    }
    case 'Div':
      return linearDiv(x, y, whole)
    case 'Mod': {
      const divisor = constantOf(y)
      if (x.batch % divisor !== 0) throw open('a remainder of the batch size')
      return { constant: scalarBinary('Mod', x.constant, divisor, whole), batch: 0 }
    }
    case 'Min':
      return greater(x, y, false) ? y : x
    case 'Max':
      return greater(x, y, false) ? x : y
    case 'Equal':
      return { constant: equal(x, y) ? 1 : 0, batch: 0 }
    case 'Greater':
      return { constant: greater(x, y, false) ? 1 : 0, batch: 0 }
    case 'GreaterOrEqual':
      return { constant: greater(x, y, true) ? 1 : 0, batch: 0 }
    case 'Pow':
    case 'And':
    case 'Or':
      throw open(`${name} of the batch size`)
  }
}

function linearDiv(x: Linear, y: Linear, whole: boolean): Linear {
  if (y.batch !== 0) {
    // (k N) / (m N)
    if (x.constant === 0 && y.constant === 0)
      return { constant: scalarBinary('Div', x.batch, y.batch, whole), batch: 0 }
    throw open('a division by the batch size')
  }
  const result = { constant: x.constant / y.constant, batch: x.batch / y.constant }
  if (whole && !(Number.isInteger(result.constant) && Number.isInteger(result.batch))) {
    throw open(`(${x.constant} + ${x.batch} N) / ${y.constant}`)
  }
  return result
}

/** x > y (or x >= y) for every batch size from 1 on. */
function greater(x: Linear, y: Linear, orEqual: boolean): boolean {
  const [atOne, slope] = [x.constant - y.constant + x.batch - y.batch, x.batch - y.batch]
  const holds = orEqual ? atOne >= 0 : atOne > 0
  if (holds ? slope >= 0 : slope <= 0) return holds
  throw open('a comparison with the batch size')
}

function equal(x: Linear, y: Linear): boolean {
  const [constant, slope] = [x.constant - y.constant, x.batch - y.batch]
  if (slope === 0) return constant === 0
  const root = -constant / slope
  if (root >= 1 && Number.isInteger(root)) throw open('a comparison with the batch size')
  return false
}

function scalarBinary(name: BinaryName, x: number, y: number, whole: boolean): number {
  switch (name) {
    case 'Add':
      return x + y
    case 'Sub':
      return x - y
    case 'Mul':
      return x * y
    case 'Div':
      if (whole && y === 0) throw new PalimpsestError('ERR_MODEL_FORMAT', 'expected a divisor other than 0, got 0')
      return whole ? Math.trunc(x / y) : x / y
    case 'Mod':
      if (y === 0) throw new PalimpsestError('ERR_MODEL_FORMAT', 'expected a divisor other than 0, got 0')
      return whole ? x - Math.floor(x / y) * y : x % y
    case 'Pow':
      return x ** y
    case 'Min':
      return Math.min(x, y)
    case 'Max':
      return Math.max(x, y)
    case 'Equal':
      return x === y ? 1 : 0
    case 'Greater':
      return x > y ? 1 : 0
    case 'GreaterOrEqual':
      return x >= y ? 1 : 0
    case 'And':
      return x !== 0 && y !== 0 ? 1 : 0
    case 'Or':
      return x !== 0 || y !== 0 ? 1 : 0
  }
}
