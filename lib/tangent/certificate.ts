// The duality-gap certificate: a rigorous bound on the distance to the exact minimiser, in float64 with its rounding.
import { PalimpsestError } from '../errors.js'
import type { PassOptions } from '../model/passes.js'
import type { NativeVector } from '../native.js'
import type { QuadraticProblem, ResidualMeasure } from './quadratic.js'

export interface Certificate {
  /** Bound on |w - w*|. */
  distance: number
  /** Bound on E = (w - w*)^T H (w - w*). */
  energy: number
  /** |grad L| at the witness. */
  residual: number
  /** The part of it that float64 rounding may account for. */
  allowance: number
}

export interface CertifiedPoint {
  /** The point to certify. */
  w: NativeVector
  /** Any second point; the nearer to the minimiser, the tighter the bound. */
  witness: NativeVector
  /** Overwritten: grad L at the witness, float64. */
  rho: NativeVector
}

/** What float64 may lose of a sum of products over the rows, relative to the sum of their sizes. */
const unit = 2 ** -46
/** The same relative to sums that are near what is computed. */
const coarse = 2 ** -40

/**
 * What rounding may have changed in grad L at the witness: relative to its parts, (1/n) sum over batches |batch gradient|
 * and mu |witness|, and to the sizes of the rows' own gradients, which cancel within a batch: j |r|, j = |J|_F / sqrt(n),
 * where r = f + J x - target was itself summed from terms of size |r|, |target| and j |x|.
 */
function allowanceOf(problem: QuadraticProblem, size: number, j: number, measure: ResidualMeasure): number {
  const row = Math.sqrt(2 * measure.loss) + problem.targetScale + j * size
  return coarse * (measure.batchNorms + problem.damping * size) + unit * j * row
}

/**
 * E <= B = (1/n) sum |J_i y|^2 + mu |y + rho/mu|^2 with y = w - witness, for any witness: twice the primal-dual gap.
 * |w - w*| <= min(sqrt(E/mu), |y| + |rho|/mu). rho may be off by the allowance, J y by 2^-40 of its own size and of
 * sqrt(mu) |y|. One float64 pass over the rows for gradient and J y together.
 *
 * Throws ERR_NOT_CONVERGED where the numbers are not finite: nothing is certified then.
 */
export async function certify(
  problem: QuadraticProblem,
  point: CertifiedPoint,
  options: PassOptions,
): Promise<Certificate> {
  const { w, witness, rho } = point
  const mu = problem.damping
  const y = problem.vector('float64')
  const slack = problem.vector('float64')
  try {
    await Promise.all([y.copyFrom(w), y.axpy(-1, witness)])
    const { measure, meanSquare: jy, jacobianSize } = await problem.verify(witness, y, rho, options)
    const e = allowanceOf(problem, Math.sqrt(await witness.dot(witness)), jacobianSize, measure)
    // mu |y + rho/mu|^2 as a sum of squares: without cancellation.
    await Promise.all([slack.copyFrom(y), slack.axpy(1 / mu, rho)])
    const [yy, rhoRho, squares] = await Promise.all([y.dot(y), rho.dot(rho), slack.dot(slack)])
    const rounded = coarse * (Math.sqrt(jy) + Math.sqrt(mu * yy))
    const energy = (Math.sqrt(jy + mu * squares) + rounded + e / Math.sqrt(mu)) ** 2
    const residual = Math.sqrt(rhoRho)
    const distance = Math.min(Math.sqrt(energy / mu), Math.sqrt(yy) + (residual + e) / mu) * (1 + coarse)
    if (!Number.isFinite(distance + energy)) {
      throw new PalimpsestError('ERR_NOT_CONVERGED', `expected finite weights, got a residual of ${residual}`)
    }
    return { distance, energy: energy * (1 + coarse), residual, allowance: e }
  } finally {
    y.dispose()
    slack.dispose()
  }
}

/** Throws ERR_NOT_CONVERGED, with both distances as its report, where less is certified than is wanted. @internal */
export function requireDistance(distance: number, wanted: number): void {
  if (distance <= wanted) return
  throw new PalimpsestError(
    'ERR_NOT_CONVERGED',
    `expected a certified distance of ${wanted.toPrecision(3)} to the exact solution, got ${distance.toPrecision(3)}`,
    { report: { distance, wanted } },
  )
}

/** `tolerance` |w|: the distance that a relative tolerance asks for. @internal */
export async function relativeDistance(w: NativeVector, tolerance: number): Promise<number> {
  return tolerance * Math.sqrt(await w.dot(w))
}
