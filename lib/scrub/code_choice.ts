// Which candidate of the mnemonic method is kept: scored, and its caps chosen, on the codes alone.
import type { MnemonicCodes } from '../codes.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { ParameterVector } from '../vector.js'
import { cappedSteps, multiplierOf, type Caps, type TensorRatio } from './fisher_ratio.js'

/** What a model answers on the codes. */
export interface CodeScores {
  /** Share of the other classes' codes that are right, and whether the destroyed class's is wrong: A_R + E_F, 0 to 2. */
  score: number
  /** Logit of the own class minus the largest other one, a code a class. */
  margins: number[]
  /** Cross-entropies of the codes. */
  losses: number[]
}

/** Which way the parameters move: all with one sign (the paper), or each as the class's own loss rises. */
export type Direction = 'same' | 'gradient'

/** How the ratios of a direction are made, where it may be taken: the second's are not needed often. */
export type Along = Readonly<Partial<Record<Direction, () => Promise<readonly TensorRatio[]>>>>

export interface Candidate {
  direction: Direction
  ratios: readonly TensorRatio[]
  caps: Caps
  sign: 1 | -1
  plus: CodeScores
  minus: CodeScores
  /** Where it was looked for: multiples of the codes' mean margin. */
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
    const inputs = codes.batch(Array.from({ length: codes.classes }, (_, c) => c))
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

  /** The weights before, into the work copy. */
  async restore(): Promise<void> {
    await this.#work.setWeights(this.#weights)
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
      if (error instanceof PalimpsestError && error.code === 'ERR_INVALID_ARGUMENT') return worst(this.#work.classes)
      throw error
    }
  }

  /**
   * Both signs; the one with the larger score, minus where they tie (Yamashita et al. 2024, Algorithm 2). Along the
   * gradient plus: against it the class would only become better known.
   */
  async compare(along: Along, direction: Direction, caps: Caps): Promise<Candidate> {
    const ratios = (await along[direction]?.()) ?? []
    const plus = await this.score(ratios, caps, 1)
    const minus = await this.score(ratios, caps, -1)
    const sign = direction === 'gradient' || plus.score > minus.score ? 1 : -1
    return { caps, sign, plus, minus, direction, ratios }
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

function worst(classes: number): CodeScores {
  return {
    score: 0,
    margins: new Array<number>(classes).fill(-Infinity),
    losses: new Array<number>(classes).fill(Infinity),
  }
}

function scoresOf(logits: Float32Array, classes: number, label: number): CodeScores {
  const margins: number[] = []
  const losses: number[] = []
  for (let c = 0; c < classes; c++) {
    const row = logits.subarray(c * classes, (c + 1) * classes)
    const other = row.reduce((best, value, j) => (j === c || value < best ? best : value), -Infinity)
    const most = Math.max(other, row[c])
    margins.push(row[c] - other)
    losses.push(most - row[c] + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0)))
  }
  const right = margins.filter((margin, c) => c !== label && margin > 0).length
  return { score: right / (classes - 1) + Number(margins[label] <= 0), margins, losses }
}

/** Halvings of a decade of lambda1. */
const halvings = 6
/** Decades of the largest step within which lambda1 is looked for where there is no lambda2. */
const decades = [-8, 4] as const
/** Shares of the margin that is asked for: the next is tried where one harms the other codes too much. */
const shares = [1, 0.84, 0.71, 0.59, 0.5, 0.42, 0.35, 0.3, 0.25]

interface Way {
  direction: Direction
  signs: readonly (1 | -1)[]
  /** Margin that is asked for by default: a code follows its own gradient sooner than the data of its class do. */
  margin: number
  /** Rise of the other codes' mean loss below which no smaller margin is tried, as a share of chance's loss. */
  enough: number
}

/** In the order of preference: one sign for all forgets more of the class's data where the codes fare alike. */
const ways: readonly Way[] = [
  { direction: 'same', signs: [-1, 1], margin: 2, enough: 1 / 20 },
  { direction: 'gradient', signs: [1], margin: 4, enough: 1 / 4 },
]
/** Rise above which the next direction is tried, likewise. */
const bearable = 1 / 4

/**
 * Direction, caps and sign without a number to tune, from losses and margins of the codes. For each sign the smallest
 * lambda1 at which the destroyed class's code is wrong by a multiple of the codes' mean margin (decades, then halvings),
 * with no lambda2, and under ever smaller ones as long as each halves the mean loss on the other codes; of both signs the
 * one with less of it. Where that loss rises by more than a twentieth of chance's, ln(K) / 20, the same for less of a
 * margin. Where it rises by more than a quarter at every margin, the same along the gradient, and then what harms least
 * of all. ERR_NOT_CONVERGED where that takes the other codes above chance's loss.
 *
 * @param given - the margin, in multiples of the mean one; each direction's default where left out
 */
export async function chooseOnCodes(scorer: CodeScorer, along: Along, given?: number): Promise<Candidate> {
  const { margins } = scorer.before
  const mean = margins.reduce((sum, margin) => sum + Math.abs(margin), 0) / margins.length
  const chance = Math.log(margins.length)
  const before = retainLossOf(scorer.before, scorer.label)
  let best: Chosen | undefined
  let anything = false
  for (const way of ways) {
    const ratios = await along[way.direction]?.()
    if (ratios === undefined || ratios.every(({ largest }) => largest === 0)) continue
    anything = true
    const { direction, enough } = way
    const search = { first: given ?? way.margin, mean, stop: before + enough * chance }
    const found = await leastHarm(scorer, ratios, way.signs, search)
    if (found === undefined) continue
    if (best === undefined || found.retainLoss < best.retainLoss) best = { ...found, direction, ratios }
    if (best.retainLoss <= before + bearable * chance) break
  }
  if (!anything) throw unreachable('no gradient at the code of the class, or at none of its parameters')
  if (best === undefined) throw unreachable('no step along the ratios')
  if (!(best.retainLoss <= chance)) {
    const loss = `${best.retainLoss.toFixed(2)} on the others by the one with the least harm, above chance's ${chance.toFixed(2)}`
    throw unreachable(`a mean loss of ${loss} (codes shown longer or at a higher rate may cure that)`)
  }
  const { caps, sign, scores, margin, direction, ratios } = best
  const other = await scorer.score(ratios, caps, sign === 1 ? -1 : 1)
  const [plus, minus] = sign === 1 ? [scores, other] : [other, scores]
  return { caps, sign, plus, minus, margin, direction, ratios }
}

type AtMargin = Found & { margin: number }
type Chosen = AtMargin & { direction: Direction; ratios: readonly TensorRatio[] }

/** Of one direction: the largest margin at which the other codes' loss is at most `stop`, or what harms them least. */
async function leastHarm(
  scorer: CodeScorer,
  ratios: readonly TensorRatio[],
  signs: readonly (1 | -1)[],
  { first, mean, stop }: { first: number; mean: number; stop: number },
): Promise<AtMargin | undefined> {
  let best: AtMargin | undefined
  for (const share of shares) {
    const margin = share * first
    for (const sign of signs) {
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

function retainLossOf({ losses }: CodeScores, label: number): number {
  const others = losses.filter((_, c) => c !== label)
  return others.reduce((sum, loss) => sum + loss, 0) / others.length
}

function unreachable(what: string): PalimpsestError {
  return new PalimpsestError(
    'ERR_NOT_CONVERGED',
    `expected a step that makes the code of the class wrong, got ${what}; give lambda1 and lambda2; the model is as before`,
  )
}
