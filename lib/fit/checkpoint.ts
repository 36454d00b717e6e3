// Checkpoints of fitting: weights, momentum, running statistics and counters in one safetensors file, with checks.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { writeFileAtomically } from '../model/files.js'
import type { LayoutEntry, NativeNetwork, NativeVector } from '../native.js'
import type { TensorMap } from '../network.js'
import { readSafetensors, writeSafetensors } from '../safetensors.js'
import type { MnemonicRecord } from './codes.js'
import type { SgdOptions } from './options.js'
import type { EpochReport } from './report.js'

/** Counters of a run; with the tensors they are all that going on needs. */
export interface FitState {
  /** Steps done. */
  step: number
  seconds: number
  epochs: EpochReport[]
  /** Sums over the rows of the epoch that runs. */
  running: { loss: number; right: number; rows: number; seconds: number }
}

/** What a checkpoint belongs to. */
export interface RunIdentity {
  options: SgdOptions & { mnemonic?: MnemonicRecord }
  network: string
  data: string
}

export interface FitTensors {
  weights: NativeVector
  velocity: NativeVector
  /** By position among the network's constants. */
  statistics: Map<number, Float32Array>
}

const format = 'palimpsest-fit-1'
const velocityPrefix = 'fit.velocity/'

/**
 * Digest of all rows in their order, their labels, and how they are normalised.
 *
 * @param drawn - whether crops, flips or codes are drawn, by a row's place in its table
 */
export async function dataDigest(data: Dataset, drawn: boolean): Promise<string> {
  const hash = createHash('sha256')
  for (const digest of await data.digests()) hash.update(digest)
  const { scale, shift } = data.table.gather
  hash.update(scale).update('/').update(shift)
  if (drawn) hash.update('/').update(data.storeRows)
  return hash.digest('hex')
}

const statisticName = (network: NativeNetwork, index: number) => network.constants[index].name

async function byName(
  vector: NativeVector,
  prefix: string,
  wanted: (entry: LayoutEntry) => boolean,
): Promise<TensorMap> {
  const flat = (await vector.read()) as Float32Array
  return new Map(
    vector.layout
      .filter(wanted)
      .map(({ name, shape, offset, size }) => [prefix + name, { shape, data: flat.subarray(offset, offset + size) }]),
  )
}

/** Writes a checkpoint over the one before; on an error or a crash that one stays whole. */
export async function writeCheckpoint(
  path: string,
  network: NativeNetwork,
  identity: RunIdentity,
  state: FitState,
  tensors: FitTensors,
): Promise<void> {
  await writeFileAtomically(path, await checkpointBytes(network, identity, state, tensors))
}

export async function checkpointBytes(
  network: NativeNetwork,
  identity: RunIdentity,
  state: FitState,
  tensors: FitTensors,
): Promise<Uint8Array> {
  const fitted = fittedEntries(identity.options)
  const weights = await byName(tensors.weights, '', () => true)
  const velocity = await byName(tensors.velocity, velocityPrefix, fitted)
  const statistics: TensorMap = new Map()
  for (const [index, data] of tensors.statistics) {
    statistics.set(statisticName(network, index), { shape: network.constants[index].shape, data })
  }
  const all: TensorMap = new Map([...weights, ...velocity, ...statistics])
  if (all.size !== weights.size + velocity.size + tensors.statistics.size) {
    const what = 'parameters and running statistics with different names, so that a checkpoint can hold them'
    throw new PalimpsestError('ERR_UNSUPPORTED', `expected ${what}`)
  }
  const { options, network: graph, data } = identity
  const metadata = { format, options: JSON.stringify(options), network: graph, data, state: JSON.stringify(state) }
  return writeSafetensors(all, metadata)
}

function fittedEntries({ parameters }: SgdOptions): (entry: LayoutEntry) => boolean {
  return ({ name }) => parameters === undefined || parameters.includes(name)
}

/** Reads a checkpoint into the run's tensors and gives its counters; refuses one that was made with anything else. */
export async function readCheckpoint(
  source: string | Uint8Array,
  network: NativeNetwork,
  identity: RunIdentity,
  tensors: FitTensors,
): Promise<FitState> {
  const { stored, metadata } = await read(source)
  checkIdentity(identity, metadata)
  const state = readState(metadata.state, identity.options.steps)
  await fill(stored, network, identity.options, tensors)
  return state
}

/** Reads weights, momentum and running statistics alone, from a checkpoint of a run before this one on other rows. */
export async function readTensors(
  source: string | Uint8Array,
  network: NativeNetwork,
  options: SgdOptions,
  tensors: FitTensors,
): Promise<void> {
  await fill((await read(source)).stored, network, options, tensors)
}

async function read(source: string | Uint8Array) {
  const { tensors: stored, metadata } = readSafetensors(typeof source === 'string' ? await bytesOf(source) : source)
  if (metadata?.format !== format) throw malformed(`a checkpoint of fit() (format ${format})`, metadata?.format)
  return { stored, metadata }
}

async function fill(
  stored: ReturnType<typeof readSafetensors>['tensors'],
  network: NativeNetwork,
  options: SgdOptions,
  tensors: FitTensors,
): Promise<void> {
  const take = (name: string, shape: readonly number[]): Float32Array => {
    const tensor = stored.get(name)
    if (tensor === undefined || tensor.shape.join() !== shape.join() || !allFinite(tensor.data)) {
      throw malformed(`finite values of shape [${shape.join(', ')}] for '${name}'`, tensor?.shape.join(' x '))
    }
    return tensor.data
  }
  const { layout } = network
  const velocity = layout.filter(fittedEntries(options))
  const filled = [
    ...layout.map(({ name, shape }) => [tensors.weights, name, take(name, shape)] as const),
    ...velocity.map(({ name, shape }) => [tensors.velocity, name, take(velocityPrefix + name, shape)] as const),
  ]
  for (const index of tensors.statistics.keys()) {
    tensors.statistics.set(index, take(statisticName(network, index), network.constants[index].shape).slice())
  }
  await Promise.all(filled.map(([vector, name, values]) => vector.set(name, values)))
}

function allFinite(values: Float32Array): boolean {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += 0 * values[i]
  return sum === 0
}

async function bytesOf(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not read the checkpoint '${path}': ${message}`, { cause })
  }
}

function malformed(expected: string, got: string | undefined): PalimpsestError {
  return new PalimpsestError('ERR_MODEL_FORMAT', `expected ${expected} in the checkpoint, got ${got ?? 'none'}`)
}

/** Throws where data, network or an option that decides the weights is another. */
function checkIdentity(identity: RunIdentity, metadata: Readonly<Record<string, string>>): void {
  const refuse = (what: string, was: unknown, now: unknown) =>
    new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected ${what} as in the checkpoint (${JSON.stringify(was)}) for 'resume', got ${JSON.stringify(now)}`,
    )
  if (metadata.network !== identity.network) throw refuse('the network', metadata.network, identity.network)
  if (metadata.data !== identity.data) throw refuse('the data', metadata.data, identity.data)
  const was = parsed(metadata.options) as Partial<RunIdentity['options']>
  const now = identity.options
  for (const key of new Set([...Object.keys(now), ...Object.keys(was)]) as Set<keyof RunIdentity['options']>) {
    if (JSON.stringify(was[key]) !== JSON.stringify(now[key])) throw refuse(key, was[key], now[key])
  }
}

function parsed(text: string | undefined): object {
  let value: unknown
  try {
    value = JSON.parse(text ?? '')
  } catch {
    value = undefined
  }
  if (typeof value !== 'object' || value === null) throw malformed('options and counters as JSON', text)
  return value
}

function readState(text: string | undefined, steps: number): FitState {
  const state = parsed(text) as Partial<FitState>
  const count = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value >= 0
  const { step, seconds, epochs, running } = state
  const sound =
    Number.isSafeInteger(step) &&
    count(step) &&
    (step as number) <= steps &&
    count(seconds) &&
    Array.isArray(epochs) &&
    [running?.loss, running?.right, running?.rows, running?.seconds].every(count)
  if (!sound) throw malformed(`counters of a run of ${steps} steps`, text)
  return state as FitState
}
