// What forget() reports: the bound with what was measured, and the assumptions with the numbers that check them.
import type { Assumption, Bound, Measured } from '../bound.js'
import { native } from '../native.js'
import type { TangentModel } from '../tangent.js'
import type { SolveMemory } from '../tangent/quadratic.js'
import type { Promised } from './promise.js'
import type { SolvedRequest } from './solvers.js'

export interface ForgetReport {
  verb: 'forget'
  options: Record<string, unknown>
  forgotten: number
  retained: number
  noiseScale: number
  /** 'newton', 'refit' or 'sgd': what gave the weights in the end. */
  solver: string
  iterations: number
  /** Sweeps over the retained rows, the preconditioner's and the verification's included. */
  passes: { float32: number; float64: number }
  /** Which batches were linearised once and held, which again in every pass; null where none is linearised twice. */
  memory: SolveMemory | null
  bound: Bound
  seconds: number
  peakMemoryBytes: number
  device: string
}

/** This instance's numbers: bounds from the certificate at the mean that was published. */
export function measuredOf(solved: SolvedRequest, promised: Promised): Measured {
  const { distance, energy, residual, allowance, mahalanobis } = solved
  const measured = { distance, energy, residual, allowance }
  if (solved.exact) return { ...measured, nats: 0, epsilon: 0 }
  if (promised.noiseScale === 0) return { ...measured, nats: null, epsilon: null }
  const d = mahalanobis / promised.noiseScale
  return { ...measured, nats: native().natsOf(d), epsilon: native().epsilonOf(d, promised.delta) }
}

/** What the guarantee rests on. Nothing in it depends on the forgotten rows: what does is named, and lies in `measured`. */
export function assumptionsOf(model: TangentModel, solved: SolvedRequest, promised: Promised): Assumption[] {
  if (solved.exact) {
    return [
      {
        statement:
          'the weights are those of a fit from zero to the retained rows: no state that saw the others was read',
        check: 'by construction; the same bits as fit() on those rows',
      },
    ]
  }
  const list: Assumption[] = [
    {
      statement: 'the certificate was evaluated in float64 at the mean that was published, its rounding included',
      check: 'measured.allowance, beside measured.residual',
    },
    { statement: 'damping bounds the curvature from below', check: `mu = ${model.damping}` },
    {
      statement: 'the retained rows are those that were fitted',
      check: 'digests of all rows, kept from fit() on and compared at this request',
    },
    {
      statement: 'noise scale and target do not depend on user rows',
      check: "set before a user row is read; that publicData is public is the operator's to ensure",
    },
  ]
  if (promised.noiseScale > 0) {
    list.push({
      statement: 'noise in whole steps of a public grid, float64 sampler, ChaCha20 under a secret key, drawn once',
      check: `s = ${promised.noiseScale}, grid ${solved.spacing?.toExponential(2) ?? 'unknown'}`,
    })
    list.push({ statement: 'the generator is ideal up to 2^-64 a comparison', check: 'assumed' })
  }
  return list
}
