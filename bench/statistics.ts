// Medians with spread of times that alternate, and how they are written.
import { look, stolenShareSince } from './stolen.js'

/** Wall-clock and processor milliseconds of one repetition; the second does not count what other processes took. */
export interface Sample {
  wall: number
  cpu: number
  /** Share of the processors' time that the machine's host gave to others meanwhile and shortly before, where it says. */
  stolen?: number | undefined
}

export interface Summary {
  median: number
  /** First and third quartile. */
  quartiles: [number, number]
  least: number
}

function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1)
  const below = Math.floor(at)
  const above = Math.min(below + 1, sorted.length - 1)
  return sorted[below] + (at - below) * (sorted[above] - sorted[below])
}

export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b)
  return {
    median: quantile(sorted, 0.5),
    quartiles: [quantile(sorted, 0.25), quantile(sorted, 0.75)],
    least: sorted[0],
  }
}

export const median = (values: readonly number[]): number => summarize(values).median

/** One repetition of `run`, timed. */
export const timed = async (run: () => Promise<unknown>): Promise<Sample> => (await timedResult(run)).sample

export async function timedResult<T>(run: () => Promise<T>): Promise<{ result: T; sample: Sample }> {
  look()
  const cpu = process.cpuUsage()
  const start = performance.now()
  const result = await run()
  const wall = performance.now() - start
  const { user, system } = process.cpuUsage(cpu)
  return { result, sample: { wall, cpu: (user + system) / 1000, stolen: stolenShareSince(start) } }
}

/** A repetition with less of its processors' time stolen tells of two programs, with more of their neighbours. */
const undisturbedShare = 0.01
const leastUndisturbed = 7

export const isUndisturbed = ({ stolen = Infinity }: Sample): boolean => stolen <= undisturbedShare

/** Wall-clock times of the repetitions that the host left alone; undefined where they are few. */
export function undisturbed(samples: readonly Sample[]): Summary | undefined {
  const found = samples.filter(isUndisturbed)
  return found.length < leastUndisturbed ? undefined : summarize(found.map(({ wall }) => wall))
}

export const digits = (value: number): string =>
  value >= 1000 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)

/** 12.3 [11.9, 14.0] */
export const spread = ({ median, quartiles }: Summary): string =>
  `${digits(median)} [${digits(quartiles[0])}, ${digits(quartiles[1])}]`
