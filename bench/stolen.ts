// What the host of a virtual machine gives to others while a time is taken.
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** Milliseconds of /proc/stat's unit, which the kernel fixes for programs. */
const tick = 10
/** Of a line of /proc/stat: 'cpu', user, nice, system, idle, iowait, irq, softirq, steal. */
const stolenColumn = 8

/** Milliseconds that all processors of this machine together waited for its host, since it was started; NaN where no one says. */
export function stolenSoFar(): number {
  if (process.platform !== 'linux') return NaN
  try {
    const [line] = readFileSync('/proc/stat', 'latin1').split('\n', 1)
    return tick * Number(line.split(/\s+/)[stolenColumn])
  } catch {
    return NaN
  }
}

const processors = cpus().length

/** Share of all processors' time over so many milliseconds; undefined where no one says. */
export function stolenShare(stolen: number, wall: number): number | undefined {
  return Number.isNaN(stolen) ? undefined : stolen / (wall * processors)
}
