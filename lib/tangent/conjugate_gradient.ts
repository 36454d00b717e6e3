// Preconditioned conjugate gradient with a second point by residual smoothing, whose duality gap is known.
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { NativeVector } from '../native.js'
import type { Preconditioner } from './preconditioner.js'
import type { QuadraticProblem } from './quadratic.js'

export interface InnerOptions extends PassOptions {
  /** Stop when the estimate of (x - x*)^T H (x - x*) is at or under this. */
  energy: number
  /** The same where it is at or under this times |x|^2. */
  relativeEnergy?: number
  /** Stop when r^T M^-1 r has fallen by this factor: float32 has no more to give. */
  reduction: number
  mostIterations: number
  /** After each iteration. */
  onIteration?: (iteration: number, relativeResidual: number) => void
}

export interface InnerResult {
  iterations: number
  /** Estimate of the gap between x and the solution in the energy norm, squared; by recurrences, not a guarantee. */
  gap: number
}

/**
 * Solves H x = b approximately, in b's type; x and witness are overwritten. The witness x^ follows x by the line search that
 * minimises B = y^T H y + 2 y^T rho^ + |rho^|^2/mu (y = x - x^, rho^ = H x^ - b), which bounds (x - x*)^T H (x - x*):
 * twice the primal-dual gap, at no product with H.
 */
export async function conjugateGradient(
  problem: QuadraticProblem,
  preconditioner: Preconditioner,
  b: NativeVector,
  x: NativeVector,
  witness: NativeVector,
  options: InnerOptions,
): Promise<InnerResult> {
  const v = Object.fromEntries(names.map((name) => [name, problem.vector(b.dtype)])) as Vectors
  try {
    return await iterate(problem, preconditioner, b, x, witness, v, options)
  } finally {
    for (const vector of Object.values(v)) vector.dispose()
  }
}

const names = ['r', 'z', 'p', 'q', 'rHat', 's', 't'] as const
type Vectors = Record<(typeof names)[number], NativeVector>

async function iterate(
  problem: QuadraticProblem,
  preconditioner: Preconditioner,
  b: NativeVector,
  x: NativeVector,
  witness: NativeVector,
  v: Vectors,
  options: InnerOptions,
): Promise<InnerResult> {
  const { r, z, p, q, rHat, s, t } = v
  const mu = problem.damping
  await Promise.all([x.fill(0), witness.fill(0), r.copyFrom(b), rHat.copyFrom(b)])
  await preconditioner.apply(r, z)
  await p.copyFrom(z)
  let rz = await r.dot(z)
  const start = rz
  let slack = (await rHat.dot(rHat)) / mu // |rHat|^2 / mu, by recurrence
  let gap = slack
  let iterations = 0
  let enough = options.energy
  while (iterations < options.mostIterations && gap > enough && rz > options.reduction * start && rz > 0) {
    checkSignal(options.signal)
    await problem.product(p, q, options)
    const curvature = await p.dot(q)
    if (!(curvature > 0)) break
    const alpha = rz / curvature
    await Promise.all([x.axpy(alpha, p), r.axpy(-alpha, q), preconditioner.apply(r, z)])
    const next = await r.dot(z)
    gap = await smooth()
    if (options.relativeEnergy) enough = Math.max(options.energy, options.relativeEnergy * (await x.dot(x)))
    await Promise.all([p.scale(next / rz), p.axpy(1, z)])
    rz = next
    iterations++
    options.onIteration?.(iterations, Math.sqrt(Math.max(rz, 0) / start))
  }
  return { iterations, gap }

  /** Moves the witness towards x; gives B after the move. */
  async function smooth(): Promise<number> {
    await Promise.all([s.copyFrom(x), s.axpy(-1, witness), t.copyFrom(r), t.axpy(-1, rHat)])
    const [st, sr, rt, tt] = await Promise.all([s.dot(t), s.dot(rHat), rHat.dot(t), t.dot(t)])
    const bend = tt / mu + st
    const eta = bend > 0 ? -(rt / mu + sr) / bend : 1
    await Promise.all([witness.axpy(eta, s), rHat.axpy(eta, t)])
    slack += (2 * eta * rt + eta * eta * tt) / mu
    return -((1 - eta) ** 2) * st - 2 * (1 - eta) * (sr + eta * st) + slack
  }
}
