// TrainingRecord: what training left behind so that it can be undone; opened by one process at a time.
import { Dataset } from './dataset.js'
import { Ensemble } from './ensemble.js'
import { PalimpsestError } from './errors.js'
import { processPool } from './jobs/process_pool.js'
import type { JobRunner } from './jobs/job.js'
import { Model, type ModelOptions } from './model.js'
import { checkSignal, type PassOptions } from './model/passes.js'
import { chooseDevice } from './devices.js'
import { deviceOption } from './model/options.js'
import { check, invalid, readOptions } from './options.js'
import type { CheckpointRef, LedgerEntry, Manifest, PendingRequest } from './record/format.js'
import { readNetwork } from './record/network_file.js'
import { keyWords, orderOf, placeRows, type PlacedRow } from './record/rows.js'
import { preparationOf } from './data/table.js'
import type { Standing } from './record/standing.js'
import { RecordStore } from './record/store.js'
import { adoptShard, trainShards, type ShardWork } from './record/train.js'

/** Where a row went in training. */
export interface RowPlace {
  shard: number
  /** From 1. */
  slice: number
  /** Steps of the shard's run that it was in, from 0, ascending; those of earlier slices come first. */
  steps: number[]
}

export interface RecordTrainOptions extends PassOptions {
  /** Where jobs run; a pool of processes on this machine where left out. */
  runner?: JobRunner
}

/** What calls are at work on records: settled when they are over, never rejected. */
const busy = new WeakMap<TrainingRecord, Promise<unknown>>()

/**
 * A training record in a folder: seeds, assignment of rows to shards and slices, checkpoints with checksums, a ledger. It
 * holds the folder's lock until it is closed.
 *
 * Errors: ERR_LOCKED where another process has it, ERR_DAMAGED naming the file that is not whole, ERR_NOT_FITTED where
 * there is no record or `data` lacks rows of it, ERR_MODEL_FORMAT for another version of the format, ERR_IO,
 * ERR_DISPOSED after close().
 */
export class TrainingRecord {
  readonly #store: RecordStore
  readonly #data: Dataset
  #rows: PlacedRow[][][]
  #pending: PendingRequest | undefined
  #closing = false

  private constructor(store: RecordStore, data: Dataset, rows: PlacedRow[][][], pending: PendingRequest | undefined) {
    this.#store = store
    this.#data = data
    this.#rows = rows
    this.#pending = pending
  }

  /** Opens a record with the rows it was made with, in any order; `data` may hold others, which are left alone. */
  static async open(folder: string, options: { data: Dataset }): Promise<TrainingRecord> {
    if (typeof folder !== 'string' || folder === '') throw invalid('folder', 'a path', folder)
    const dataset = check('a Dataset', (v): v is Dataset => v instanceof Dataset)
    const { data } = readOptions(options, { data: dataset }, 'TrainingRecord.open()')
    const store = await RecordStore.take(folder, { mustExist: true })
    try {
      return await TrainingRecord.over(store, data)
    } catch (error) {
      await store.close()
      throw error
    }
  }

  /** Over a folder that is locked. @internal */
  static async over(store: RecordStore, data: Dataset): Promise<TrainingRecord> {
    if (preparationOf(data.table) !== store.manifest.preparation) {
      const what =
        "rows of the type and shape that the record was made with, normalised by the same numbers, for 'data'"
      throw new PalimpsestError('ERR_INVALID_ARGUMENT', `expected ${what}, got others`)
    }
    const { slices } = await store.readIndex()
    const recorded = slices.flatMap((shard, s) => shard.flatMap((rows, r) => rows.map((row) => ({ ...row, s, r }))))
    const sorted = recorded.sort((a, b) => (a.key === b.key ? (a.digest < b.digest ? -1 : 1) : a.key < b.key ? -1 : 1))
    const placed = await placeRows(data, sorted, store.manifest.keyedBy)
    const rows: PlacedRow[][][] = slices.map((shard) => shard.map(() => []))
    placed.forEach((row, i) => rows[sorted[i].s][sorted[i].r].push(row))
    return new TrainingRecord(store, data.subset(data.storeRows.keys()), rows, await store.pending())
  }

  get folder(): string {
    return this.#store.folder
  }

  get shards(): number {
    return this.manifest.shards
  }

  get slices(): number {
    return this.manifest.slices
  }

  /** Rows that the weights were trained on. */
  get size(): number {
    return this.#rows.flat(2).length
  }

  /** What was done to it, oldest first; it names no rows. */
  get ledger(): LedgerEntry[] {
    return structuredClone(this.manifest.ledger)
  }

  /** All checkpoints, shard by shard, oldest first, with their checksums: equal training gives equal files. */
  get checkpoints(): (CheckpointRef & { shard: number })[] {
    return this.manifest.states.flatMap(({ checkpoints }, shard) => checkpoints.map((each) => ({ shard, ...each })))
  }

  /** Whether every shard is trained; resumeRecord() goes on where not. */
  get complete(): boolean {
    const { states, slices } = this.manifest
    return states.every(({ checkpoints }) => checkpoints.at(-1)?.slice === slices)
  }

  /** Whether a request was begun and not ended, because its process died; resumeRecord() ends it. */
  get pending(): boolean {
    return this.#pending !== undefined
  }

  /** Whether the weights are, bit for bit, those of training the rows it has now alone. */
  get exact(): boolean {
    return this.complete && this.manifest.states.every(({ checkpoints }) => checkpoints.at(-1)?.exact === true)
  }

  /** @internal */
  get standing(): Standing {
    return { exact: this.exact, ledger: this.ledger }
  }

  /** Bytes on disk: all files, and for each shard those of its checkpoints and logs. */
  get storage(): { total: number; shards: { checkpoints: number; logs: number }[] } {
    const sum = (files: readonly { bytes: number }[]) => files.reduce((total, { bytes }) => total + bytes, 0)
    const shards = this.manifest.states.map(({ checkpoints, logs }) => ({
      checkpoints: sum(checkpoints),
      logs: sum(logs),
    }))
    return { total: this.#store.bytes, shards }
  }

  /** The rows with a key: shard, slice and steps, computed from the seed; empty where the record has none. */
  locate(key: string | number): RowPlace[] {
    const { manifest } = this
    const name = String(key)
    return this.#rows.flatMap((shard, s) =>
      shard.flatMap((rows, r) =>
        rows
          .filter((row) => row.key === name)
          .map((row) => ({ shard: s, slice: r + 1, steps: stepsOf(manifest, s, shard, r, row) })),
      ),
    )
  }

  /** Reads every file again; ERR_DAMAGED names the first that is not what its checksum says. */
  async verify(): Promise<void> {
    this.#check()
    await this.#store.verify()
  }

  /** The models of all shards as they are now. An ensemble that was made before a request still holds what it forgot. */
  async ensemble(options: ModelOptions = {}): Promise<Ensemble> {
    this.#check()
    const { device } = readOptions(options, { device: deviceOption }, 'ensemble()')
    if (!this.complete)
      throw new PalimpsestError('ERR_NOT_FITTED', 'expected a record that is complete; resumeRecord() ends it')
    // A request that is committed meanwhile removes files that are read here: then those of after it are read.
    for (;;) {
      const { revision } = this.manifest
      const models: Model[] = []
      try {
        await this.#readModels(models, chooseDevice(device).name as 'cpu')
        if (this.#store.manifest.revision === revision) return Ensemble.of(models, this.standing)
      } catch (error) {
        if (this.#store.closed || this.#store.manifest.revision === revision) {
          for (const model of models) model.dispose()
          throw error
        }
      }
      for (const model of models) model.dispose()
    }
  }

  async #readModels(models: Model[], device: 'cpu'): Promise<void> {
    const source = readNetwork(await this.#store.read(this.manifest.initial))
    for (const { checkpoints } of this.manifest.states) {
      const model = Model.fromNetwork(source, { device })
      models.push(model)
      await model.loadWeights(await this.#store.read(checkpoints[checkpoints.length - 1]))
    }
  }

  /** Goes on with training that was broken off; gives the rows that went through the network. @internal */
  async train({ runner, ...passes }: RecordTrainOptions): Promise<number> {
    const started = performance.now()
    const works = this.#rows.map((slices, shard): ShardWork => {
      const start = this.manifest.states[shard].checkpoints.at(-1)
      return { shard, slices, first: (start?.slice ?? 0) + 1, start }
    })
    const left = works.filter(({ first }) => first <= this.slices)
    const how = { ...passes, phase: 'fitSharded' }
    const { visits, jobs } = await this.withRunner(runner, (using) =>
      trainShards(this.#store, this.#data, left, using, how, async (trained) => {
        const { shard } = trained.work
        const state = await adoptShard(this.#store, this.manifest.states[shard], trained)
        await this.#store.commit({ ...this.manifest, states: this.manifest.states.with(shard, state) })
      }),
    )
    if (this.manifest.ledger.length === 0) {
      const shards = works.map(({ shard }) => ({ shard, slice: 1 }))
      const [seconds, at] = [(performance.now() - started) / 1000, new Date().toISOString()]
      const entry = {
        kind: 'fit',
        arm: 'exact',
        exact: true,
        rows: this.size,
        shards,
        visits,
        seconds,
        jobs,
        at,
      } as const
      await this.#store.commit({ ...this.manifest, ledger: [{ number: 1, ...entry }] })
    }
    await this.#store.removeJobs()
    return visits
  }

  /** With the runner given, or a pool that is closed afterwards. @internal */
  async withRunner<T>(given: JobRunner | undefined, work: (runner: JobRunner) => Promise<T>): Promise<T> {
    const runner = given ?? processPool()
    try {
      return await work(runner)
    } finally {
      if (given === undefined) await runner.close()
    }
  }

  /** One call at a time. @internal */
  async exclusively<T>(work: (store: RecordStore) => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#check()
    if (this.#closing) throw closed()
    checkSignal(signal)
    if (busy.has(this)) throw invalid('record', 'a record that no other call is at work on', 'two at once')
    const done = work(this.#store)
    busy.set(
      this,
      done.catch(() => undefined),
    )
    try {
      return await done
    } finally {
      busy.delete(this)
    }
  }

  /** @internal */
  get manifest(): Manifest {
    this.#check()
    return this.#store.manifest
  }

  /** The caller's rows. @internal */
  get data(): Dataset {
    return this.#data
  }

  /** By shard and slice (from 0), places in `data`. @internal */
  get rows(): readonly (readonly (readonly PlacedRow[])[])[] {
    return this.#rows
  }

  /** @internal */
  get request(): PendingRequest | undefined {
    return this.#pending
  }

  /** What the record has after a request. @internal */
  settle(rows: PlacedRow[][][] | undefined, pending: PendingRequest | undefined): void {
    if (rows) this.#rows = rows
    this.#pending = pending
  }

  /**
   * Gives the folder free, when the call that is at work on it is over (abort that call to be quicker); others are refused
   * from now on. Idempotent.
   */
  async close(): Promise<void> {
    this.#closing = true
    await busy.get(this)
    if (this.#store.closed) return
    await this.#store.close()
    this.#data.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #check(): void {
    if (this.#store.closed) throw closed()
  }
}

const closed = () => new PalimpsestError('ERR_DISPOSED', 'expected a record in use, got one that was closed')

/** Steps of a shard's run that a row was in; none of an epoch in which batch normalisation could not take its batch. */
function stepsOf(
  { epochs, fit, seed, states }: Manifest,
  s: number,
  slices: readonly (readonly PlacedRow[])[],
  slice: number,
  row: PlacedRow,
): number[] {
  const batch = fit.batchSize ?? 128
  const steps: number[] = []
  let step = 0
  let epoch = 0
  for (const [r, count] of epochs.entries()) {
    const prefix = slices.slice(0, r + 1).flat()
    // Slices without rows before them have no run of their own.
    if (prefix.length === 0) continue
    const done = states[s].checkpoints.find((each) => each.slice === r + 1)
    const perEpoch = done ? (done.step - step) / count : Math.ceil(prefix.length / batch)
    const words = r >= slice ? prefix.map(({ key }) => keyWords(key)) : []
    const at = prefix.indexOf(row)
    for (let e = 0; e < count; e++, epoch++, step += perEpoch) {
      if (r < slice) continue
      const within = Math.floor(orderOf(words, seed, epoch).indexOf(at) / batch)
      if (within < perEpoch) steps.push(step + within)
    }
  }
  return steps
}
