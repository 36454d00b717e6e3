// The runner for several machines: jobs go through a BullMQ queue on Redis to workers that share the record's folder.
import { PalimpsestError, errorCodes, type ErrorCode } from '../errors.js'
import { check, integer, is, optional, readOptions, string, withDefault } from '../options.js'
import { checkResult, type Job, type JobResult, type JobRunner } from './job.js'
import {
  loadBullmq,
  type Connection,
  type QueuedJob,
  type QueueEventsHandle,
  type QueueHandle,
} from './bullmq_package.js'

export interface BullmqOptions {
  /** Redis, as ioredis takes it. */
  connection: Connection
  /** Name of the queue (default 'palimpsest'). */
  queue?: string
  /** Of all keys in Redis (default BullMQ's, 'bull'). */
  prefix?: string
}

export interface BullmqRunnerOptions extends BullmqOptions {
  /** How often a job is tried before it fails (default 3); a worker that died is a try. */
  attempts?: number
}

export const connectionCheck = check('the options of a Redis connection, e.g. { host, port }', (v): v is Connection =>
  is.plainObject(v),
)

const table = {
  connection: connectionCheck,
  queue: withDefault(string, 'palimpsest'),
  prefix: optional(string),
  attempts: withDefault(integer({ min: 1 }), 3),
}

/**
 * Runs jobs on the workers of a queue (`bullmqWorker`), on this machine or others. Needs the packages bullmq and ioredis.
 *
 * Errors: ERR_UNSUPPORTED where the packages are missing, ERR_WORKER where a job was tried too often or Redis is lost.
 */
export async function bullmqRunner(options: BullmqRunnerOptions): Promise<JobRunner> {
  const { connection, queue: name, prefix, attempts } = readOptions(options, table, 'bullmqRunner()')
  const { Queue, QueueEvents } = await loadBullmq()
  const how = { connection, ...(prefix !== undefined && { prefix }) }
  const queue = new Queue(name, how)
  const events = new QueueEvents(name, how)
  // Each call that waits is told by its own promise; here an error would end the process.
  queue.on('error', () => undefined)
  events.on('error', () => undefined)
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()])
  const listeners = new Map<string, (visits: number) => void>()
  events.on('progress', ({ jobId, data }: { jobId: string; data: unknown }) => {
    if (typeof data === 'number') listeners.get(jobId)?.(data)
  })
  let closed = false
  return {
    async run(job, { signal, onProgress } = {}) {
      const jobId = `job-${job.id}`
      const waiting = await enqueue(queue, job, jobId, attempts)
      let fail: (error: Error) => void = () => undefined
      const aborted = new Promise<never>((_, reject) => (fail = reject))
      aborted.catch(() => undefined)
      const stop = (): void => fail(signal?.reason as Error)
      signal?.addEventListener('abort', stop, { once: true })
      listeners.set(jobId, (visits) => {
        try {
          onProgress?.(visits)
        } catch (error) {
          fail(error as Error)
        }
      })
      try {
        if (signal?.aborted) throw signal.reason
        return checkResult(job, await Promise.race([outcome(waiting, events), aborted]))
      } finally {
        listeners.delete(jobId)
        signal?.removeEventListener('abort', stop)
        // What runs on a worker is locked and stays; it ends by itself when its folder is gone.
        await waiting.remove().catch(() => undefined)
      }
    },
    async close() {
      if (closed) return
      closed = true
      await Promise.all([queue.close(), events.close()])
    },
  }
}

/** A job that an earlier caller left in the queue is waited for; what it left there ended is run again. */
async function enqueue(queue: QueueHandle, job: Job, jobId: string, attempts: number): Promise<QueuedJob> {
  const old = await queue.getJob(jobId)
  if (old && ['completed', 'failed'].includes(await old.getState())) await old.remove().catch(() => undefined)
  // Kept until the caller has looked: a result that is removed at once cannot be waited for.
  const kept = { removeOnComplete: { age: 3600 }, removeOnFail: { age: 3600 } }
  return queue.add(job.kind, job, { jobId, attempts, ...kept })
}

async function outcome(job: QueuedJob, events: QueueEventsHandle): Promise<JobResult> {
  try {
    return (await job.waitUntilFinished(events)) as JobResult
  } catch (error) {
    throw failureOf(error instanceof Error ? error.message : String(error))
  }
}

/** The error of a reason that `reasonOf` wrote; any other is BullMQ's own: stalled too often, or Redis lost. */
function failureOf(reason: string): PalimpsestError {
  const [code, ...rest] = reason.split(': ')
  if ((errorCodes as readonly string[]).includes(code)) return new PalimpsestError(code as ErrorCode, rest.join(': '))
  return new PalimpsestError('ERR_WORKER', `expected a worker of the queue to end its job, got: ${reason}`)
}

/** An error as a queue carries it. */
export const reasonOf = (error: unknown): string =>
  error instanceof PalimpsestError ? `${error.code}: ${error.message}` : `ERR_INTERNAL: ${String(error)}`
