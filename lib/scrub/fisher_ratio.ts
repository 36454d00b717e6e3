// Steps from two Fisher diagonals, tensor by tensor: ratios with their zero and infinity rules, caps, natural steps.
import type { LayoutEntry } from '../native.js'
import { inTurns } from '../turns.js'

/** What a parameter that neither class needs gets: 'leave' stays where it is, 'move' counts as needed by both alike. */
export type Unused = 'leave' | 'move'

export interface RatioRules {
  /** Added to both sums (the released code's 1e-16; 0 for the exact ratio). */
  floor: number
  /** The same as a share of the tensor's mean R: free of scale. 0 where left out. */
  relativeFloor?: number
  unused: Unused
}

/** eta of one tensor, where it lies in the flat vector, and its largest value. */
export interface TensorRatio extends LayoutEntry {
  eta: Float64Array
  largest: number
}

/**
 * eta_i = (F_i + floor) / (R_i + floor) (Yamashita et al. 2024, eq. 6), in float64, where a ratio of squares spans what
 * float32 needs logarithms for. 0 / 0 is 1 or, to leave such parameters, 0; x / 0, or a ratio above the largest double,
 * is the largest finite ratio of its tensor, 1 where there is none.
 *
 * @param forget - F, flat as the layout says; squares of gradients, not negative
 * @param retain - R
 */
export async function fisherRatios(
  forget: Float64Array,
  retain: Float64Array,
  layout: readonly LayoutEntry[],
  { unused, ...floors }: RatioRules,
): Promise<TensorRatio[]> {
  const found: TensorRatio[] = []
  for (const entry of layout) {
    const { offset, size } = entry
    const floor = await floorOf(retain.subarray(offset, offset + size), floors)
    const eta = new Float64Array(size)
    let largest = 0
    let infinite = 0
    await inTurns(size, (from, to) => {
      for (let i = from; i < to; i++) {
        const [f, r] = [forget[offset + i], retain[offset + i]]
        if (f === 0 && r === 0) eta[i] = unused === 'move' ? 1 : 0
        else eta[i] = (f + floor) / (r + floor)
        if (eta[i] === Infinity) infinite++
        else if (eta[i] > largest) largest = eta[i]
      }
    })
    if (infinite > 0) {
      if (largest === 0) largest = 1
      await inTurns(size, (from, to) => {
        for (let i = from; i < to; i++) if (eta[i] === Infinity) eta[i] = largest
      })
    }
    found.push({ ...entry, eta, largest })
  }
  return found
}

/** Each value divided by the sum of all, in place; zeros stay zeros. */
export async function toShares(values: Float64Array): Promise<Float64Array> {
  const total = await sumOf(values)
  if (total === 0) return values
  await inTurns(values.length, (from, to) => {
    for (let i = from; i < to; i++) values[i] /= total
  })
  return values
}

async function sumOf(values: Float64Array): Promise<number> {
  let sum = 0
  await inTurns(values.length, (from, to) => {
    for (let i = from; i < to; i++) sum += values[i]
  })
  return sum
}

/** Largest gradient of a tensor, as a share of the largest of all, that may be the rounding of zeros in float64. */
const roundingOf = 1e-12

/**
 * d_i = g_i / (R_i + floor): the step that changes g's function most for what it costs those of R, where that is
 * sum R_i d_i^2 (a natural gradient with a diagonal Fisher, Amari 1998). Where nothing is in the denominator, 0; so is it
 * in tensors whose gradient is the rounding of one that is 0, such as a bias that a softmax or a normalisation takes out.
 *
 * @param gradient - g, flat as the layout says
 * @param retain - R, likewise
 */
export async function naturalStep(
  gradient: Float64Array,
  retain: Float64Array,
  layout: readonly LayoutEntry[],
  floors: Pick<RatioRules, 'floor' | 'relativeFloor'>,
): Promise<Float64Array> {
  const step = new Float64Array(gradient.length)
  const largest: number[] = []
  for (const { offset, size } of layout) {
    let most = 0
    await inTurns(size, (from, to) => {
      for (let i = offset + from; i < offset + to; i++) most = Math.max(most, Math.abs(gradient[i]))
    })
    largest.push(most)
  }
  const rounding = roundingOf * Math.max(...largest)
  for (const [t, { offset, size }] of layout.entries()) {
    if (largest[t] <= rounding) continue
    const floor = await floorOf(retain.subarray(offset, offset + size), floors)
    await inTurns(size, (from, to) => {
      for (let i = offset + from; i < offset + to; i++) {
        const below = retain[i] + floor
        if (below > 0) step[i] = gradient[i] / below
      }
    })
  }
  return step
}

/** floor + relativeFloor * mean R of a tensor. */
async function floorOf(
  retain: Float64Array,
  { floor, relativeFloor = 0 }: Pick<RatioRules, 'floor' | 'relativeFloor'>,
): Promise<number> {
  return relativeFloor === 0 ? floor : floor + (relativeFloor * (await sumOf(retain))) / retain.length
}

/** The caps: lambda1 on the multiplier of eta, lambda2 on the largest step of a tensor. */
export interface Caps {
  lambda1: number
  lambda2: number
}

/** alpha = min(lambda1, lambda2 / max eta) of a tensor (Yamashita et al. 2024, eq. 7); 0 for one that nothing moves. */
export function multiplierOf({ largest }: TensorRatio, { lambda1, lambda2 }: Caps): number {
  return largest === 0 ? 0 : Math.min(lambda1, lambda2 / largest)
}

/** sign alpha_l eta_i of every parameter (eq. 5), flat, zeros in the padding. */
export async function cappedSteps(
  ratios: readonly TensorRatio[],
  caps: Caps,
  sign: 1 | -1,
  steps: Float64Array,
): Promise<Float64Array> {
  steps.fill(0)
  for (const ratio of ratios) {
    const { eta, offset, size } = ratio
    const alpha = sign * multiplierOf(ratio, caps)
    await inTurns(size, (from, to) => {
      for (let i = from; i < to; i++) steps[offset + i] = alpha * eta[i]
    })
  }
  return steps
}
