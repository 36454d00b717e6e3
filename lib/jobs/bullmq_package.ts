// BullMQ as far as it is used here: an optional peer, loaded when a runner or worker asks for it.
import { PalimpsestError } from '../errors.js'

/** Options of a Redis connection, as ioredis takes them. */
export type Connection = Readonly<Record<string, unknown>>

export interface QueuedJob {
  data: unknown
  getState(): Promise<string>
  remove(): Promise<unknown>
  updateProgress(progress: number): Promise<void>
  waitUntilFinished(events: QueueEventsHandle): Promise<unknown>
}

interface Handle {
  on(event: string, listener: (...args: never[]) => void): unknown
  waitUntilReady(): Promise<unknown>
  close(force?: boolean): Promise<unknown>
}

export interface QueueHandle extends Handle {
  getJob(id: string): Promise<QueuedJob | undefined>
  add(name: string, data: unknown, options: object): Promise<QueuedJob>
}

export type QueueEventsHandle = Handle

export interface Bullmq {
  Queue: new (name: string, options: object) => QueueHandle
  QueueEvents: new (name: string, options: object) => QueueEventsHandle
  Worker: new (name: string, run: (job: QueuedJob) => Promise<unknown>, options: object) => Handle
  UnrecoverableError: new (message: string) => Error
}

/** ERR_UNSUPPORTED where the packages are not installed. */
export async function loadBullmq(): Promise<Bullmq> {
  try {
    // Named at run time: a bundler or compiler that lacks the packages must not look for them.
    const [name, client] = ['bullmq', 'ioredis']
    const loaded = (await import(name)) as Bullmq
    await import(client)
    return loaded
  } catch (cause) {
    const what = "the packages 'bullmq' and 'ioredis', which jobs on several machines need (npm install bullmq ioredis)"
    throw new PalimpsestError('ERR_UNSUPPORTED', `expected ${what}; they could not be loaded`, { cause })
  }
}
