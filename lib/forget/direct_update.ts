// The direct update: what the revoked rows did in the steps they were in is undone, and carried to the end of the run.
import { native, type NativeVector } from '../native.js'
import {
  krylov,
  meanGradient,
  transition,
  type Deviation,
  type Product,
  type StepRule,
  type Subspace,
} from './deviation.js'
import { mapEigenvalues } from './symmetric.js'

/** Weights and velocity that the run had before a step. */
export interface LoggedState {
  weights: NativeVector
  velocity: NativeVector
}

/** A step that loses rows. */
export interface Loss {
  step: number
  /** Rows of its batch, those that it loses among them. */
  size: number
  /** Positions of those that it loses. */
  rows: Int32Array
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
  losses: readonly Loss[]
}

export interface DirectProducts {
  /** out = gradient of the mean loss over rows that were in the batch of a step, at these weights. */
  gradient(loss: Loss, weights: NativeVector, out: NativeVector): Promise<void>
  /** Products with the Hessian of the mean loss of rows that stay, at the start of a segment; none: no drift correction. */
  hessian?(segment: Segment): Product
  /** Sets to zero what is not fitted. */
  mask?(vector: NativeVector): Promise<void>
  /** Products a segment, at most. */
  mostProducts: number
}

/**
 * Carries a deviation over a segment. At a step whose batch of b rows loses q, the survivors' mean gradient differs from the
 * batch's g_B by q / (b - q) (g_B - mean of the lost rows' gradients): their contribution is undone and the survivors are
 * renormalised. g_B is the one gradient that takes the logged start to the logged end; the lost rows' gradients are
 * computed, at weights between the two. Curvature carries the deviation on: delta' = (I - rate H) delta + ... (amnesiac
 * unlearning, Graves et al. 2021, for rows in place of batches; drift as in DeltaGrad, Wu et al. 2020).
 */
export async function crossSegment(deviation: Deviation, segment: Segment, products: DirectProducts): Promise<void> {
  const { from, to, rule, start, end, losses } = segment
  if (losses.length === 0 && deviation.none) return
  const make = () => new (native().Vector)(start.weights, start.weights.dtype)
  const [mean, at, change] = [make(), make(), make()]
  const subspace = await subspaceOf(deviation, segment, products)
  try {
    await meanGradient(transition(rule, from, to), start, end, mean)
    await products.mask?.(mean)
    let done = from
    for (const loss of losses) {
      await deviation.pass(rule, done, loss.step, subspace)
      const share = (loss.step - from) / (to - from)
      await Promise.all([at.copyFrom(start.weights), at.scale(1 - share), at.axpy(share, end)])
      await changeOf(loss, mean, at, change, products)
      await deviation.step(rule, loss.step, change, subspace)
      done = loss.step + 1
    }
    await deviation.pass(rule, done, to, subspace)
  } finally {
    for (const vector of [mean, at, change, ...(subspace?.directions ?? [])]) vector.dispose()
  }
}

/** The survivors' mean gradient less the batch's; a batch that loses all its rows has gradient 0 then. */
async function changeOf(
  loss: Loss,
  mean: NativeVector,
  at: NativeVector,
  change: NativeVector,
  products: DirectProducts,
): Promise<void> {
  const lost = loss.rows.length
  if (lost === loss.size) {
    await Promise.all([change.copyFrom(mean), change.scale(-1)])
    return
  }
  await products.gradient(loss, at, change)
  const factor = lost / (loss.size - lost)
  await Promise.all([change.scale(-factor), change.axpy(factor, mean)])
}

async function subspaceOf(
  deviation: Deviation,
  segment: Segment,
  products: DirectProducts,
): Promise<Subspace | undefined> {
  const product = products.hessian?.(segment)
  if (product === undefined || deviation.none) return undefined
  const { directions, products: matrix } = await krylov(
    product,
    [deviation.weights, deviation.velocity],
    products.mostProducts,
  )
  const { from, to, rule } = segment
  let rate = 0
  for (let step = from; step < to; step++) rate = Math.max(rate, rule.rate(step))
  // Training was stable: what the Hessian at one state would blow up over the segment is held where it dies out at once.
  const most = 1 / rate
  return { directions, products: mapEigenvalues(matrix, (lambda) => Math.min(Math.max(lambda, 0), most)) }
}
