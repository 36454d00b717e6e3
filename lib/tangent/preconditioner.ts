// The preconditioner of the quadratic problem: a sketch of its curvature by random combinations of Jacobian rows.
import type { NativeLowRank, NativeVector } from '../native.js'
import type { PassOptions } from '../model/passes.js'
import type { QuadraticProblem } from './quadratic.js'

/** Rows of the sketch, and the most memory for them. */
const mostRows = 600
const mostBytes = 256 * 2 ** 20
/** Fewer rows than this are not worth their solves. */
const leastRows = 8

export interface Preconditioner {
  /**
   * out := M^-1 x, M = (1/r) Z^T Z + (mu + |Z|^2/(2 r^2)) I with r rows z = J_i^T e of sampled examples i, e random signs.
   */
  apply(x: NativeVector, out: NativeVector): Promise<void>
  /** How many rows of the data were sampled; 0 for none: M = mu I. */
  readonly sampled: number
  dispose(): void
}

/** Without curvature: M = mu I. */
export function scaledIdentity(mu: number): Preconditioner {
  return {
    apply: async (x, out) => {
      if (x !== out) await out.copyFrom(x)
      await out.scale(1 / mu)
    },
    sampled: 0,
    dispose: () => undefined,
  }
}

/**
 * What M adds to mu. r rows resolve no direction that has less than 1/r of the trace, which their mean square estimates:
 * there M would be far below H. Between a quarter of that and all of it the number of iterations hardly changes (MNIST,
 * 105,866 parameters); without it there are half as many again.
 */
const unresolved = (meanSquare: number, r: number) => meanSquare / (2 * r)

/** Number of linearised values P. */
function size(vector: NativeVector, parameters: readonly string[]): number {
  const chosen = new Set(parameters)
  return vector.layout.reduce((sum, entry) => sum + (chosen.has(entry.name) ? entry.size : 0), 0)
}

/**
 * From rows of the problem's own, where memory allows some. E (J_i^T e)(J_i^T e)^T = J_i^T J_i, so one random combination
 * of a row's K outputs stands for all of them, and r examples take part instead of r / K. The solution does not depend on
 * M, nor does its certificate; only the number of iterations does.
 */
export async function makePreconditioner(
  problem: QuadraticProblem,
  seed: number,
  options: PassOptions,
): Promise<Preconditioner> {
  const like = problem.vector('float32')
  const bytes = 4 * size(like, problem.parameters)
  like.dispose()
  const r = Math.min(mostRows, Math.floor(mostBytes / bytes), problem.rows)
  if (r < leastRows) return scaledIdentity(problem.damping)
  const { rows, meanSquare } = await problem.sketch(r, seed, options)
  try {
    await rows.factor(1, problem.damping + unresolved(meanSquare, r))
  } catch (error) {
    rows.dispose()
    throw error
  }
  return lowRank(rows, r)
}

function lowRank(sketch: NativeLowRank, sampled: number): Preconditioner {
  return {
    apply: (x, out) => sketch.applyInverse(x, out),
    sampled,
    dispose: () => sketch.dispose(),
  }
}
