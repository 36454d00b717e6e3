// The network of a record and the weights its run begins with, as one safetensors file that needs nothing else.
import { PalimpsestError } from '../errors.js'
import type { Model, NetworkSource } from '../model.js'
import type { LeafDescription, NetworkDescription, TensorMap } from '../network.js'
import { readSafetensors, writeSafetensors } from '../safetensors.js'

const format = 'palimpsest-network-1'

/** JSON has no infinities, and attributes may be one (the open end of a Clip). */
const numberOut = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? { number: String(value) } : value

const numberIn = (_: string, value: unknown): unknown => {
  const number = (value as { number?: unknown } | null)?.number
  return typeof number === 'string' ? Number(number) : value
}

export async function writeNetwork(model: Model): Promise<Uint8Array> {
  const { network, parameters } = await model.source()
  const { leaves, ...rest } = network
  const tensors: TensorMap = new Map()
  for (const [name, tensor] of parameters) tensors.set(`parameter/${name}`, tensor)
  const bare = leaves.map((leaf) => {
    if (leaf.kind !== 'constant') return leaf
    const { data, ...described } = leaf
    tensors.set(`constant/${leaf.id}`, { shape: leaf.shape, data })
    return described
  })
  return writeSafetensors(tensors, { format, network: JSON.stringify({ ...rest, leaves: bare }, numberOut) })
}

export function readNetwork(bytes: Uint8Array): NetworkSource {
  const { tensors, metadata } = readSafetensors(bytes)
  if (metadata.format !== format) {
    const got = metadata.format ?? 'none'
    throw new PalimpsestError('ERR_MODEL_FORMAT', `expected a network of a record (format ${format}), got ${got}`)
  }
  const { leaves, ...rest } = JSON.parse(metadata.network, numberIn) as NetworkDescription
  const dataOf = (name: string): Float32Array => {
    const data = tensors.get(name)?.data
    if (data instanceof Float32Array) return data
    throw new PalimpsestError('ERR_MODEL_FORMAT', `expected values for '${name}' in a network of a record, got none`)
  }
  const whole = leaves.map((leaf): LeafDescription =>
    leaf.kind === 'constant' ? { ...leaf, data: dataOf(`constant/${leaf.id}`) } : leaf,
  )
  const parameters: TensorMap = new Map()
  for (const leaf of whole) {
    if (leaf.kind !== 'parameter') continue
    parameters.set(leaf.name, { shape: leaf.shape, data: dataOf(`parameter/${leaf.name}`) })
  }
  return { network: { ...rest, leaves: whole }, parameters }
}
