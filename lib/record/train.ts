// Training of shards through a runner: job folders are filled, jobs run side by side, results are checked.
import { randomUUID } from 'node:crypto'
import { copyFile, link, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { writeFileAtomically } from '../model/files.js'
import type { PassOptions } from '../model/passes.js'
import { checkResult, isaOf, type Job, type JobResult, type JobRunner, type Pins, type ShardJob } from '../jobs/job.js'
import { planDigest, writePlan } from '../jobs/shard.js'
import {
  sha256,
  sha256InTurns,
  type CheckpointRef,
  type Environment,
  type FileRef,
  type LedgerEntry,
  type LogRef,
  type Manifest,
} from './format.js'
import type { PlacedRow } from './rows.js'
import { writeRows } from './rows_file.js'
import { checkedBytes, type RecordStore } from './store.js'

/** What the ledger keeps of the jobs of a call. */
export type JobTotals = NonNullable<LedgerEntry['jobs']>

/** What jobs did: rows that went through the network, and what the ledger keeps. */
export interface Trained {
  visits: number
  jobs: JobTotals
}

/** A shard that is to be trained from a slice on. */
export interface ShardWork {
  shard: number
  /** Rows of each slice. */
  slices: readonly (readonly PlacedRow[])[]
  /** The first slice to run, from 1. */
  first: number
  /** The checkpoint to begin with; none: the initial weights. */
  start: CheckpointRef | undefined
}

export interface TrainedShard {
  work: ShardWork
  folder: string
  result: JobResult
}

/** Rows that go through the network for it. */
export function visitsOf({ slices, first }: ShardWork, epochs: readonly number[]): number {
  let rows = 0
  return slices.reduce((sum, slice, i) => {
    rows += slice.length
    return i + 1 < first ? sum : sum + rows * epochs[i]
  }, 0)
}

export const pinsOf = (environment: Environment): Pins => {
  const isa = isaOf(environment)
  return { device: environment.device, threads: environment.threads, ...(isa && { isa }) }
}

/** Jobs of a record that a runner takes side by side; where it does not say, one. */
const sideBySide = (runner: JobRunner, { environment }: Manifest): number => runner.atOnce?.(pinsOf(environment)) ?? 1

/** What a worker that is started with these pins has. */
export async function describeWorker(runner: JobRunner, pins: Pins, signal?: AbortSignal): Promise<Environment> {
  const job: Job = { kind: 'describe', id: randomUUID(), pins }
  const { environment } = checkResult(job, await runner.run(job, { signal }))
  if (environment.threads === pins.threads && environment.device === pins.device) return environment
  throw new PalimpsestError(
    'ERR_ENVIRONMENT',
    `expected workers with ${pins.threads} threads on '${pins.device}', got ${environment.description}`,
  )
}

/**
 * Trains shards side by side. The first failure stops the others; what they have finished stays in their folders.
 * @param finished - called one at a time as shards are done
 * @returns of the jobs that ran
 */
export async function trainShards(
  store: RecordStore,
  data: Dataset,
  works: readonly ShardWork[],
  runner: JobRunner,
  passes: PassOptions & { phase: string },
  finished: (trained: TrainedShard) => Promise<void>,
): Promise<Trained> {
  const jobs: { work: ShardWork; job: ShardJob }[] = []
  for (const work of works) jobs.push({ work, job: await prepareJob(store, data, work) })
  await store.removeJobs(new Set(jobs.map(({ job }) => nameOf(job.id))))
  const stop = new AbortController()
  const { signal, onProgress, phase } = passes
  const signals = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal
  const visits = new Float64Array(works.length)
  const total = works.reduce((sum, work) => sum + visitsOf(work, store.manifest.epochs), 0)
  let last: Promise<void> = Promise.resolve()
  const run = async ({ work, job }: (typeof jobs)[number], i: number): Promise<JobResult> => {
    const tell = (done: number): void => {
      visits[i] = Math.max(visits[i], done)
      onProgress?.({ phase, done: visits.reduce((a, b) => a + b, 0), total })
    }
    const result = checkResult(job, await runner.run(job, { signal: signals, onProgress: tell }))
    for (const ref of [...result.checkpoints, ...result.logs]) await checkedBytes(join(job.folder, ref.file), ref)
    tell(visitsOf(work, store.manifest.epochs))
    last = last.then(() => finished({ work, folder: job.folder, result }))
    await last
    return result
  }
  const settled = await Promise.allSettled(
    jobs.map((each, i) =>
      run(each, i).catch((error: unknown) => {
        stop.abort(error)
        throw error
      }),
    ),
  )
  if (signal?.aborted) throw signal.reason
  if (stop.signal.aborted) throw stop.signal.reason
  const results = settled.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
  const slices = works.reduce((sum, { first }) => sum + store.manifest.slices - first + 1, 0)
  const done = results.reduce((sum, result) => sum + result.visits, 0)
  return { visits: done, jobs: { slices, ...totalsOf(results, sideBySide(runner, store.manifest)) } }
}

/** Processor seconds only where every job said them. */
function totalsOf(results: readonly JobResult[], atOnce: number): JobTotals {
  const sum = (of: (result: JobResult) => number) => results.reduce((total, result) => total + of(result), 0)
  const processorSeconds = sum((result) => result.processorSeconds ?? NaN)
  const seconds = sum((result) => result.seconds)
  return { count: results.length, seconds, atOnce, ...(processorSeconds >= 0 && { processorSeconds }) }
}

const nameOf = (id: string): string => id.slice(0, 16)

/** The folder of a job with all that it needs; what an earlier try of the same job left there stays. */
async function prepareJob(store: RecordStore, data: Dataset, work: ShardWork): Promise<ShardJob> {
  const { manifest } = store
  const bytes = await writeRows(data, work.slices)
  const rows: FileRef = { file: 'rows.safetensors', bytes: bytes.length, sha256: await sha256InTurns(bytes) }
  const initial = { ...manifest.initial, file: 'initial.safetensors' }
  const start = work.start ? { ...work.start, file: 'start.safetensors' } : null
  const { epochs, seed, fit, environment, logEvery } = manifest
  const prefixes = prefixDigests(work)
  const log = logEvery !== undefined && { logEvery }
  const { shard, first } = work
  const plan = { shard, first, epochs, seed, fit, ...log, environment, prefixes, initial, rows, start }
  const id = planDigest(plan)
  const folder = store.jobFolder(nameOf(id))
  try {
    await mkdir(folder, { recursive: true })
  } catch (cause) {
    throw new PalimpsestError('ERR_IO', `could not make '${folder}': ${(cause as Error).message}`, { cause })
  }
  await writeFileAtomically(join(folder, rows.file), bytes)
  await place(store, manifest.initial, join(folder, initial.file))
  if (work.start && start) await place(store, work.start, join(folder, start.file))
  await writePlan(folder, plan)
  return { kind: 'shard', id, folder, pins: pinsOf(environment) }
}

/** A file of the record in a job's folder as well. */
async function place(store: RecordStore, ref: FileRef, to: string): Promise<void> {
  const from = store.path(ref)
  await checkedBytes(from, ref)
  try {
    await rm(to, { force: true })
    await link(from, to).catch(() => copyFile(from, to))
  } catch (cause) {
    throw new PalimpsestError('ERR_IO', `could not write '${to}': ${(cause as Error).message}`, { cause })
  }
}

function prefixDigests({ slices }: ShardWork): string[] {
  let digest = ''
  return slices.map((rows) => {
    digest = sha256(`${digest}\n${JSON.stringify(rows.map((row) => [row.key, row.digest]))}`)
    return digest
  })
}

/** Takes a trained shard's files into the record: the checkpoints it then has, those before the first slice included. */
export async function adoptShard(
  store: RecordStore,
  kept: Manifest['states'][number],
  { work, folder, result }: TrainedShard,
): Promise<Manifest['states'][number]> {
  const made: CheckpointRef[] = []
  for (const ref of result.checkpoints) {
    const stem = `shards/${work.shard}/slice-${ref.slice}`
    made.push({ ...ref, ...(await store.adopt(stem, join(folder, ref.file), ref, '.safetensors')) })
  }
  const logs: LogRef[] = []
  for (const ref of result.logs) {
    const stem = `logs/${work.shard}/slice-${ref.slice}-step-${ref.step}`
    logs.push({ ...ref, ...(await store.adopt(stem, join(folder, ref.file), ref, '.safetensors')) })
  }
  const earlier = <T extends { slice: number }>(refs: readonly T[]) => refs.filter(({ slice }) => slice < work.first)
  return {
    rows: work.slices.map((rows) => rows.length),
    checkpoints: [...earlier(kept.checkpoints), ...made],
    logs: [...earlier(kept.logs), ...logs],
  }
}
