// A limited-memory quasi-Newton matrix of secants, as a curvature on their span and one number for all that is beyond it.
import { native, type NativeVector } from '../native.js'
import { orthonormal, type StepRule, type Subspace } from './deviation.js'
import { mapEigenvalues } from './symmetric.js'

/** A secant: over the step s the gradient changed by y, with s^T y > 0. */
export interface Secant {
  step: NativeVector
  change: NativeVector
}

/** Steps with their rates. */
export interface Steps {
  from: number
  to: number
  rule: StepRule
}

/**
 * BFGS from B = rest I: B - (B s)(B s)^T / (s^T B s) + y y^T / (y^T s) for each secant, oldest first, in coordinates of the
 * secants' span; eigenvalues held (the matrix of DeltaGrad, Wu et al. 2020; Byrd, Nocedal and Schnabel 1994).
 */
export async function quasiNewton(secants: readonly Secant[], rest: number, steps: Steps): Promise<Subspace> {
  const directions: NativeVector[] = []
  try {
    for (const x of secants.flatMap(({ step, change }) => [step, change])) {
      const unit = new (native().Vector)(x, x.dtype)
      if (await orthonormal(unit, x, directions)) directions.push(unit)
      else unit.dispose()
    }
    const coordinates = (x: NativeVector) => Promise.all(directions.map((q) => x.dot(q)))
    let b = directions.map((_, i) => directions.map((__, j) => (i === j ? rest : 0)))
    for (const { step, change } of secants) b = updated(b, await coordinates(step), await coordinates(change))
    return { directions, products: held(b, steps), rest: Math.min(rest, mostCurvature(steps)) }
  } catch (error) {
    for (const each of directions) each.dispose()
    throw error
  }
}

const inner = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0)

function updated(b: readonly (readonly number[])[], s: readonly number[], y: readonly number[]): number[][] {
  const bs = b.map((row) => inner(row, s))
  const [sbs, ys] = [inner(s, bs), inner(y, s)]
  return b.map((row, i) => row.map((x, j) => x - (sbs > 0 ? (bs[i] * bs[j]) / sbs : 0) + (y[i] * y[j]) / ys))
}

/** Where a step of the largest rate takes a direction's deviation away at once. */
function mostCurvature({ rule, from, to }: Steps): number {
  let rate = 0
  for (let step = from; step < to; step++) rate = Math.max(rate, rule.rate(step))
  return 1 / rate
}

/** Eigenvalues between 0 and 1 / rate. Training was stable: beyond, curvature of one state would blow up over the steps. */
export function held(products: readonly (readonly number[])[], steps: Steps): number[][] {
  const most = mostCurvature(steps)
  return mapEigenvalues(products, (lambda) => Math.min(Math.max(lambda, 0), most))
}
