// A worker of a BullMQ queue: takes jobs, runs each in a process of its own with the record's pins, and answers.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { PalimpsestError } from '../errors.js'
import { callback, integer, optional, readOptions, string, withDefault } from '../options.js'
import { connectionCheck, reasonOf, type BullmqOptions } from './bullmq.js'
import { loadBullmq } from './bullmq_package.js'
import type { Job } from './job.js'
import { processPool } from './process_pool.js'

export interface BullmqWorkerOptions extends BullmqOptions {
  /** Jobs at once (default 1). */
  workers?: number
  /** Where a job's folder lies on this machine; the same path where left out. The folder is shared, e.g. by NFS. */
  folderOf?: (folder: string) => string
  /** Milliseconds after which a worker that says nothing is taken for dead, and its job given to another (default 30000). */
  lockDuration?: number
}

const table = {
  connection: connectionCheck,
  queue: withDefault(string, 'palimpsest'),
  prefix: optional(string),
  workers: withDefault(integer({ min: 1 }), 1),
  folderOf: optional(callback<(folder: string) => string>()),
  lockDuration: withDefault(integer({ min: 100 }), 30_000),
}

/** How often a worker may be taken for dead before its job fails; the runner's attempts count what jobs throw. */
const mostStalled = 5

/**
 * Serves a queue until it is closed. The threads and instruction set that a record pins are set for the process of each
 * job; a machine that lacks what is pinned refuses (ERR_ENVIRONMENT), and the job is tried elsewhere.
 *
 * Errors: ERR_UNSUPPORTED where the packages bullmq and ioredis are missing.
 */
export async function bullmqWorker(options: BullmqWorkerOptions): Promise<{ close(): Promise<void> }> {
  const read = readOptions(options, table, 'bullmqWorker()')
  const { connection, queue, prefix, workers, lockDuration, folderOf = (folder) => folder } = read
  const { Worker, UnrecoverableError } = await loadBullmq()
  const pool = processPool({ workers })
  const leaving = new AbortController()
  const run = async (queued: { data: unknown; updateProgress(visits: number): Promise<void> }) => {
    const given = queued.data as Job
    const job: Job = given.kind === 'shard' ? { ...given, folder: folderOf(given.folder) } : given
    const gone = new AbortController()
    const watch = setInterval(() => {
      if (job.kind === 'shard' && !existsSync(join(job.folder, 'job.json')))
        gone.abort(new Error('the job was taken back'))
    }, 1000)
    try {
      return await pool.run(job, {
        signal: AbortSignal.any([gone.signal, leaving.signal]),
        onProgress: (visits) => void queued.updateProgress(visits).catch(() => undefined),
      })
    } catch (error) {
      // Another machine may have what this one lacks; what the job itself throws comes again.
      const elsewhere =
        error instanceof PalimpsestError && ['ERR_ENVIRONMENT', 'ERR_WORKER', 'ERR_IO'].includes(error.code)
      throw elsewhere ? new Error(reasonOf(error)) : new UnrecoverableError(reasonOf(error))
    } finally {
      clearInterval(watch)
    }
  }
  const worker = new Worker(queue, run, {
    connection,
    ...(prefix !== undefined && { prefix }),
    concurrency: workers,
    lockDuration,
    stalledInterval: lockDuration,
    maxStalledCount: mostStalled,
  })
  worker.on('error', () => undefined)
  await worker.waitUntilReady()
  return {
    async close() {
      // Of the codes that another worker takes the job up after.
      leaving.abort(new PalimpsestError('ERR_WORKER', 'expected a worker that goes on, got one that was closed'))
      await worker.close()
      await pool.close()
    },
  }
}
