// The duality-gap certificate: a rigorous bound on the distance to the exact minimiser, in float64 with its rounding.
import type { PassOptions } from '../model/passes.js'
import type { NativeVector } from '../native.js'
import type { Preconditioner } from './preconditioner.js'
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
  /** grad L at the witness, float64, and how it was summed. */
  rho: NativeVector
  measure: ResidualMeasure
}

/**
 * E <= B = (1/n) sum |J_i y|^2 + mu |y + rho/mu|^2 with y = w - witness, for any witness: twice the primal-dual gap; or
 * with the slack rho^T S^-1 rho, S <= H, in place of |rho|^2/mu. |w - w*| <= min(sqrt(E/mu), |y| + |rho|/mu).
 * Rounding: rho may be off by e = 2^-40 ((1/n) sum over batches |batch gradient| + mu |witness|).
 */
export async function certify(
  problem: QuadraticProblem,
  preconditioner: Preconditioner,
  point: CertifiedPoint,
  options: PassOptions,
): Promise<Certificate> {
  const { w, witness, rho, measure } = point
  const mu = problem.damping
  const y = problem.vector('float64')
  const slackRho = problem.vector('float64')
  try {
    await Promise.all([y.copyFrom(w), y.axpy(-1, witness)])
    const [jy, yy, yRho, rhoRho, ww] = await Promise.all([
      problem.meanSquare(y, options),
      y.dot(y),
      y.dot(rho),
      rho.dot(rho),
      witness.dot(witness),
    ])
    const e = 2 ** -40 * (measure.batchNorms + mu * Math.sqrt(ww))
    // mu |y + rho/mu|^2 as a sum of squares: without cancellation.
    await Promise.all([slackRho.copyFrom(y), slackRho.axpy(1 / mu, rho)])
    const plain = Math.sqrt(jy + mu * (await slackRho.dot(slackRho))) + e / Math.sqrt(mu)
    let energy = plain * plain
    if (preconditioner.sampled > 0) {
      await preconditioner.applySlack(rho, slackRho)
      const [slack, slackNorm] = await Promise.all([preconditioner.slackQuadratic(rho), slackRho.dot(slackRho)])
      const rounding = 2 * Math.sqrt(yy) * e + 2 * Math.sqrt(slackNorm) * e + (e * e) / mu
      const shaped = jy + mu * yy + 2 * yRho + slack + rounding
      // This form can cancel; it is used only where it stays well above its rounding.
      const terms = jy + mu * yy + 2 * Math.abs(yRho) + slack
      if (shaped > 1e-9 * terms) energy = Math.min(energy, shaped * (1 + 1e-9) + 1e-12 * terms)
    }
    const roundUp = 1 + 2 ** -40
    const residual = Math.sqrt(rhoRho)
    const distance = Math.min(Math.sqrt(energy / mu), Math.sqrt(yy) + (residual + e) / mu) * roundUp
    return { distance, energy: energy * roundUp, residual, allowance: e }
  } finally {
    y.dispose()
    slackRho.dispose()
  }
}
