// ONNX tensors: TensorProto to numbers and back, element types kept.
import { PalimpsestError } from '../errors.js'
import type { Budget } from './budget.js'
import { TensorProto_DataLocation, TensorProto_DataType as DataType, type TensorProto } from './onnx_pb.js'

/** A tensor known at import. Integers and booleans are numbers; int64 beyond 2^53 loses its last digits. */
export interface Known {
  readonly kind: 'known'
  readonly type: DataType
  readonly shape: readonly number[]
  readonly data: Float64Array | Float32Array
  /** Element i is data[i] + batch[i] times the batch size: sizes of axes, and what was computed from them. */
  readonly batch?: Float64Array
  /** The initializer or Constant it is, unchanged. */
  readonly name?: string
}

const floatTypes: ReadonlySet<DataType> = new Set([
  DataType.FLOAT,
  DataType.DOUBLE,
  DataType.FLOAT16,
  DataType.BFLOAT16,
])

export function isFloat(type: DataType): boolean {
  return floatTypes.has(type)
}

export function typeName(type: number): string {
  return DataType[type]?.toLowerCase() ?? `type ${type}`
}

/** How elements of each type lie in raw_data: bytes each, and reader and writer. */
interface Element {
  readonly bytes: number
  readonly get: (view: DataView, at: number) => number
  readonly set: (view: DataView, at: number, value: number) => void
}

const elements: Partial<Record<DataType, Element>> = {
  [DataType.FLOAT]: {
    bytes: 4,
    get: (v, at) => v.getFloat32(at, true),
    set: (v, at, x) => v.setFloat32(at, x, true),
  },
  [DataType.DOUBLE]: {
    bytes: 8,
    get: (v, at) => v.getFloat64(at, true),
    set: (v, at, x) => v.setFloat64(at, x, true),
  },
  [DataType.FLOAT16]: {
    bytes: 2,
    get: (v, at) => halfToNumber(v.getUint16(at, true)),
    set: (v, at, x) => v.setUint16(at, numberToHalf(x), true),
  },
  [DataType.BFLOAT16]: {
    bytes: 2,
    get: (v, at) => brainToNumber(v.getUint16(at, true)),
    set: (v, at, x) => v.setUint16(at, numberToBrain(x), true),
  },
  [DataType.INT64]: { bytes: 8, get: (v, at) => Number(v.getBigInt64(at, true)), set: noWriter },
  [DataType.UINT64]: { bytes: 8, get: (v, at) => Number(v.getBigUint64(at, true)), set: noWriter },
  [DataType.INT32]: { bytes: 4, get: (v, at) => v.getInt32(at, true), set: noWriter },
  [DataType.UINT32]: { bytes: 4, get: (v, at) => v.getUint32(at, true), set: noWriter },
  [DataType.INT16]: { bytes: 2, get: (v, at) => v.getInt16(at, true), set: noWriter },
  [DataType.UINT16]: { bytes: 2, get: (v, at) => v.getUint16(at, true), set: noWriter },
  [DataType.INT8]: { bytes: 1, get: (v, at) => v.getInt8(at), set: noWriter },
  [DataType.UINT8]: { bytes: 1, get: (v, at) => v.getUint8(at), set: noWriter },
  [DataType.BOOL]: { bytes: 1, get: (v, at) => (v.getUint8(at) ? 1 : 0), set: noWriter },
}

function noWriter(): never {
  throw new PalimpsestError('ERR_INTERNAL', 'tensor: expected a float type to write, got an integer type')
}

/** Bytes of one element in raw_data. @throws ERR_UNSUPPORTED for types without numbers */
export function elementBytes(tensor: TensorProto): number {
  const element = elements[tensor.dataType as DataType]
  if (!element) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `tensor "${tensor.name}": expected numbers, got ${typeName(tensor.dataType)}`,
    )
  }
  return element.bytes
}

/** Shape of a stored tensor. @throws ERR_MODEL_FORMAT where it is negative, beyond 2^53 or its product overflows */
export function tensorShape(tensor: TensorProto): number[] {
  const shape = tensor.dims.map(Number)
  const count = shape.reduce((a, b) => a * b, 1)
  if (shape.some((d) => d < 0 || !Number.isSafeInteger(d)) || !Number.isSafeInteger(count)) {
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `tensor "${tensor.name}": expected dimensions whose product stays below 2^53, got [${tensor.dims.join(', ')}]`,
    )
  }
  return shape
}

/**
 * Reads a tensor whose data are in the message (external data are embedded before).
 * @throws ERR_MODEL_FORMAT where its data do not fit its shape, ERR_UNSUPPORTED for other element types
 */
export function decodeTensor(tensor: TensorProto, budget: Budget): Known {
  const shape = tensorShape(tensor)
  const count = shape.reduce((a, b) => a * b, 1)
  const type = tensor.dataType as DataType
  elementBytes(tensor)
  if (tensor.segment || tensor.dataLocation === TensorProto_DataLocation.EXTERNAL) {
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `tensor "${tensor.name}": expected data inside the model, got data elsewhere`,
    )
  }
  const stored = storedCount(tensor, type)
  if (stored !== count) {
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `tensor "${tensor.name}": expected ${count} elements for shape [${shape.join(', ')}], got ${stored}`,
    )
  }
  const wide = type !== DataType.FLOAT && type !== DataType.FLOAT16 && type !== DataType.BFLOAT16
  budget.take(count * (wide ? 8 : 4), `tensor "${tensor.name}"`)
  const data = wide ? new Float64Array(count) : new Float32Array(count)
  copyElements(tensor, type, data)
  return { kind: 'known', type, shape, data, ...(tensor.name ? { name: tensor.name } : {}) }
}

function storedCount(tensor: TensorProto, type: DataType): number {
  if (hasRaw(tensor)) return tensor.rawData.length / elements[type]!.bytes
  return typedField(tensor, type).length
}

export function hasRaw(tensor: TensorProto): boolean {
  return tensor.rawData.length > 0 || Object.hasOwn(tensor, 'rawData')
}

/** The field of TensorProto that holds a type's elements where raw_data does not. */
function typedField(tensor: TensorProto, type: DataType): readonly (number | bigint)[] {
  if (type === DataType.FLOAT) return tensor.floatData
  if (type === DataType.DOUBLE) return tensor.doubleData
  if (type === DataType.INT64) return tensor.int64Data
  return type === DataType.UINT32 || type === DataType.UINT64 ? tensor.uint64Data : tensor.int32Data
}

function copyElements(tensor: TensorProto, type: DataType, into: Float64Array | Float32Array): void {
  if (hasRaw(tensor)) {
    const { bytes, get } = elements[type]!
    const view = new DataView(tensor.rawData.buffer, tensor.rawData.byteOffset, tensor.rawData.byteLength)
    for (let i = 0; i < into.length; i++) into[i] = get(view, i * bytes)
    return
  }
  const field = typedField(tensor, type)
  const read = type === DataType.FLOAT16 ? halfToNumber : type === DataType.BFLOAT16 ? brainToNumber : Number
  for (let i = 0; i < into.length; i++) into[i] = read(Number(field[i]))
}

/**
 * The same tensor with other float values, in the field that held them. Where a value rounds to what was there (as
 * float32), the stored bits stay.
 * @throws ERR_INVALID_ARGUMENT where a value does not fit the stored type
 */
export function encodeFloats(tensor: TensorProto, values: Float32Array): TensorProto {
  const type = tensor.dataType as DataType
  const raw = hasRaw(tensor)
  const { bytes, get, set } = elements[type]!
  const old = raw ? tensor.rawData : new Uint8Array(0)
  const oldView = new DataView(old.buffer, old.byteOffset, old.byteLength)
  const next = new Uint8Array(values.length * bytes)
  const view = new DataView(next.buffer)
  const field = raw ? [] : typedField(tensor, type)
  const list: number[] = []
  for (let i = 0; i < values.length; i++) {
    const before = raw ? get(oldView, i * bytes) : fieldValue(field[i], type)
    const value = Object.is(Math.fround(before), values[i]) ? before : values[i]
    set(view, i * bytes, value)
    if (!Number.isFinite(get(view, i * bytes))) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `weights "${tensor.name}": expected finite ${typeName(type)}, got ${value}`,
      )
    }
    if (!raw) list.push(bytes === 2 ? view.getUint16(i * bytes, true) : get(view, i * bytes))
  }
  const copy = shallow(tensor)
  if (raw) copy.rawData = next
  else if (type === DataType.FLOAT) copy.floatData = list
  else if (type === DataType.DOUBLE) copy.doubleData = list
  else copy.int32Data = list
  return copy
}

function fieldValue(stored: number | bigint, type: DataType): number {
  if (type === DataType.FLOAT16) return halfToNumber(Number(stored))
  return type === DataType.BFLOAT16 ? brainToNumber(Number(stored)) : Number(stored)
}

/** A copy of a message that shares its fields; unset fields stay unset. */
export function shallow<T extends object>(message: T): T {
  return Object.assign(Object.create(Object.getPrototypeOf(message) as object) as T, message)
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024))
}

/** Nearest half, ties to even. */
function numberToHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(value)) return 0x7e00
  if (size >= 65520) return sign | 0x7c00
  const exponent = Math.max(Math.floor(Math.log2(size || 2 ** -30)), -14)
  const units = roundToEven(size / 2 ** (exponent - 10)) // 1024 to 2048 for normal numbers; 2048 carries by itself
  return sign | (units + ((exponent + 14) << 10))
}

function roundToEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
}

const word = new DataView(new ArrayBuffer(4))

function brainToNumber(bits: number): number {
  word.setUint32(0, bits << 16)
  return word.getFloat32(0)
}

/** Nearest bfloat16, ties to even. */
function numberToBrain(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** The first of the slices along an axis in the place of all. */
export function firstRepeated<T extends Float32Array | Float64Array>(
  data: T,
  shape: readonly number[],
  axis: number,
): T {
  const width = shape.slice(axis + 1).reduce((a, b) => a * b, 1)
  const group = width * shape[axis]
  return data.map((_, i) => data[i - (i % group) + (i % width)]) as T
}

/** Whether all slices along an axis are the same. */
export function areAlike(data: Float32Array | Float64Array, shape: readonly number[], axis: number): boolean {
  const first = firstRepeated(data, shape, axis)
  return data.every((value, i) => value === first[i])
}
