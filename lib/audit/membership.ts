// The loss-threshold membership attack (Yeom et al. 2018): forgotten rows against rows of their classes that nobody saw.
import { shuffled } from '../data/batches.js'
import { streams } from '../philox.js'
import { clopperPearson, type Interval } from './intervals.js'

export interface Membership {
  members: number
  nonMembers: number
  /** Share of (member, non-member) pairs with the smaller loss at the member, ties half: 0.5 tells nothing. */
  auc: number
  /** Exact: Clopper and Pearson over disjoint random pairs, which are independent; ties against either side. */
  aucInterval: Interval
  /** (true positives + true negatives) / 2 at a threshold chosen on the other half of the rows. */
  balancedAccuracy: number
  /** Exact: of the two rates, each at half the risk. */
  balancedAccuracyInterval: Interval
}

/**
 * Members are those whose loss is at most a threshold. Rows are halved at random (a function of the seed): the threshold
 * is chosen on one half, and both rates are measured on the other, so that their intervals are exact.
 */
export function membershipOf(
  members: Float64Array,
  others: Float64Array,
  confidence: number,
  seed: number,
): Membership {
  const own = mixed(members, seed)
  const foreign = mixed(others, seed + 1)
  const [a, b] = [own.length >> 1, foreign.length >> 1]
  const threshold = bestThreshold(own.subarray(0, a), foreign.subarray(0, b))
  const [tested, testedOthers] = [own.subarray(a), foreign.subarray(b)]
  const hits = tested.filter((loss) => loss <= threshold).length
  const rejections = testedOthers.filter((loss) => loss > threshold).length
  const half = (1 + confidence) / 2
  const [sensitivity, specificity] = [
    clopperPearson(hits, tested.length, half),
    clopperPearson(rejections, testedOthers.length, half),
  ]
  return {
    members: own.length,
    nonMembers: foreign.length,
    auc: areaUnderCurve(own, foreign),
    aucInterval: pairedInterval(own, foreign, confidence),
    balancedAccuracy: (hits / tested.length + rejections / testedOthers.length) / 2,
    balancedAccuracyInterval: [(sensitivity[0] + specificity[0]) / 2, (sensitivity[1] + specificity[1]) / 2],
  }
}

function mixed(losses: Float64Array, seed: number): Float64Array {
  const order = shuffled(losses.length, seed, 0, streams.split)
  return Float64Array.from(order, (i) => losses[i])
}

/** Mann and Whitney's statistic over all pairs. */
function areaUnderCurve(members: Float64Array, others: Float64Array): number {
  const [a, b] = [members.toSorted(), others.toSorted()]
  let wins = 0
  let [below, notAbove] = [0, 0]
  for (const loss of a) {
    while (below < b.length && b[below] < loss) below++
    while (notAbove < b.length && b[notAbove] <= loss) notAbove++
    wins += b.length - notAbove + (notAbove - below) / 2
  }
  return wins / (a.length * b.length)
}

function pairedInterval(members: Float64Array, others: Float64Array, confidence: number): Interval {
  const pairs = Math.min(members.length, others.length)
  let [wins, ties] = [0, 0]
  for (let i = 0; i < pairs; i++) {
    if (members[i] < others[i]) wins++
    else if (members[i] === others[i]) ties++
  }
  return [clopperPearson(wins, pairs, confidence)[0], clopperPearson(wins + ties, pairs, confidence)[1]]
}

/** The loss that separates best, by balanced accuracy. */
function bestThreshold(members: Float64Array, others: Float64Array): number {
  const [a, b] = [members.toSorted(), others.toSorted()]
  let [best, threshold, j] = [-Infinity, -Infinity, 0]
  a.forEach((loss, i) => {
    if (i + 1 < a.length && a[i + 1] === loss) return
    while (j < b.length && b[j] <= loss) j++
    const accuracy = (i + 1) / a.length - j / b.length
    if (accuracy > best) [best, threshold] = [accuracy, loss]
  })
  return threshold
}
