// The direct update: what the revoked rows did in the steps they were in is undone, and carried to the end of the run.
import { native, type NativeVector } from '../native.js'
import { meanGradient, transition, type Deviation, type StepRule, type Subspace } from './deviation.js'

/** Weights and velocity that the run had before a step. */
export interface LoggedState {
  weights: NativeVector
  velocity: NativeVector
}

/** A step that loses rows. */
export interface Loss {
  step: number
  /** Of the shard's run, from 0; rows are changed (cropped, flipped) by it. */
  epoch?: number
  /** Rows of its batch, those that it loses among them. */
  size: number
  /** Positions of those that it loses. */
  rows: Int32Array
}

/** Losses that are taken together: over steps `from` to `to` (exclusive) their sum is spread evenly. */
export interface LostRows {
  from: number
  to: number
  /** Positions, and for each row at a step with b rows of which q are lost 1 / (b - q). */
  rows: Int32Array
  weights: Float64Array
  /** Sum over the steps of q / (b - q); -1 for a batch that loses all its rows, whose gradient is 0 then. */
  mean: number
  epoch: number | undefined
}

/** Steps between two states that were logged. */
export interface Segment {
  from: number
  to: number
  rule: StepRule
  /** Before step `from`. */
  start: LoggedState
  /** Before step `to`. */
  end: NativeVector
  /** Ascending. */
  losses: readonly LostRows[]
}

export interface DirectProducts {
  /** out = sum over rows of weight times the gradient of the row's loss, at these weights. */
  gradient(lost: LostRows, weights: NativeVector, out: NativeVector): Promise<void>
  /** Curvature over a segment, disposed after it; none: no drift correction. */
  curvature?(segment: Segment, deviation: Deviation): Promise<Subspace | undefined>
  /** Sets to zero what is not fitted. */
  mask?(vector: NativeVector): Promise<void>
}

/** Losses of one epoch in groups that end before `length` steps after their first. */
export function together(losses: readonly Loss[], length: number): LostRows[] {
  const groups: Loss[][] = []
  for (const loss of losses) {
    const group = groups.at(-1)
    if (group && loss.step < group[0].step + length && loss.epoch === group[0].epoch) group.push(loss)
    else groups.push([loss])
  }
  return groups.map((group) => {
    const kept = group.filter(({ rows, size }) => rows.length < size)
    const left = ({ rows, size }: Loss) => size - rows.length
    return {
      from: group[0].step,
      to: group[group.length - 1].step + 1,
      rows: Int32Array.from(kept.flatMap(({ rows }) => [...rows])),
      weights: Float64Array.from(kept.flatMap((loss) => Array.from(loss.rows, () => 1 / left(loss)))),
      mean: group.reduce((sum, loss) => sum + (left(loss) > 0 ? loss.rows.length / left(loss) : -1), 0),
      epoch: group[0].epoch,
    }
  })
}

/**
 * Carries a deviation over a segment. At a step whose batch of b rows loses q, the survivors' mean gradient differs from the
 * batch's g_B by q / (b - q) (g_B - mean of the lost rows' gradients): their contribution is undone and the survivors are
 * renormalised. g_B is the one gradient that takes the logged start to the logged end; the lost rows' gradients are
 * computed, at weights between the two, and spread over the steps that are taken together. Curvature carries the deviation on: delta' = (I - rate H) delta + ... (amnesiac
 * unlearning, Graves et al. 2021, for rows in place of batches; drift as in DeltaGrad, Wu et al. 2020).
 */
export async function crossSegment(deviation: Deviation, segment: Segment, products: DirectProducts): Promise<void> {
  const { from, to, rule, start, end, losses } = segment
  const make = () => new (native().Vector)(start.weights, start.weights.dtype)
  const [mean, at, change] = [make(), make(), make()]
  let subspace: Subspace | undefined
  try {
    await meanGradient(transition(rule, from, to), start, end, mean)
    await products.mask?.(mean)
    subspace = await products.curvature?.(segment, deviation)
    if (subspace !== undefined) await deviation.enter(subspace)
    let done = from
    for (const lost of losses) {
      await deviation.pass(rule, done, lost.from)
      const share = ((lost.from + lost.to - 1) / 2 - from) / (to - from)
      await Promise.all([at.copyFrom(start.weights), at.scale(1 - share), at.axpy(share, end)])
      await products.gradient(lost, at, change)
      const steps = lost.to - lost.from
      await Promise.all([change.scale(-1 / steps), change.axpy(lost.mean / steps, mean)])
      await deviation.pass(rule, lost.from, lost.to, change)
      done = lost.to
    }
    await deviation.pass(rule, done, to)
    await deviation.leave()
  } finally {
    for (const vector of [mean, at, change]) vector.dispose()
    subspace?.dispose?.()
  }
}
