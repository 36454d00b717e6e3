// Jobs: what a runner carries to a worker and what comes back; a shard is a job with a folder.
import { PalimpsestError } from '../errors.js'
import { sha256, type CheckpointRef, type Environment, type FileRef, type LogRef } from '../record/format.js'
import type { FitSettings } from '../record/settings.js'

/** What a worker's process must be started with, so that its bits are those of the others. */
export interface Pins {
  device: string
  /** OpenMP threads. */
  threads: number
  /** The instruction set of the record, where one is there already. */
  isa?: string
}

/** Says what environment a worker has. */
export interface DescribeJob {
  kind: 'describe'
  id: string
  pins: Pins
}

/** Trains a shard; the folder holds all that it needs (job.json, initial, rows, start) and takes what it makes. */
export interface ShardJob {
  kind: 'shard'
  /** Names the result: jobs with one id give the same files. */
  id: string
  folder: string
  pins: Pins
}

export type Job = DescribeJob | ShardJob

export interface JobResult {
  id: string
  environment: Environment
  /** Of a shard: a checkpoint for each slice that was run, names relative to the job's folder. */
  checkpoints: CheckpointRef[]
  /** The update log, where the plan asks for one. */
  logs: LogRef[]
  /** Rows that went through the network: less than the plan's where an earlier try had finished some. */
  visits: number
  seconds: number
  /** Of the worker's processors meanwhile: how loaded its machine was. */
  processorSeconds?: number
  /** SHA-256 over id, checkpoints and logs: what arrived is what was sent. */
  checksum: string
}

/** job.json: what decides the result of a shard's job. */
export interface ShardPlan {
  shard: number
  /** The first slice to run, from 1. */
  first: number
  /** Epochs of each slice. */
  epochs: number[]
  seed: number
  fit: FitSettings
  /** Steps of a slice from one state of the update log to the next. */
  logEvery?: number
  environment: Environment
  /** For each slice a digest of the rows of slices 1 to this one. */
  prefixes: string[]
  initial: FileRef
  rows: FileRef
  /** The checkpoint to begin with; none: the initial weights. */
  start: CheckpointRef | null
}

export interface RunOptions {
  signal?: AbortSignal | undefined
  /** Rows that went through the network in this job so far. */
  onProgress?: ((visits: number) => void) | undefined
}

/**
 * Runs jobs somewhere: in processes of this machine (`processPool`), or on others (`bullmqRunner`). A job may be run
 * twice, where a worker died or was taken for dead; both give the same files, and one result is taken.
 */
export interface JobRunner {
  /** Gives the result; ERR_WORKER where workers died too often, ERR_ENVIRONMENT where none can match the pins. */
  run(job: Job, options?: RunOptions): Promise<JobResult>
  /** Jobs with these pins that it runs side by side; not known where left out. plan() reckons with it. */
  atOnce?(pins: Pins): number
  /** Lets go of what the runner holds. Idempotent. */
  close(): Promise<void>
}

export function jobResult(result: Omit<JobResult, 'checksum'>): JobResult {
  return { ...result, checksum: checksumOf(result) }
}

const checksumOf = ({ id, environment, checkpoints, logs }: Omit<JobResult, 'checksum'>): string =>
  sha256(JSON.stringify([id, environment, checkpoints, logs]))

/** Refuses a result that is another job's, or was changed on its way. */
export function checkResult(job: Job, result: JobResult): JobResult {
  if (result?.id !== job.id || result.checksum !== checksumOf(result)) {
    throw new PalimpsestError('ERR_WORKER', `expected the result of job ${job.id} with its checksum, got another`)
  }
  return result
}

/** The instruction set that an environment names. */
export const isaOf = ({ description }: Environment): string | undefined =>
  /instruction set (\w+)/.exec(description)?.[1]
