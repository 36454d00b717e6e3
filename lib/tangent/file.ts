// TangentModel files: safetensors with the released user weights, what they were fitted to, and the public ledger.
import { createHash } from 'node:crypto'
import { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { invalid, is } from '../options.js'
import { readSafetensors, writeSafetensors } from '../safetensors.js'
import type { TangentModel } from '../tangent.js'
import type { Release } from './ledger.js'

/** What the file says besides weights. Nothing in it depends on forgotten rows; measured values are never written. */
export interface TangentHeader {
  format: 'palimpsest-tangent'
  version: 1
  layers: 'all' | 'head' | readonly string[]
  damping: number
  targetScale: number
  /** SHA-256 of the core's weights and running statistics. */
  core: string
  /** Digests of the rows that the weights are fitted to now. */
  rows: readonly string[]
  ledger: readonly Release[]
}

const key = 'palimpsest'

/** SHA-256 over names, shapes and values of the core's weights and running statistics. */
export async function coreDigest(core: Model): Promise<string> {
  const hash = createHash('sha256')
  for (const tensors of [await core.tensors(), await core.statistics()]) {
    for (const [name, { shape, data }] of tensors) {
      hash.update(`${name}\n${shape.join()}\n`)
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    }
  }
  return hash.digest('hex')
}

export async function writeTangent(model: TangentModel): Promise<Uint8Array> {
  const { core, parameters, layers, damping, targetScale } = model
  const { digests, ledger, served } = model.state
  const header: TangentHeader = {
    format: 'palimpsest-tangent',
    version: 1,
    layers,
    damping,
    targetScale,
    core: await coreDigest(core),
    rows: digests,
    ledger,
  }
  const tensors = new Map(
    core.parameters
      .filter(({ name }) => parameters.includes(name))
      .map(({ name, shape }) => [name, { shape, data: Float32Array.from(served.get(name)) }]),
  )
  return writeSafetensors(tensors, { [key]: JSON.stringify(header) })
}

function malformed(message: string): PalimpsestError {
  return new PalimpsestError('ERR_MODEL_FORMAT', `expected a file that TangentModel.save wrote, got one ${message}`)
}

export function readTangent(bytes: Uint8Array): { header: TangentHeader; weights: Record<string, Float32Array> } {
  const { tensors, metadata } = readSafetensors(bytes)
  if (metadata[key] === undefined) throw malformed('without its header')
  let header: unknown
  try {
    header = JSON.parse(metadata[key])
  } catch (cause) {
    throw new PalimpsestError('ERR_MODEL_FORMAT', 'expected a header in JSON, got other text', { cause })
  }
  checkHeader(header)
  const weights: Record<string, Float32Array> = {}
  for (const [name, { data }] of tensors) {
    if (data.some((value) => !Number.isFinite(value))) throw malformed(`with values in '${name}' that are not finite`)
    weights[name] = data
  }
  return { header, weights }
}

/** Everything that is read later; layers, damping and target scale are checked by TangentModel.at. */
function checkHeader(header: unknown): asserts header is TangentHeader {
  if (!is.plainObject(header)) throw malformed('whose header is no object')
  const { format, version, core, rows, ledger } = header
  if (format !== 'palimpsest-tangent') throw malformed('of another format')
  if (version !== 1) throw malformed(`of version ${String(version)}`)
  if (!is.string(core)) throw malformed('that does not name its core')
  if (!Array.isArray(rows) || !rows.every(is.string)) throw malformed('without its rows')
  if (!Array.isArray(ledger) || !ledger.every(isRelease)) throw malformed('without its ledger')
}

const isSize = (value: unknown): boolean => is.number(value) && value >= 0

function isRelease(value: unknown): boolean {
  if (!is.plainObject(value)) return false
  const { number, kind, noiseScale, noiseShape, targetDistance, delta, guaranteed } = value
  return (
    is.integer(number) &&
    ['fit', 'forget', 'refit', 'forgetAll'].includes(kind as string) &&
    isSize(noiseScale) &&
    ['isotropic', 'curvature', 'none'].includes(noiseShape as string) &&
    (targetDistance === null || isSize(targetDistance)) &&
    isSize(delta) &&
    (guaranteed === null || (is.plainObject(guaranteed) && isSize(guaranteed.delta) && is.boolean(guaranteed.exact)))
  )
}

/** The rows of `data` that the digests name, in their order; ERR_NOT_FITTED where one is missing. */
export async function findRows(data: Dataset, digests: readonly string[]): Promise<Dataset> {
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  const places = new Map<string, number[]>()
  ;(await data.digests()).forEach((digest, i) => places.set(digest, [...(places.get(digest) ?? []), i]))
  const positions = digests.map((digest, i) => {
    const position = places.get(digest)?.shift()
    if (position === undefined) {
      throw new PalimpsestError(
        'ERR_NOT_FITTED',
        `expected the rows that the weights were fitted to, row ${i} of them is missing in 'data'`,
      )
    }
    return position
  })
  return data.subset(positions)
}
