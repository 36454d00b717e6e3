// The quadratic problem solved to a certified distance: float32 inside, float64 weights, residuals and bound outside.
import { PalimpsestError } from '../errors.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { NativeVector } from '../native.js'
import { certify, relativeDistance, type Certificate } from './certificate.js'
import { conjugateGradient } from './conjugate_gradient.js'
import { makePreconditioner, type Preconditioner } from './preconditioner.js'
import type { QuadraticProblem } from './quadratic.js'

export interface SolveOptions extends PassOptions {
  /** The distance |w - w*| that must be certified, or relative to |w|. */
  target: { distance: number } | { relative: number }
  mostIterations: number
  /** Of the rows that the preconditioner samples. */
  seed: number
  /** Brings w to where it will be published (a grid), before it is certified. */
  place?: (w: NativeVector) => Promise<unknown>
}

export interface SolveResult {
  certificate: Certificate
  iterations: number
  /** Rounds of refinement, each with one float64 verification. */
  rounds: number
  sampled: number
}

/** Inner solves stop when the residual has fallen by ten thousand: float32 gives no more, and often less. */
const reduction = 1e-8
const mostRounds = 12

/** Thrown as the report of ERR_NOT_CONVERGED. */
export interface Unconverged {
  iterations: number
  distance: number
  wanted: number
}

/** w := a point certified to lie within the target of the exact minimiser; w is where the solve starts. */
export async function solve(problem: QuadraticProblem, w: NativeVector, options: SolveOptions): Promise<SolveResult> {
  const preconditioner = await makePreconditioner(problem, options.seed, options)
  const work = {
    base: problem.vector('float64'),
    rho: problem.vector('float64'),
    b: problem.vector('float32'),
    x: problem.vector('float32'),
    witness: problem.vector('float32'),
  }
  try {
    return await refine(problem, w, preconditioner, work, options)
  } finally {
    for (const vector of Object.values(work)) vector.dispose()
    preconditioner.dispose()
  }
}

interface Work {
  base: NativeVector
  rho: NativeVector
  b: NativeVector
  x: NativeVector
  witness: NativeVector
}

async function refine(
  problem: QuadraticProblem,
  w: NativeVector,
  preconditioner: Preconditioner,
  work: Work,
  options: SolveOptions,
): Promise<SolveResult> {
  const { base, rho, b, x, witness } = work
  const mu = problem.damping
  await base.copyFrom(w)
  // Where the first inner solve starts need not be known better than float32 solves it; from then on residuals are float64.
  await x.copyFrom(w)
  await problem.gradient(x, b, options)
  await rho.copyFrom(b)
  let iterations = 0
  let last = Infinity
  for (let round = 1; round <= mostRounds; round++) {
    const wanted = await wantedDistance(w, options)
    // A margin for what float32 recurrences and rounding to a grid overlook, more of it where it was not enough; the
    // float64 verification decides.
    const margin = 0.6 * 4 ** (1 - round) * mu
    // From w = 0 the length that the distance is relative to is that of the solution itself.
    const relative = wanted === 0 && 'relative' in options.target ? options.target.relative : 0
    await Promise.all([b.copyFrom(rho), b.scale(-1)])
    const inner = await conjugateGradient(problem, preconditioner, b, x, witness, {
      ...options,
      energy: margin * wanted * wanted,
      relativeEnergy: margin * relative * relative,
      reduction,
      mostIterations: options.mostIterations - iterations,
      onIteration: (i, residual) =>
        options.onProgress?.({ phase: 'solve', done: iterations + i, total: options.mostIterations, residual }),
    })
    iterations += inner.iterations
    await Promise.all([w.copyFrom(base), w.axpy(1, x), base.axpy(1, witness)])
    await options.place?.(w)
    const certificate = await certify(problem, { w, witness: base, rho }, options)
    const reached = certificate.distance
    const goal = await wantedDistance(w, options)
    if (reached <= goal) {
      return { certificate, iterations, rounds: round, sampled: preconditioner.sampled }
    }
    checkSignal(options.signal)
    // Rounding decides: another round would not help.
    const stuck = reached > 0.9 * last
    if (iterations >= options.mostIterations || stuck || round === mostRounds) {
      const report: Unconverged = { iterations, distance: reached, wanted: goal }
      throw new PalimpsestError(
        'ERR_NOT_CONVERGED',
        `expected a certified distance of ${goal.toPrecision(3)} to the exact solution, got ` +
          `${reached.toPrecision(3)} after ${iterations} iterations`,
        { report },
      )
    }
    last = reached
  }
  throw new PalimpsestError('ERR_INTERNAL', 'a solve ended without a verdict')
}

async function wantedDistance(w: NativeVector, options: SolveOptions): Promise<number> {
  if ('distance' in options.target) return options.target.distance
  return relativeDistance(w, options.target.relative)
}
