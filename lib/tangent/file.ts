// TangentModel files: safetensors with the released user weights, what they were fitted to, and the public ledger.
import { createHash } from 'node:crypto'
import { placesOf } from '../data/select.js'
import { preparationOf } from '../data/table.js'
import { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { networkDigest } from '../model/network_digest.js'
import { invalid, is } from '../options.js'
import { readSafetensors, writeSafetensors } from '../safetensors.js'
import type { TangentModel } from '../tangent.js'
import { guaranteeOf, type Release } from './ledger.js'

/** What the file says besides weights. Nothing in it depends on forgotten rows; measured values are never written. */
export interface TangentHeader {
  format: 'palimpsest-tangent'
  version: 2
  layers: 'all' | 'head' | readonly string[]
  damping: number
  targetScale: number
  /** SHA-256 of the core's graph, weights and running statistics. */
  core: string
  /** Digest of how the fitted rows become inputs; none without rows. */
  preparation?: string
  /** Digests of the rows that the weights are fitted to now. */
  rows: readonly string[]
  ledger: readonly Release[]
}

const key = 'palimpsest'

/** SHA-256 over the core's graph and names, shapes and values of its weights and running statistics. */
export async function coreDigest(core: Model): Promise<string> {
  const { constants } = core.engine.network
  const named = { has: (constant: number) => constants[constant].name !== '' }
  const hash = createHash('sha256').update(networkDigest(core.description, named))
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
  const { data, digests, ledger, served } = model.state
  const header: TangentHeader = {
    format: 'palimpsest-tangent',
    version: 2,
    layers,
    damping,
    targetScale,
    core: await coreDigest(core),
    ...(digests.length > 0 && { preparation: data ? preparationOf(data.table) : model.state.preparation }),
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
  const { format, version, core, preparation, rows, ledger } = header
  if (format !== 'palimpsest-tangent') throw malformed('of another format')
  if (version !== 2) throw malformed(`of version ${String(version)}`)
  if (!is.string(core)) throw malformed('that does not name its core')
  if (!Array.isArray(rows) || !rows.every(is.string)) throw malformed('without its rows')
  if (rows.length > 0 && !is.string(preparation)) throw malformed('that does not say how its rows become inputs')
  if (!Array.isArray(ledger) || !ledger.every(isRelease)) throw malformed('without its ledger')
}

const isSize = (value: unknown): boolean => is.number(value) && value >= 0

function isRelease(value: unknown): boolean {
  if (!is.plainObject(value)) return false
  const { number, kind, noiseScale, noiseShape, targetDistance, delta, guaranteed, seeded } = value
  return (
    is.integer(number) &&
    ['fit', 'forget', 'refit', 'forgetAll'].includes(kind as string) &&
    isSize(noiseScale) &&
    ['isotropic', 'curvature', 'none'].includes(noiseShape as string) &&
    (targetDistance === null || isSize(targetDistance)) &&
    isSize(delta) &&
    (seeded === undefined || seeded === true) &&
    isGuarantee(guaranteed, targetDistance as number | null, delta as number)
  )
}

/** What the distance guarantees, and nothing without one; other machines round otherwise. */
function isGuarantee(value: unknown, distance: number | null, delta: number): boolean {
  if (distance === null || value === null) return distance === value
  if (!is.plainObject(value)) return false
  return Object.entries(guaranteeOf(distance, delta)).every(([key, expected]: [string, unknown]) => {
    const got = value[key]
    if (!is.number(expected) || !is.number(got)) return got === expected
    return Math.abs(got - expected) <= 1e-9 * Math.abs(expected)
  })
}

/** The rows of `data` that the digests name, in their order; ERR_NOT_FITTED where one is missing. */
export async function findRows(data: Dataset, digests: readonly string[]): Promise<Dataset> {
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  const places = placesOf(await data.digests())
  const taken = new Map<string, number>()
  const positions = digests.map((digest, i) => {
    const place = taken.get(digest) ?? 0
    const position = places.get(digest)?.[place]
    taken.set(digest, place + 1)
    if (position === undefined) {
      throw new PalimpsestError(
        'ERR_NOT_FITTED',
        `expected the rows that the weights were fitted to, row ${i} of them is missing in 'data'`,
      )
    }
    return position
  })
  for (const [digest, count] of taken) requireAlike(data, places.get(digest) as number[], count)
  return data.subset(positions)
}

/** Where there are more rows of one digest than were fitted, owners and ids must not tell them apart: a request may. */
function requireAlike(data: Dataset, places: readonly number[], fitted: number): void {
  if (places.length === fitted) return
  const name = (position: number) => JSON.stringify(data.keys(position))
  const other = places.find((position) => name(position) !== name(places[0]))
  if (other === undefined) return
  const what = `of ${places.length} equal rows in 'data' the ${fitted} that the weights were fitted to, whose owner or id differs`
  throw new PalimpsestError(
    'ERR_NOT_FITTED',
    `expected ${what}; leave the others out, ${other} or ${places[0]} among them`,
  )
}
