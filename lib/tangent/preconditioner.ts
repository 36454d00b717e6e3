// The preconditioner of the quadratic problem, and the lower bound of the curvature that its certificate may use.
import { native, type NativeLowRank, type NativeVector } from '../native.js'
import type { PassOptions } from '../model/passes.js'
import type { QuadraticProblem } from './quadratic.js'

/** Rows of J that are kept, and the most memory for them. */
const mostRows = 250
const mostBytes = 192 * 2 ** 20

export interface Preconditioner {
  /** out := M^-1 x, M = (1/m) J^T J + mu I over m sampled rows. */
  apply(x: NativeVector, out: NativeVector): Promise<void>
  /** out := S^-1 x with S <= H: S = (m/n)(1/m) J^T J + mu I, scaled down by what float32 rows may have lost. */
  applySlack(x: NativeVector, out: NativeVector): Promise<void>
  /** x^T S^-1 x. */
  slackQuadratic(x: NativeVector): Promise<number>
  /** A bound on the largest eigenvalue of S^-1. */
  readonly slackCeiling: number
  /** How many rows of the data were sampled; 0 for none. */
  readonly sampled: number
  dispose(): void
}

/** Without curvature: M = S = mu I. */
export function scaledIdentity(mu: number): Preconditioner {
  const divide = async (x: NativeVector, out: NativeVector): Promise<void> => {
    if (x !== out) await out.copyFrom(x)
    await out.scale(1 / mu)
  }
  return {
    apply: divide,
    applySlack: divide,
    slackQuadratic: async (x) => (await x.dot(x)) / mu,
    slackCeiling: 1 / mu,
    sampled: 0,
    dispose: () => undefined,
  }
}

class LowRank implements Preconditioner {
  readonly #inner: NativeLowRank
  readonly #slack: NativeLowRank
  /** 1/c with S = c S', S' from the float32 rows: H >= c S'. */
  readonly #loss: number

  constructor(
    inner: NativeLowRank,
    slack: NativeLowRank,
    loss: number,
    readonly sampled: number,
    readonly slackCeiling: number,
  ) {
    this.#inner = inner
    this.#slack = slack
    this.#loss = loss
  }

  async apply(x: NativeVector, out: NativeVector): Promise<void> {
    await this.#inner.applyInverse(x, out)
  }

  async applySlack(x: NativeVector, out: NativeVector): Promise<void> {
    await this.#slack.applyInverse(x, out)
    await out.scale(this.#loss)
  }

  async slackQuadratic(x: NativeVector): Promise<number> {
    return (await this.#slack.inverseQuadratic(x)) * this.#loss
  }

  dispose(): void {
    this.#inner.dispose()
    this.#slack.dispose()
  }
}

/** Number of linearised values P. */
function size(vector: NativeVector, parameters: readonly string[]): number {
  const chosen = new Set(parameters)
  return vector.layout.reduce((sum, entry) => sum + (chosen.has(entry.name) ? entry.size : 0), 0)
}

/**
 * From m sampled rows, where memory allows one row's Jacobian or more. The rows are among the problem's own, so that
 * (m/n) (1/m) J^T J <= (1/n) sum J^T J: what the certificate's slack rests on (certificates: section 4).
 */
export async function makePreconditioner(
  problem: QuadraticProblem,
  classes: number,
  seed: number,
  options: PassOptions,
): Promise<Preconditioner> {
  const like = problem.vector('float32')
  try {
    const bytes = 4 * size(like, problem.parameters) * classes
    const m = Math.min(Math.floor(mostRows / classes), Math.floor(mostBytes / bytes), Math.floor(problem.rows / 4))
    if (m < 1) return scaledIdentity(problem.damping)
    const { lowRank, squares } = await problem.sampleJacobian(m, seed, options)
    try {
      await lowRank.factor(1, problem.damping)
      const slack = new (native().LowRank)(lowRank)
      await slack.factor(m / problem.rows, problem.damping)
      // Rounding rows to float32 moves (1/n) J^T J by at most 2^-22 |J|_F^2 / n.
      const loss = 1 + (2 ** -22 * squares) / problem.rows / problem.damping
      return new LowRank(lowRank, slack, loss, m, loss / problem.damping)
    } catch (error) {
      lowRank.dispose()
      throw error
    }
  } finally {
    like.dispose()
  }
}
