// fitSharded(): trains S shards of R slices with a checkpoint a slice, and writes the record that can undo it.
import { availableParallelism } from 'node:os'
import { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import type { JobRunner } from '../jobs/job.js'
import { Model } from '../model.js'
import { checkData } from '../model/held_data.js'
import { checkSignal, type PassOptions, type Progress } from '../model/passes.js'
import { memory } from '../native.js'
import { abortSignal, callback, check, integer, invalid, is, optional, readOptions, withDefault } from '../options.js'
import { TrainingRecord } from '../record.js'
import { sha256, type Environment, type Manifest } from '../record/format.js'
import { writeNetwork } from '../record/network_file.js'
import { preparationOf } from '../data/table.js'
import { assignment, compareRows, keyWords, rowsOf, type PlacedRow } from '../record/rows.js'
import { readFitOptions, trainedNormalizations } from './options.js'
import { requireNames } from './statistics.js'
import { settingsOf, sliceEpochs, type FitSettings } from '../record/settings.js'
import { RecordStore } from '../record/store.js'
import { describeWorker } from '../record/train.js'
import { processPool } from '../jobs/process_pool.js'

export interface FitShardedOptions extends PassOptions {
  /** Where the record lies: an empty folder, one to be made, or one with the same run begun, which then goes on. */
  folder: string
  /** S (default 5): parts of the rows, each with a model of its own. */
  shards?: number
  /** R (default 4): parts of a shard that come in one after the other, a checkpoint after each. */
  slices?: number
  /** Passes over the rows, about (default 10): slice r trains on slices 1 to r for 2 epochs / (R + 1) epochs. */
  epochs?: number
  /** Of the assignment to shards and slices, order and augmentation (default 0). */
  seed?: number
  /** Options of fit() for each slice; schedules run over the epochs of one slice. */
  fit?: FitSettings
  /** Threads of a worker, pinned in the record; the machine's processors shared among the shards where left out. */
  threads?: number
  /** Where jobs run: processPool() where left out. */
  runner?: JobRunner
}

export interface FitShardedReport {
  verb: 'fitSharded' | 'fitLogged'
  /** Options with their defaults. */
  options: { shards: number; slices: number; epochs: number; seed: number; fit: FitSettings; threads: number }
  rows: number
  /** Epochs of each slice. */
  sliceEpochs: number[]
  /** Rows of each slice of each shard. */
  assignment: number[][]
  /** Rows that went through the network in this call; those of slices that an earlier call finished are not in it. */
  visits: number
  environment: Environment
  /** Bytes of the record. */
  storage: number
  seconds: number
  /** Of this process. */
  peakMemoryBytes: number
}

/** @internal */
export const recordOptions = {
  folder: check('a path', (v): v is string => is.string(v) && v !== ''),
  shards: withDefault(integer({ min: 1, max: 4096 }), 5),
  slices: withDefault(integer({ min: 1, max: 4096 }), 4),
  epochs: withDefault(integer({ min: 1 }), 10),
  seed: withDefault(integer({ min: 0 }), 0),
  fit: withDefault(
    check('options of fit()', (v): v is FitSettings => is.plainObject(v)),
    {},
  ),
  threads: optional(integer({ min: 1, max: 1024 })),
  runner: optional(
    check('a JobRunner', (v): v is JobRunner => typeof v === 'object' && v !== null && 'run' in v && 'close' in v),
  ),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/**
 * Sharded, sliced training (SISA; Bourtoule et al. 2021): S models on disjoint shards, each trained on 1, 2, ... R of its
 * slices with a checkpoint after each. Shard, slice and order of a row are functions of seed and row key (its id, or else
 * the digest of what it holds), so that forget() gives the bits of training without the rows. `model` gives the network
 * and the weights all shards begin with, which must not depend on the rows; it stays as it is.
 *
 * Errors: ERR_INVALID_ARGUMENT (options; a shard without rows; a folder with another run), ERR_SHAPE, ERR_LOCKED,
 * ERR_DAMAGED, ERR_ENVIRONMENT (no worker matches the record), ERR_WORKER, ERR_NOT_CONVERGED, ERR_IO, and the reason of
 * an aborted signal. After any of them the same call goes on from the last whole slice.
 */
export async function fitSharded(
  model: Model,
  data: Dataset,
  options: FitShardedOptions,
): Promise<{ record: TrainingRecord; report: FitShardedReport }> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  const read = readOptions(options, recordOptions, 'fitSharded()')
  return fitRecord(model, data, { ...read, fit: settingsOf(read.fit, model), kind: 'sharded' })
}

/** What fitSharded() and fitLogged() do. @internal */
export async function fitRecord(
  model: Model,
  data: Dataset,
  given: Given,
): Promise<{ record: TrainingRecord; report: FitShardedReport }> {
  const started = performance.now()
  checkSignal(given.signal)
  checkData(data, model, true)
  // Before there is a record that holds options which no worker can follow.
  const fitting = readFitOptions({ ...given.fit, epochs: 1 })
  requireNames(trainedNormalizations(fitting, model, data.size), model.engine.network)
  const store = await RecordStore.take(given.folder)
  let record: TrainingRecord | undefined
  try {
    const runner = given.runner ?? processPool()
    try {
      await (store.empty ? create(store, model, data, given, runner) : recognise(store, model, data, given))
      record = await TrainingRecord.over(store, data)
      return await train(record, given, runner, started)
    } finally {
      if (given.runner === undefined) await runner.close()
    }
  } catch (error) {
    await record?.close()
    await store.close()
    throw error
  }
}

/** @internal */
export type Given = ReturnType<typeof readOptions<typeof recordOptions>> & {
  kind: Manifest['kind']
  /** Steps from one state of the update log to the next, given the rows of each slice and what a begun record has. */
  logEvery?: (rows: readonly number[], begun?: number) => number
}

/** Writes what is known before training begins. */
async function create(store: RecordStore, model: Model, data: Dataset, given: Given, runner: JobRunner): Promise<void> {
  const { shards, slices, epochs, seed, fit } = given
  const { keyedBy, rows } = await rowsOf(data)
  const assigned = assign(rows, seed, shards, slices)
  const threads = given.threads ?? Math.max(1, Math.floor(availableParallelism() / shards))
  const environment = await describeWorker(runner, { device: model.device, threads }, given.signal)
  const network = await writeNetwork(model)
  const initial = await store.put('initial', network, '.safetensors')
  const bare = assigned.map((shard) => shard.map((list) => list.map(({ key, digest }) => ({ key, digest }))))
  const index = await store.putIndex({ slices: bare })
  const logEvery = given.logEvery?.(assigned[0].map((list) => list.length))
  await store.commit({
    format: 'palimpsest-record',
    version: 1,
    kind: given.kind,
    model: sha256(network),
    initial,
    shards,
    slices,
    epochs: sliceEpochs(epochs, slices),
    seed,
    fit,
    ...(logEvery !== undefined && { logEvery }),
    environment,
    keyedBy,
    preparation: preparationOf(data.table),
    index,
    states: assigned.map((shard) => ({ rows: shard.map((list) => list.length), checkpoints: [], logs: [] })),
    ledger: [],
  })
}

/** Rows by shard and slice; ERR_INVALID_ARGUMENT where a shard gets none. */
function assign(rows: readonly PlacedRow[], seed: number, shards: number, slices: number): PlacedRow[][][] {
  const place = assignment(seed, shards, slices)
  const found = Array.from({ length: shards }, () => Array.from({ length: slices }, (): PlacedRow[] => []))
  for (const row of rows) {
    const { shard, slice } = place(keyWords(row.key))
    found[shard][slice - 1].push(row)
  }
  const empty = found.findIndex((shard) => shard.every((list) => list.length === 0))
  if (empty < 0) return found
  throw invalid('shards', `few enough that each gets rows (shard ${empty} of ${rows.length} rows gets none)`, shards)
}

/** Refuses to go on with a record of another model, other rows or other options. */
async function recognise(store: RecordStore, model: Model, data: Dataset, given: Given): Promise<void> {
  const { manifest } = store
  const refuse = (what: string, was: unknown, now: unknown) =>
    new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected ${what} as in the record '${store.folder}' (${JSON.stringify(was)}), got ${JSON.stringify(now)}`,
    )
  const digest = sha256(await writeNetwork(model))
  if (manifest.kind !== given.kind) throw refuse('the kind', manifest.kind, given.kind)
  if (digest !== manifest.model) throw refuse('the model', manifest.model, digest)
  const epochs = sliceEpochs(given.epochs, given.slices)
  const { shards, slices, seed, fit } = given
  const log = given.logEvery && { logEvery: given.logEvery(manifest.states[0].rows, manifest.logEvery) }
  const now = { shards, slices, seed, epochs, fit, ...log, device: model.device }
  const was: Record<string, unknown> = { ...manifest, device: manifest.environment.device }
  for (const [key, value] of Object.entries(now)) {
    if (JSON.stringify(was[key]) !== JSON.stringify(value)) throw refuse(key, was[key], value)
  }
  const { threads } = manifest.environment
  if (given.threads !== undefined && given.threads !== threads) throw refuse('threads', threads, given.threads)
  if (await store.pending()) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      'expected a record without an unfinished request; open and resume it',
    )
  }
  const recorded = (await store.readIndex()).slices.flat(2).sort(compareRows)
  const { rows } = await rowsOf(data)
  const other = rows.findIndex((row, i) => recorded[i] === undefined || compareRows(row, recorded[i]) !== 0)
  if (other >= 0 || rows.length !== recorded.length) {
    throw refuse(
      'the rows',
      `${recorded.length} rows`,
      other < 0 ? `${rows.length} rows` : `another at position ${rows[other].position}`,
    )
  }
}

async function train(record: TrainingRecord, given: Given, runner: JobRunner, started: number) {
  const { signal, onProgress } = given
  const passes = { ...(signal && { signal }), ...(onProgress && { onProgress }) }
  const visits = await record.exclusively(() => record.train({ runner, ...passes }), signal)
  return { record, report: reportOf(record, given, visits, started) }
}

function reportOf(record: TrainingRecord, given: Given, visits: number, started: number): FitShardedReport {
  const { manifest } = record
  const { shards, slices, epochs, seed, fit } = given
  const { environment } = manifest
  return {
    verb: given.kind === 'logged' ? 'fitLogged' : 'fitSharded',
    options: { shards, slices, epochs, seed, fit, threads: environment.threads },
    rows: record.size,
    sliceEpochs: manifest.epochs,
    assignment: manifest.states.map(({ rows }) => rows),
    visits,
    environment,
    storage: record.storage.total,
    seconds: (performance.now() - started) / 1000,
    peakMemoryBytes: memory().peak,
  }
}
