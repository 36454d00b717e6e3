// What the host of a virtual machine gives to others while a time is taken.
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** Milliseconds of /proc/stat's unit, which the kernel fixes for programs. */
const tick = 10
/** Of a line of /proc/stat: 'cpu', user, nice, system, idle, iowait, irq, softirq, steal. */
const stolenColumn = 8

/** Milliseconds that all processors of this machine together waited for its host, since it was started; NaN where no one says. */
function stolenSoFar(): number {
  if (process.platform !== 'linux') return NaN
  try {
    const [line] = readFileSync('/proc/stat', 'latin1').split('\n', 1)
    return tick * Number(line.split(/\s+/)[stolenColumn])
  } catch {
    return NaN
  }
}

/** A tick is 1 % of two processors' time over so many milliseconds: of shorter spans nothing can be said. */
const leastSpan = 500

/** Processors that the benchmarks compute on. */
let processors = 0

const looks: { time: number; stolen: number }[] = []

/** To be called before what is timed. */
export function look(): { time: number; stolen: number } {
  const now = { time: performance.now(), stolen: stolenSoFar() }
  looks.push(now)
  return now
}

/**
 * Share of our processors' time that was stolen since a time (of performance.now()), or over the last half second where that
 * is longer; undefined where no one says, or no one looked half a second ago.
 */
export function stolenShareSince(time: number): number | undefined {
  // Once: it reads a file that is made anew each time.
  processors ||= Math.min(cpus().length, Number(process.env.OMP_NUM_THREADS) || Infinity)
  const now = look()
  const before = looks.findLast((each) => each.time <= Math.min(time, now.time - leastSpan))
  if (before === undefined || Number.isNaN(now.stolen)) return undefined
  return (now.stolen - before.stolen) / ((now.time - before.time) * processors)
}
