// forget() on a training record: which rows, which arm, and what is reported.
import type { Bound } from '../bound.js'
import { PalimpsestError } from '../errors.js'
import type { JobRunner } from '../jobs/job.js'
import type { PassOptions, Progress } from '../model/passes.js'
import { memory } from '../native.js'
import { abortSignal, callback, check, invalid, optional, readOptions } from '../options.js'
import type { RecordTrainOptions, TrainingRecord } from '../record.js'
import type { LedgerEntry } from '../record/format.js'
import { boundOfStanding } from '../record/standing.js'
import type { RecordStore } from '../record/store.js'
import { updateDirectly } from './direct.js'
import { armTable, directSettings, planOf, requestTable, type ArmOptions, type Choice } from './plan.js'
import { finish, retrain, type Retrained } from './retrain.js'
import { revocationOf, revokedRows, type RecordRequest, type Revocation } from './revoked.js'

export interface RecordForgetOptions extends RecordRequest, ArmOptions, PassOptions {
  /** Where jobs run; a pool of processes on this machine where left out. */
  runner?: JobRunner
}

export interface RecordForgetReport {
  verb: 'forget'
  /** What served the request. */
  arm: LedgerEntry['arm']
  /** Rows taken out, and rows that remain. */
  forgotten: number
  retained: number
  /** Shards that were trained again, each from this slice (from 1) on. */
  shards: { shard: number; slice: number }[]
  /** Rows that went through the network. */
  visits: number
  /** Files that held traces of the rows and are gone, relative to the record's folder. */
  purged: string[]
  bound: Bound
  entry: LedgerEntry
  seconds: number
  /** Of this process. */
  peakMemoryBytes: number
}

export const runnerCheck = optional(
  check('a JobRunner', (v): v is JobRunner => typeof v === 'object' && v !== null && 'run' in v && 'close' in v),
)

const table = {
  ...requestTable,
  ...armTable,
  runner: runnerCheck,
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

const resumeTable = { runner: table.runner, signal: table.signal, onProgress: table.onProgress }

type Given = ReturnType<typeof readOptions<typeof resumeTable>>

function passesOf({ runner, signal, onProgress }: Given): RecordTrainOptions {
  return { ...(runner && { runner }), ...(signal && { signal }), ...(onProgress && { onProgress }) }
}

/** Takes rows out of a record; forget() says what that means. @internal */
export async function forgetFromRecord(
  record: TrainingRecord,
  given: RecordForgetOptions,
): Promise<RecordForgetReport> {
  const options = readOptions(given, table, 'forget()')
  return record.exclusively(async (store) => {
    const started = performance.now()
    if (record.pending) {
      throw invalid('record', 'a record without an unfinished request (resumeRecord() ends it)', 'one with a request')
    }
    if (!record.complete) {
      throw new PalimpsestError(
        'ERR_NOT_FITTED',
        'expected a record that is complete (resumeRecord() ends its training)',
      )
    }
    const { keys, where, rows } = options
    const request = { ...(keys && { keys }), ...(where !== undefined && { where }), ...(rows && { rows }) }
    const revocation = revocationOf(record, await revokedRows(record, request))
    const { arm, settings } = await armOf(record, store, revocation, options)
    const { runner: _, ...passes } = passesOf(options)
    const done =
      arm === 'direct'
        ? await updateDirectly(record, store, revocation, settings, passes)
        : await retrain(record, store, revocation, passesOf(options))
    return reportOf(record, done, started)
  }, options.signal)
}

/** Which arm serves a request: that of the plan, which is not needed where one is asked for. */
async function armOf(record: TrainingRecord, store: RecordStore, revocation: Revocation, options: Choice & Given) {
  const { prefer, budget, amend, drift } = options
  const told = prefer === 'exact' || prefer === 'direct'
  const plan = () => planOf(record, store, revocation, { prefer, budget, amend, drift }, passesOf(options))
  const arm = told ? prefer : (await plan()).arm
  return { arm, settings: directSettings({ amend, drift }) }
}

/**
 * Ends what a crash has broken off in a record: its training, or a request. Gives the request's report where there was
 * one. A record that is whole stays as it is.
 *
 * Errors: those of fitSharded() and forget().
 */
export async function resumeRecord(
  record: TrainingRecord,
  given: RecordTrainOptions = {},
): Promise<RecordForgetReport | undefined> {
  const options = readOptions(given, resumeTable, 'resumeRecord()')
  return record.exclusively(async (store) => {
    const started = performance.now()
    if (!record.complete) await record.train(passesOf(options))
    const { request } = record
    if (request === undefined) return undefined
    const known = new Set(record.rows.flat(2).map(({ key, digest }) => `${digest} ${key}`))
    if (request.rows.some(({ key, digest }) => known.has(`${digest} ${key}`))) {
      const revocation = revocationOf(record, request.rows)
      const { runner: _, ...passes } = passesOf(options)
      const done = request.direct
        ? await updateDirectly(record, store, revocation, request.direct, passes)
        : await retrain(record, store, revocation, passesOf(options))
      return reportOf(record, done, started)
    }
    // It was committed: only the purge was broken off.
    const purged = await finish(record, store)
    const entry = record.ledger.at(-1) as LedgerEntry
    return reportOf(record, { entry, visits: 0, purged }, started)
  }, options.signal)
}

function reportOf(record: TrainingRecord, done: Retrained, started: number): RecordForgetReport {
  const { entry, visits, purged } = done
  return {
    verb: 'forget',
    arm: entry.arm,
    forgotten: entry.rows,
    retained: record.size,
    shards: entry.shards,
    visits,
    purged,
    bound: boundOfStanding(record.standing),
    entry,
    seconds: (performance.now() - started) / 1000,
    peakMemoryBytes: memory().peak,
  }
}
