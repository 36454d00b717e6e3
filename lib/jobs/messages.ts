// What a worker process says to the one that forked it.
import { PalimpsestError, type ErrorCode } from '../errors.js'
import type { JobResult } from './job.js'

export type Answer = { visits: number } | { result: JobResult } | { error: { code?: ErrorCode; message: string } }

/** The error that a worker told of; those without a code were not thrown on purpose. */
export function errorOf({ code, message }: { code?: ErrorCode; message: string }): PalimpsestError {
  return code ? new PalimpsestError(code, message) : new PalimpsestError('ERR_INTERNAL', `in a worker: ${message}`)
}
