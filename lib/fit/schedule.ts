// Learning-rate schedules: the rate of a step as a function of its number, PyTorch's definitions, step by step.
import { either, number, object, oneOf, optional, check, is, type Check } from '../options.js'

/** How the learning rate moves over the steps; lengths are in epochs and may be fractions. */
export type ScheduleOption =
  | 'constant'
  | 'cosine'
  | 'step'
  | {
      /** 'cosine': half a cosine from the rate down to `final` times it; 'step': times `factor` at each milestone. */
      type: 'constant' | 'cosine' | 'step'
      /** Epochs over which the rate first rises linearly; 5 % of the run where left out, 0 for none. */
      warmup?: number
      /** 'cosine': the share of the rate that is left after the last step (default 0). */
      final?: number
      /** 'step': epochs, ascending; a half and three quarters of the run where left out. */
      milestones?: number[]
      /** 'step': default 0.1. */
      factor?: number
    }

/** A schedule with its defaults filled in; lengths in epochs. */
export interface Schedule {
  type: 'constant' | 'cosine' | 'step'
  warmup: number
  final?: number
  milestones?: number[]
  factor?: number
}

const types = oneOf('constant', 'cosine', 'step')

const ascending: Check<number[]> = check(
  'epochs in ascending order',
  (value): value is number[] =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((epoch, i) => is.number(epoch) && epoch >= 0 && (i === 0 || epoch > value[i - 1])),
)

const structured = object({
  type: types,
  warmup: optional(number({ min: 0 })),
  final: optional(number({ min: 0, max: 1 })),
  milestones: optional(ascending),
  factor: optional(number({ above: 0, max: 1 })),
})

const foreign = {
  constant: ['final', 'milestones', 'factor'],
  cosine: ['milestones', 'factor'],
  step: ['final'],
} as const

/** What `schedule` takes; keys of another type of schedule are refused. */
export const scheduleCheck: Check<Exclude<ScheduleOption, string>> = {
  expected: `${types.expected} or an object with type, warmup, final, milestones, factor`,
  read(value, name) {
    const given = either(types, structured).read(value, name)
    if (typeof given === 'string') return { type: given }
    for (const key of foreign[given.type]) {
      check(`nothing with type '${given.type}'`, (v): v is undefined => v === undefined).read(
        given[key],
        `${name}.${key}`,
      )
    }
    return Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) as typeof given & {
      warmup?: number
    }
  },
}

/** Fills in the defaults for a run of so many steps. */
export function scheduleOf(given: Exclude<ScheduleOption, string>, steps: number, stepsPerEpoch: number): Schedule {
  const { type, warmup = Math.floor(steps / 20) / stepsPerEpoch } = given
  if (type === 'constant') return { type, warmup }
  if (type === 'cosine') return { type, warmup, final: given.final ?? 0 }
  const milestones = given.milestones ?? [0.5, 0.75].map((share) => (share * steps) / stepsPerEpoch)
  return { type, warmup, milestones, factor: given.factor ?? 0.1 }
}

/**
 * The factors of the rate at steps t = 0 .. steps - 1; w and milestones are rounded to steps. Warmup: (t + 1) / w for
 * t < w. After it, constant: 1; cosine: final + (1 - final)(1 + cos(pi (t - w) / (steps - w))) / 2 (Loshchilov and
 * Hutter 2017, equation 5); step: factor to the number of milestones at or before t.
 */
export function rateFactors(schedule: Schedule, steps: number, stepsPerEpoch: number): (t: number) => number {
  const inSteps = (epochs: number) => Math.round(epochs * stepsPerEpoch)
  const { type, final = 0, factor = 1 } = schedule
  const warmup = Math.min(inSteps(schedule.warmup), steps)
  const milestones = (schedule.milestones ?? []).map(inSteps)
  return (t) => {
    if (t < warmup) return (t + 1) / warmup
    if (type === 'constant') return 1
    if (type === 'step') return factor ** milestones.filter((milestone) => milestone <= t).length
    return final + ((1 - final) * (1 + Math.cos((Math.PI * (t - warmup)) / (steps - warmup)))) / 2
  }
}
