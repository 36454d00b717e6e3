// The ledger: what was released, at which noise and target. It holds nothing that depends on the forgotten rows.
import { native } from '../native.js'

/** How far released weights may be from the exactly retrained model plus the same noise. */
export interface Guarantee {
  /** KL divergence in nats, both directions; null where no noise was added. */
  nats: number | null
  /** (epsilon, delta)-indistinguishability; epsilon is null without noise. */
  epsilon: number | null
  delta: number
  /** Largest true-positive minus false-positive rate of any test that tells the two apart: erf(sqrt(nats)/2). */
  advantage: number | null
  /** True where the weights are what the same routine gives without the rows: nothing of them was ever read. */
  exact: boolean
}

/** One release of weights. */
export interface Release {
  /** 1 for the first. */
  number: number
  kind: 'fit' | 'forget' | 'refit' | 'forgetAll'
  /** Standard deviation of the noise; 0 for none. */
  noiseScale: number
  noiseShape: 'isotropic' | 'curvature' | 'none'
  /** The preset distance D_T = sqrt(2 nats); null where none was promised. */
  targetDistance: number | null
  delta: number
  guaranteed: Guarantee | null
  /** The noise came from a given seed: who knows it can subtract it, and nothing is guaranteed. */
  seeded?: true
}

/** What a preset Mahalanobis distance guarantees. */
export function guaranteeOf(distance: number, delta: number): Guarantee {
  const nats = native().natsOf(distance)
  return {
    nats,
    epsilon: native().epsilonOf(distance, delta),
    delta,
    advantage: native().advantage(nats),
    exact: distance === 0,
  }
}

/** Releases together: Gaussian distances add in squares (Dong, Roth and Su 2022), for adaptive requests too. */
export function totalOf(releases: readonly Release[], delta: number): Guarantee | null {
  const forgotten = releases.filter((release) => release.kind !== 'fit')
  if (forgotten.length === 0) return null
  if (forgotten.some((release) => release.targetDistance === null)) {
    return { nats: null, epsilon: null, delta, advantage: null, exact: false }
  }
  const squares = forgotten.reduce((sum, release) => sum + (release.targetDistance as number) ** 2, 0)
  return guaranteeOf(Math.sqrt(squares) * (1 + (forgotten.length + 2) * 2 ** -52), delta)
}
