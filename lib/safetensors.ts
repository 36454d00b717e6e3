// Safetensors files: tensors by name with metadata, every bound checked on reading.
import { PalimpsestError } from './errors.js'
import type { TensorMap } from './network.js'

export type TensorData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array

export interface TypedTensor {
  shape: readonly number[]
  data: TensorData
}

export interface Safetensors<T> {
  tensors: Map<string, T>
  metadata: Record<string, string>
}

interface Entry {
  readonly name: string
  readonly dtype: DType
  readonly shape: number[]
  readonly begin: number
  readonly end: number
}

type DType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'U8' | 'BOOL'

const bytesOf: Readonly<Record<DType, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U8: 1, BOOL: 1 }

const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/** The format's own limit on its header. */
const longestHeader = 100_000_000

function malformed(message: string): PalimpsestError {
  return new PalimpsestError('ERR_MODEL_FORMAT', `safetensors: ${message}`)
}

/**
 * Weights by name as float32; wider and narrower types are rounded to it, integers must be exact in it.
 * @throws ERR_MODEL_FORMAT where the bytes are no safetensors file, ERR_UNSUPPORTED for other element types
 */
export function readSafetensors(bytes: Uint8Array): { tensors: TensorMap; metadata: Record<string, string> } {
  const { tensors, metadata } = readTypedSafetensors(bytes)
  const floats: TensorMap = new Map()
  for (const [name, { shape, data }] of tensors) {
    const values = data instanceof Float32Array ? data : Float32Array.from(data as ArrayLike<number | bigint>, Number)
    if (
      !(data instanceof Float32Array || data instanceof Float64Array) &&
      values.some((v, i) => v !== Number(data[i]))
    ) {
      throw new PalimpsestError(
        'ERR_UNSUPPORTED',
        `safetensors: expected "${name}" to hold integers within 2^24, got larger ones`,
      )
    }
    floats.set(name, { shape: [...shape], data: values })
  }
  return { tensors: floats, metadata }
}

/** Tensors by name in their own types (half types as float32). @throws as readSafetensors */
export function readTypedSafetensors(bytes: Uint8Array): Safetensors<TypedTensor> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 8) throw malformed(`expected at least 8 bytes, got ${bytes.length}`)
  const length = Number(view.getBigUint64(0, true))
  if (length > longestHeader || 8 + length > bytes.length) {
    throw malformed(`expected a header of at most ${Math.min(longestHeader, bytes.length - 8)} bytes, got ${length}`)
  }
  const { entries, metadata } = parseHeader(bytes.subarray(8, 8 + length))
  checkCoverage(entries, bytes.length - 8 - length)
  const tensors = new Map<string, TypedTensor>()
  for (const entry of entries) {
    tensors.set(entry.name, { shape: entry.shape, data: decode(entry, view, 8 + length + entry.begin) })
  }
  return { tensors, metadata }
}

function parseHeader(bytes: Uint8Array): { entries: Entry[]; metadata: Record<string, string> } {
  let header: unknown
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    header = JSON.parse(text)
  } catch (cause) {
    throw new PalimpsestError('ERR_MODEL_FORMAT', 'safetensors: expected a header in JSON, got something else', {
      cause,
    })
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw malformed('expected a JSON object as header')
  const fields = Object.entries(header as Record<string, unknown>)
  if (topLevelKeys(text) !== fields.length) throw malformed('expected every name once, got one twice')
  let metadata: Record<string, string> = {}
  const entries: Entry[] = []
  for (const [name, value] of fields) {
    if (name === '__metadata__') metadata = checkMetadata(value)
    else entries.push(checkEntry(name, value))
  }
  return { entries, metadata }
}

/** How many keys the outermost object has as text; JSON.parse keeps the last of equal ones silently. */
function topLevelKeys(text: string): number {
  let [depth, keys] = [0, 0]
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/gs)) {
    if (token === '{' || token === '[') depth++
    else if (token === '}' || token === ']') depth--
    else if (token === ':' && depth === 1) keys++
  }
  return keys
}

function checkMetadata(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null || Object.values(value).some((v) => typeof v !== 'string')) {
    throw malformed('expected __metadata__ to map names to strings')
  }
  return { ...(value as Record<string, string>) }
}

function checkEntry(name: string, value: unknown): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>
  if (typeof dtype !== 'string' || !Object.hasOwn(bytesOf, dtype)) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `safetensors: expected "${name}" of type ${Object.keys(bytesOf).join(', ')}, got ${String(dtype)}`,
    )
  }
  if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2) {
    throw malformed(`expected "${name}" to have a shape and two offsets of whole numbers`)
  }
  const [begin, end] = offsets as [number, number]
  const bytes = shape.reduce((a, b) => a * b, bytesOf[dtype as DType])
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw malformed(`expected "${name}" to take ${bytes} bytes for shape [${shape.join(', ')}], got ${end - begin}`)
  }
  return { name, dtype: dtype as DType, shape, begin, end }
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && (v as number) >= 0)
}

/** Tensors follow one another without holes or overlaps, to the end of the file. */
function checkCoverage(entries: readonly Entry[], length: number): void {
  let at = 0
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== at) throw malformed(`expected "${name}" to begin at ${at}, got ${begin}`)
    at = end
  }
  if (at !== length) throw malformed(`expected ${at} bytes of data, got ${length}`)
}

function decode({ dtype, begin, end }: Entry, view: DataView, at: number): TensorData {
  const count = (end - begin) / bytesOf[dtype]
  if (littleEndian) {
    const from = view.byteOffset + at
    const copied = () => view.buffer.slice(from, from + end - begin)
    if (dtype === 'F64') return new Float64Array(copied())
    if (dtype === 'F32') return new Float32Array(copied())
    if (dtype === 'I64') return new BigInt64Array(copied())
    if (dtype === 'I32') return new Int32Array(copied())
  }
  const fill = <T extends TensorData>(data: T, get: (at: number) => T[number]): T => {
    for (let i = 0; i < count; i++) data[i] = get(at + i * bytesOf[dtype])
    return data
  }
  switch (dtype) {
    case 'F64':
      return fill(new Float64Array(count), (p) => view.getFloat64(p, true))
    case 'F32':
      return fill(new Float32Array(count), (p) => view.getFloat32(p, true))
    case 'F16':
      return fill(new Float32Array(count), (p) => half(view.getUint16(p, true)))
    case 'BF16':
      return fill(new Float32Array(count), (p) => brain(view.getUint16(p, true)))
    case 'I64':
      return fill(new BigInt64Array(count), (p) => view.getBigInt64(p, true))
    case 'I32':
      return fill(new Int32Array(count), (p) => view.getInt32(p, true))
    case 'U8':
    case 'BOOL':
      return fill(new Uint8Array(count), (p) => view.getUint8(p))
  }
}

/** @throws ERR_INVALID_ARGUMENT where data do not fit their shape */
export function writeSafetensors(
  tensors: ReadonlyMap<string, TypedTensor>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {}
  let length = 0
  // The widest types first, so that every tensor lies at a multiple of its element's size.
  const list = [...tensors].sort(([, a], [, b]) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT)
  for (const [name, { shape, data }] of list) {
    if (shape.reduce((a, b) => a * b, 1) !== data.length || name === '__metadata__') {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `tensor "${name}": expected data for shape [${shape.join(', ')}], got ${data.length} values`,
      )
    }
    header[name] = { dtype: dtypeOf(data), shape, data_offsets: [length, (length += data.byteLength)] }
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const padded = Math.ceil(json.length / 8) * 8
  const bytes = new Uint8Array(8 + padded + length)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(padded), true)
  bytes.fill(0x20, 8, 8 + padded).set(json, 8)
  let at = 8 + padded
  for (const [, { data }] of list) at = encode(data, view, at)
  return bytes
}

function dtypeOf(data: TensorData): DType {
  if (data instanceof Float32Array) return 'F32'
  if (data instanceof Float64Array) return 'F64'
  if (data instanceof Int32Array) return 'I32'
  return data instanceof BigInt64Array ? 'I64' : 'U8'
}

function encode(data: TensorData, view: DataView, at: number): number {
  if (littleEndian || data instanceof Uint8Array) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    new Uint8Array(view.buffer).set(bytes, at)
    return at + data.byteLength
  }
  const size = data.BYTES_PER_ELEMENT
  for (let i = 0; i < data.length; i++) {
    const p = at + i * size
    if (data instanceof Float32Array) view.setFloat32(p, data[i], true)
    else if (data instanceof Float64Array) view.setFloat64(p, data[i], true)
    else if (data instanceof Int32Array) view.setInt32(p, data[i], true)
    else if (data instanceof BigInt64Array) view.setBigInt64(p, data[i], true)
    else view.setUint8(p, data[i])
  }
  return at + data.byteLength
}

function half(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023]
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction)
}

const word = new DataView(new ArrayBuffer(4))

function brain(bits: number): number {
  word.setUint32(0, bits << 16)
  return word.getFloat32(0)
}
