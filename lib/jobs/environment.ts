// The environment of this process: what its bits depend on, and whether it is what a record pins.
import { deviceCalled } from '../devices.js'
import { PalimpsestError } from '../errors.js'
import { native } from '../native.js'
import type { Environment } from '../record/format.js'

/** Of a device of this process. */
export function environmentOf(device: string): Environment {
  const { available, description } = deviceCalled(device) ?? {}
  if (!available || description === undefined) {
    throw new PalimpsestError('ERR_ENVIRONMENT', `expected a worker with device '${device}', got one without it`)
  }
  // Those of the process, which has them on the CPU whatever it computes on.
  const threads = Number(/(\d+) threads?/.exec(deviceCalled('cpu')?.description ?? '')?.[1] ?? 1)
  return { device, threads, description, version: native().version() }
}

/** ERR_ENVIRONMENT where this process would give other bits. */
export function checkEnvironment(wanted: Environment): Environment {
  const got = environmentOf(wanted.device)
  const words = ({ description, version }: Environment) => `${description}, palimpsest ${version}`
  if (words(got) === words(wanted)) return got
  throw new PalimpsestError(
    'ERR_ENVIRONMENT',
    `expected a worker with what the record pins (${words(wanted)}), got ${words(got)}: its bits would be others`,
  )
}
