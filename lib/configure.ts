// settings() and configure(): how a device computes.
import { chooseDevice } from './devices.js'
import { native, type DeviceSettings } from './native.js'
import { check, either, integer, invalid, is, oneOf, optional, readOptions, string, withDefault } from './options.js'

export type { DeviceSettings } from './native.js'

export interface ConfigureOptions {
  /** Whose settings (default 'cpu'). */
  device?: string
  /** Threads of every kernel, 1 to 1024. At start: OMP_NUM_THREADS, or the processors that this process may use. */
  threads?: number
  /** One of the device's `instructionSets`. At start: PALIMPSEST_ISA, or the best up to avx512. */
  instructionSet?: string
  /** Bytes that the engine may hold on the device; 'none' (as at start) takes the limit away. */
  memoryLimit?: number | 'none'
}

const table = {
  device: withDefault(string, 'cpu'),
  threads: optional(integer({ min: 1, max: 1024 })),
  instructionSet: optional(check('the name of an instruction set', is.string)),
  memoryLimit: optional(either(integer({ min: 1, max: 2 ** 52 }), oneOf('none'))),
}

/**
 * Threads, instruction set and memory limit of a device ('cpu' where left out) as they are now.
 *
 * Errors: ERR_DEVICE for a device that cannot be had.
 */
export function settings(device = 'cpu'): DeviceSettings {
  return native().deviceSettings(chooseDevice(string.read(device, 'device')).name)
}

/**
 * Sets threads, instruction set and memory limit of a device, for the whole process. The setting waits its turn: what was
 * called before runs as it would have, what is called after the promise is there runs under the new one. The same
 * settings give the same bits; others differ by rounding. Resolves to the settings as they are then.
 *
 * Errors: ERR_INVALID_ARGUMENT for what the device does not have, ERR_DEVICE, ERR_UNSUPPORTED for another instruction set
 * once oneDNN has computed (it chooses its kernels once a process). After an error every setting is as before.
 */
export async function configure(options: ConfigureOptions): Promise<DeviceSettings> {
  const { device: wanted, memoryLimit, ...rest } = readOptions(options, table, 'configure()')
  const device = chooseDevice(wanted).name
  const sets = native().deviceSettings(device).instructionSets
  const { threads, instructionSet } = rest
  if (instructionSet !== undefined && !sets.includes(instructionSet)) {
    throw invalid('instructionSet', `one of ${sets.map((set) => `'${set}'`).join(', ')}`, instructionSet)
  }
  await native().configure(device, {
    ...(threads !== undefined && { threads }),
    ...(instructionSet !== undefined && { instructionSet }),
    ...(memoryLimit !== undefined && { memoryLimit: memoryLimit === 'none' ? 0 : memoryLimit }),
  })
  return native().deviceSettings(device)
}
