// The caps and the sign of the paper's one step: scored and chosen on the codes alone.
import type { MnemonicCodes } from '../codes.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { ParameterVector } from '../vector.js'
import { allOf } from './code_gradients.js'
import { retainLossOf, scaleOf, scoresOf, worstScores, type CodeScores } from './code_scores.js'
import { cappedSteps, multiplierOf, type Caps, type TensorRatio } from './fisher_ratio.js'

export interface Candidate {
  caps: Caps
  sign: 1 | -1
  scores: CodeScores
  /** Of the same caps with the other sign. */
  other: CodeScores
  /** Where the caps were chosen: multiples of the codes' mean margin. */
  margin?: number
}

/** Scores candidates on the codes, in the work copy. */
export class CodeScorer {
  /** Of the weights before. */
  readonly before: CodeScores
  #candidates = 0
  readonly #work: Model
  readonly #label: number
  readonly #inputs: { inputs: Float32Array; labels: Int32Array }
  readonly #weights: ParameterVector
  readonly #moved: ParameterVector
  readonly #steps: Float64Array
  readonly #passes: PassOptions

  private constructor(
    work: Model,
    label: number,
    inputs: { inputs: Float32Array; labels: Int32Array },
    weights: ParameterVector,
    before: CodeScores,
    passes: PassOptions,
  ) {
    this.#work = work
    this.#label = label
    this.#inputs = inputs
    this.#weights = weights
    this.#moved = weights.zeros()
    this.#steps = new Float64Array(work.engine.network.vectorLength)
    this.#passes = passes
    this.before = before
  }

  static async of(work: Model, codes: MnemonicCodes, label: number, passes: PassOptions): Promise<CodeScorer> {
    const inputs = codes.batch(allOf(codes))
    const logits = (await work.evaluate(inputs)) as Float32Array
    const before = scoresOf(logits, codes.classes, label)
    return new CodeScorer(work, label, inputs, await work.weights('float64'), before, passes)
  }

  get label(): number {
    return this.#label
  }

  /** Candidates scored so far. */
  get candidates(): number {
    return this.#candidates
  }

  /** w + sign alpha eta, into the work copy. */
  async apply(ratios: readonly TensorRatio[], caps: Caps, sign: 1 | -1): Promise<void> {
    await this.#moved.native.write(await cappedSteps(ratios, caps, sign, this.#steps))
    await this.#moved.axpy(1, this.#weights)
    await this.#work.setWeights(this.#moved)
  }

  async score(ratios: readonly TensorRatio[], caps: Caps, sign: 1 | -1): Promise<CodeScores> {
    checkSignal(this.#passes.signal)
    await this.apply(ratios, caps, sign)
    this.#candidates++
    this.#passes.onProgress?.({ phase: 'candidates', done: this.#candidates, total: this.#candidates })
    try {
      const logits = (await this.#work.evaluate(this.#inputs)) as Float32Array
      return scoresOf(logits, this.#work.classes, this.#label)
    } catch (error) {
      // A candidate whose logits overflow is no candidate.
      if (error instanceof PalimpsestError && error.code === 'ERR_INVALID_ARGUMENT')
        return worstScores(this.#work.classes)
      throw error
    }
  }

  /** Both signs; the one with the larger score, minus where they tie (Yamashita et al. 2024, Algorithm 2). */
  async compare(ratios: readonly TensorRatio[], caps: Caps): Promise<Candidate> {
    const plus = await this.score(ratios, caps, 1)
    const minus = await this.score(ratios, caps, -1)
    return plus.score > minus.score
      ? { caps, sign: 1, scores: plus, other: minus }
      : { caps, sign: -1, scores: minus, other: plus }
  }

  /** The largest ratio and step of each tensor. */
  stepsOf(ratios: readonly TensorRatio[], caps: Caps): { name: string; largestRatio: number; largestStep: number }[] {
    return ratios.map((ratio) => ({
      name: ratio.name,
      largestRatio: ratio.largest,
      largestStep: multiplierOf(ratio, caps) * ratio.largest,
    }))
  }

  dispose(): void {
    this.#weights.dispose()
    this.#moved.dispose()
  }
}

/** Halvings of a decade of lambda1. */
const halvings = 6
/** Decades of the largest step within which lambda1 is looked for where there is no lambda2. */
const decades = [-8, 4] as const
/** Shares of the margin that is asked for: the next is tried where one harms the other codes too much. */
const shares = [1, 0.84, 0.71, 0.59, 0.5, 0.42, 0.35, 0.3, 0.25]

/** Rise of the other codes' mean loss below which no smaller margin is tried, as a share of chance's loss. */
const enough = 1 / 20

/**
 * Caps and sign of eqs. 5 to 7 without a number to tune, from losses and margins of the codes. For each sign the smallest
 * lambda1 at which the destroyed class's code is wrong by a multiple of the codes' mean margin (decades, then halvings),
 * with no lambda2, and under ever smaller ones as long as each halves the mean loss on the other codes; of both signs the
 * one with less of it. Where that loss rises by more than a twentieth of chance's, ln(K) / 20, the same for less of a
 * margin, and what harms least of all. ERR_NOT_CONVERGED where that takes the other codes above chance's loss.
 *
 * @param first - the margin, in multiples of the mean one
 */
export async function chooseOnCodes(
  scorer: CodeScorer,
  ratios: readonly TensorRatio[],
  first: number,
): Promise<Candidate> {
  const chance = Math.log(scorer.before.margins.length)
  if (ratios.every(({ largest }) => largest === 0)) throw unreachable('no gradient at the code of the class')
  const stop = retainLossOf(scorer.before, scorer.label) + enough * chance
  const best = await leastHarm(scorer, ratios, { first, mean: scaleOf(scorer.before), stop })
  if (best === undefined) throw unreachable('no step along the ratios')
  if (!(best.retainLoss <= chance)) {
    const loss = `${best.retainLoss.toFixed(2)} on the others by the one with the least harm, above chance's ${chance.toFixed(2)}`
    throw unreachable(`a mean loss of ${loss} (codes shown longer or at a higher rate may cure that)`)
  }
  const { caps, sign, scores, margin } = best
  return { caps, sign, scores, margin, other: await scorer.score(ratios, caps, sign === 1 ? -1 : 1) }
}

type AtMargin = Found & { margin: number }

/** The largest margin at which the other codes' loss is at most `stop`, or what harms them least. */
async function leastHarm(
  scorer: CodeScorer,
  ratios: readonly TensorRatio[],
  { first, mean, stop }: { first: number; mean: number; stop: number },
): Promise<AtMargin | undefined> {
  let best: AtMargin | undefined
  for (const share of shares) {
    const margin = share * first
    for (const sign of [-1, 1] as const) {
      const found = await leastCapped(scorer, ratios, sign, -margin * mean)
      if (found && (best === undefined || found.retainLoss < best.retainLoss)) best = { ...found, margin }
    }
    if (best && best.retainLoss <= stop) break
  }
  return best
}

interface Found {
  caps: Caps
  sign: 1 | -1
  scores: CodeScores
  /** Mean loss of the other classes' codes. */
  retainLoss: number
}

/** What is looked for: the margin of the destroyed class's code, and between which decades of lambda1. */
interface Search {
  lambda2: number
  sign: 1 | -1
  wanted: number
  decades: readonly [number, number]
}

/** The candidate of the largest lambda2 that no smaller one halves the others' loss of. */
async function leastCapped(
  scorer: CodeScorer,
  ratios: readonly TensorRatio[],
  sign: 1 | -1,
  wanted: number,
): Promise<Found | undefined> {
  const largest = ratios.map((ratio) => ratio.largest).filter((value) => value > 0)
  const most = Math.log10(Math.max(...largest))
  // A finite cap, so that reports can hold it: above any step there is.
  const uncapped = 10 ** decades[1]
  const range = [decades[0] - most, decades[1] - most] as const
  let last = await smallest(scorer, ratios, { lambda2: uncapped, sign, wanted, decades: range })
  if (last === undefined) return undefined
  let best = last
  let lambda2 = last.caps.lambda1 * 10 ** most
  for (let idle = 0; idle < 2;) {
    lambda2 /= Math.sqrt(10)
    // From where every tensor is at its lambda2 on nothing changes; a smaller lambda2 needs no smaller lambda1.
    const end = Math.log10(lambda2 / Math.min(...largest)) + 1
    const from = Math.log10(last.caps.lambda1)
    const found = await smallest(scorer, ratios, { lambda2, sign, wanted, decades: [from, end] })
    if (found === undefined) break
    if (found.retainLoss < best.retainLoss / 2) [best, idle] = [found, 0]
    else idle++
    last = found
  }
  return best
}

/** The smallest lambda1 that reaches the margin: margins need not fall for ever, so the first decade that does is halved. */
async function smallest(
  scorer: CodeScorer,
  ratios: readonly TensorRatio[],
  { lambda2, sign, wanted, decades: [first, end] }: Search,
): Promise<Found | undefined> {
  const at = async (exponent: number): Promise<Found> => {
    const caps = { lambda1: 10 ** exponent, lambda2 }
    const scores = await scorer.score(ratios, caps, sign)
    return { caps, sign, scores, retainLoss: retainLossOf(scores, scorer.label) }
  }
  const reaches = ({ scores }: Found) => scores.margins[scorer.label] <= wanted
  let reached: Found | undefined
  let [low, high] = [first, first]
  for (let exponent = first; exponent <= end && reached === undefined; exponent++) {
    const tried = await at(exponent)
    if (reaches(tried)) [reached, low, high] = [tried, exponent - 1, exponent]
  }
  for (let i = 0; i < halvings && reached !== undefined; i++) {
    const middle = (low + high) / 2
    const tried = await at(middle)
    if (reaches(tried)) [reached, high] = [tried, middle]
    else low = middle
  }
  return reached
}

function unreachable(what: string): PalimpsestError {
  return new PalimpsestError(
    'ERR_NOT_CONVERGED',
    `expected a step that makes the code of the class wrong, got ${what}; give lambda1 and lambda2; the model is as before`,
  )
}
