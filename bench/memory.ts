// Peak memory of a call: what the engine held at most, and what the process did.
import { readFileSync, writeFileSync } from 'node:fs'
import { native } from '../lib/native.js'

export interface PeakMemory {
  /** Bytes that the engine held more at the call's peak than before it; exact. */
  engine: number
  /** The same of the process's resident memory, where the system tells (Linux). */
  resident: number | null
}

/** Makes the process's highest resident memory begin anew; false where the system does not let it. */
function restartPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
    return true
  } catch {
    return false
  }
}

function resident(field: 'VmHWM' | 'VmRSS'): number {
  const found = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))
  return 1024 * Number(found?.[1])
}

/** Of the engine on a device; resident memory is the process's, whatever the device. */
export async function peakMemory(run: () => Promise<unknown>, device = 'cpu'): Promise<PeakMemory> {
  // What was disposed is let go of a turn later, on the native thread.
  for (let i = 0; i < 2; i++) {
    await new Promise(setImmediate)
    await native().memoryUse(device, true)
  }
  const { held } = await native().memoryUse(device, true)
  const told = restartPeak()
  const before = told ? resident('VmRSS') : 0
  await run()
  const after = told ? resident('VmHWM') : 0
  return { engine: (await native().memoryUse(device, false)).peak - held, resident: told ? after - before : null }
}

export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)
