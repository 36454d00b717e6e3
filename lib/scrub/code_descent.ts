// One class out of a network along the gradient at its code, in small steps; what harms the other codes is seen anew at each.
import type { MnemonicCodes } from '../codes.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { LayoutEntry } from '../native.js'
import { inTurns } from '../turns.js'
import type { ParameterVector } from '../vector.js'
import { CodeBlends } from './code_blends.js'
import { allOf, codeFisher, codeRows, deficitGradient, othersOf, type Balance } from './code_gradients.js'
import { othersMargin, scaleOf, scoresOf, worstScores, type CodeScores } from './code_scores.js'
import { naturalStep } from './fisher_ratio.js'

/** How the change is spread over the tensors: 'even', each brings about the same share of it, or 'free', as g / R has it. */
export type Spread = 'even' | 'free'

export interface DescentOptions {
  /** How wrong the class's code is to become, as a multiple of the mean margin that the codes had. */
  margin: number
  /** Even where the other codes bear it, else free, where left out. */
  spread: Spread | undefined
  /** Blends of each other class's code whose squared gradients count beside its own. */
  blends: number
  balance: Balance
  floor: number
  relativeFloor: number
}

export interface Descent {
  before: CodeScores
  after: CodeScores
  /** The margin that was reached, in the multiples that it was asked for in. */
  margin: number
  spread: Spread
  /** Changed models whose codes were looked at. */
  candidates: number
  /** Codes and blends that went through the network. */
  sampleVisits: number
  /** The largest change of each tensor, in magnitude. */
  tensors: { name: string; largestStep: number }[]
}

/** Steps in which the class's code loses the mean margin. */
const stepsPerMargin = 6
/** Halvings of one step before the way is given up. */
const halvings = 8
/** Steps before it is, in multiples of how many were foreseen. */
const patience = 8
/** Share of the change foreseen to first order below which a step is too long for it. */
const least = 1 / 4
/**
 * What the other codes may lose of their mean margin, as shares of the codes' mean margin: in one step, in all, and in all
 * where the change is spread evenly by default. Their loss would say nothing until half of the margin is gone.
 */
const bearable = { step: 1 / 10, all: 1 / 2, even: 1 / 4 }
/** Share of the margin asked for below which a way that had to end is no success. */
const worthwhile = 1 / 4

/**
 * w := w + t d, d = g / (R + floor), again and again: g is the gradient of how far the class's logit lies below the mean
 * of the others at its code, R the Fisher diagonal of the other codes and of blends of them, both at the weights of the
 * moment, and t lets that distance grow by a sixth of the codes' mean margin to first order. A step that fails to do so,
 * or harms the other codes at once, is halved. Ends where the class's code is wrong by the margin asked for, or before the other codes have lost
 * more of theirs than is bearable; ERR_NOT_CONVERGED where not a quarter of the margin was reached by then.
 *
 * @param work - changed; where this throws its weights are anything
 */
export async function descendOnCodes(
  work: Model,
  codes: MnemonicCodes,
  label: number,
  { margin, spread, ...options }: DescentOptions,
  passes: PassOptions,
): Promise<Descent> {
  const walk = await CodeWalk.of(work, codes, label, passes, options)
  try {
    const start = await walk.here()
    const ways: { spread: Spread; harm: number }[] = spread
      ? [{ spread, harm: bearable.all }]
      : [
          { spread: 'even', harm: bearable.even },
          { spread: 'free', harm: bearable.all },
        ]
    let best: (Way & { spread: Spread }) | undefined
    for (const { spread, harm } of ways) {
      await walk.set(start.weights)
      const way = await walk.down(start, { spread, margin, harm })
      if (best === undefined || way.reached > best.reached) best = { ...way, spread }
      if (best.reached >= margin) break
    }
    if (!(best !== undefined && best.reached >= worthwhile * margin)) {
      throw new PalimpsestError(
        'ERR_NOT_CONVERGED',
        `expected steps that make the code of the class wrong, got ${best?.end} (codes shown longer or at a higher rate, ` +
          'or a smaller margin, may cure that); the model is as before',
      )
    }
    await walk.set(best.place.weights)
    return {
      before: start.scores,
      after: best.place.scores,
      margin: Math.min(best.reached, margin),
      spread: best.spread,
      candidates: walk.looks,
      sampleVisits: walk.visits,
      tensors: await largestChanges(work.engine.network.layout, start.weights, best.place.weights),
    }
  } finally {
    walk.dispose()
  }
}

/** Where a way ended: at the margin asked for, or before it, and why. */
interface Way {
  place: Place
  /** In multiples of the codes' mean margin. */
  reached: number
  end: string
}

type StepOptions = Pick<DescentOptions, 'blends' | 'balance' | 'floor' | 'relativeFloor'>

/** Some weights, flat in float64, with their scores and how far the class's logit lies below the mean of the others. */
interface Place {
  weights: Float64Array
  scores: CodeScores
  deficit: number
}

/** Goes down by way of the codes, in the work copy. */
class CodeWalk {
  looks = 0
  /** Codes and blends that went through the network. */
  visits = 0
  readonly #work: Model
  readonly #codes: MnemonicCodes
  readonly #label: number
  readonly #passes: PassOptions
  readonly #inner: PassOptions
  readonly #options: StepOptions
  readonly #blends: CodeBlends
  readonly #vector: ParameterVector
  /** Steps taken, on all ways. */
  #taken = 0

  private constructor(
    work: Model,
    codes: MnemonicCodes,
    label: number,
    passes: PassOptions,
    options: StepOptions,
    blends: CodeBlends,
    vector: ParameterVector,
  ) {
    this.#work = work
    this.#codes = codes
    this.#label = label
    this.#passes = passes
    this.#inner = passes.signal ? { signal: passes.signal } : {}
    this.#options = options
    this.#blends = blends
    this.#vector = vector
  }

  static async of(
    work: Model,
    codes: MnemonicCodes,
    label: number,
    passes: PassOptions,
    options: StepOptions,
  ): Promise<CodeWalk> {
    const blends = await CodeBlends.of(codes)
    return new CodeWalk(work, codes, label, passes, options, blends, await work.weights('float64'))
  }

  /** The weights that the work copy has. */
  async here(): Promise<Place> {
    return this.#place((await this.#vector.native.read()) as Float64Array)
  }

  /** Into the work copy. */
  async set(weights: Float64Array): Promise<void> {
    await this.#vector.native.write(weights)
    await this.#work.setWeights(this.#vector)
  }

  /**
   * From `start`, which the work copy has, until the class's code is wrong by `margin` or the others have lost `harm`, both
   * in multiples of the codes' mean margin.
   */
  async down(start: Place, { spread, margin, harm }: { spread: Spread; margin: number; harm: number }): Promise<Way> {
    const scale = scaleOf(start.scores)
    const reachedAt = ({ scores }: Place) => -scores.margins[this.#label] / scale
    const harmAt = ({ scores }: Place) =>
      (othersMargin(start.scores, this.#label) - othersMargin(scores, this.#label)) / scale
    const expected = Math.ceil(stepsPerMargin * (margin - reachedAt(start)))
    const whole = scale / stepsPerMargin
    let [place, length] = [start, whole]
    const [blends, before] = [this.#blends.again(), this.#taken]
    const ended = (end: string): Way => ({ place, reached: reachedAt(place), end })
    for (let done = 1; reachedAt(place) < margin; done++) {
      if (done > patience * expected) return ended('too many steps')
      const { step, slope } = await this.#step(spread, blends)
      if (!(slope > 0 && Number.isFinite(slope))) return ended('no gradient at the code of the class')
      length = Math.min(2 * length, whole)
      let next: Place | undefined
      for (let tried = 0; next === undefined && tried <= halvings; tried++) {
        if (tried > 0) length /= 2
        const seen = await this.#look(place, step, length / slope)
        const sinks = seen.deficit - place.deficit >= least * length
        if (sinks && harmAt(seen) <= harmAt(place) + bearable.step) next = seen
      }
      if (next === undefined) return ended('no step that spares the other codes')
      if (harmAt(next) > harm) return ended('a margin of the other codes that falls too far')
      place = next
      this.#taken++
      this.#passes.onProgress?.({ phase: 'steps', done: this.#taken, total: Math.max(this.#taken, before + expected) })
    }
    return ended('')
  }

  /** d at the weights that the work copy has, and what changes along it to first order. */
  async #step(spread: Spread, drawn: CodeBlends): Promise<{ step: Float64Array; slope: number }> {
    const { balance, blends, ...floors } = this.#options
    const { layout } = this.#work.engine.network
    const gradient = await deficitGradient(this.#work, this.#codes, this.#label, this.#inner)
    const others = othersOf(this.#codes, this.#label)
    const [codes, total] = [this.#codes, others.length * (1 + blends)]
    const rows = function* () {
      yield* codeRows(codes, others)
      yield* drawn.draw(others, blends)
    }
    this.visits += total + 1
    const retain = await codeFisher(this.#work, rows(), total, balance, this.#inner)
    const step = await naturalStep(gradient, retain, layout, floors)
    return { step, slope: await alongEach(step, gradient, layout, spread === 'even') }
  }

  /** w + length step, into the work copy. */
  async #look({ weights }: Place, step: Float64Array, length: number): Promise<Place> {
    checkSignal(this.#passes.signal)
    const moved = new Float64Array(weights.length)
    await inTurns(weights.length, (from, to) => {
      for (let i = from; i < to; i++) moved[i] = weights[i] + length * step[i]
    })
    this.looks++
    return this.#place(moved)
  }

  /** What the codes say of these weights, which the work copy gets. */
  async #place(weights: Float64Array): Promise<Place> {
    this.visits += this.#codes.classes
    const { classes } = this.#work
    try {
      await this.set(weights)
      const logits = (await this.#work.evaluate(this.#codes.batch(allOf(this.#codes)), this.#inner)) as Float32Array
      const own = logits.subarray(this.#label * classes, (this.#label + 1) * classes)
      const others = own.reduce((sum, value) => sum + value, -own[this.#label])
      const deficit = others / (classes - 1) - own[this.#label]
      return { weights, deficit, scores: scoresOf(logits, classes, this.#label) }
    } catch (error) {
      // Weights that overflow float32, or whose logits do, are no place to be.
      if (!(error instanceof PalimpsestError && error.code === 'ERR_INVALID_ARGUMENT')) throw error
      return { weights, deficit: -Infinity, scores: worstScores(classes) }
    }
  }

  dispose(): void {
    this.#vector.dispose()
  }
}

/** What `step` changes to first order; with `even`, every tensor's part of it is scaled to bring about the same. */
async function alongEach(
  step: Float64Array,
  gradient: Float64Array,
  layout: readonly LayoutEntry[],
  even: boolean,
): Promise<number> {
  let slope = 0
  for (const { offset, size } of layout) {
    let part = 0
    await inTurns(size, (from, to) => {
      for (let i = offset + from; i < offset + to; i++) part += gradient[i] * step[i]
    })
    slope += even && part > 0 ? 1 : part
    if (!even || part === 0) continue
    await inTurns(size, (from, to) => {
      for (let i = offset + from; i < offset + to; i++) step[i] /= part
    })
  }
  return slope
}

async function largestChanges(
  layout: readonly LayoutEntry[],
  before: Float64Array,
  after: Float64Array,
): Promise<{ name: string; largestStep: number }[]> {
  const found: { name: string; largestStep: number }[] = []
  for (const { name, offset, size } of layout) {
    let largestStep = 0
    await inTurns(size, (from, to) => {
      for (let i = offset + from; i < offset + to; i++)
        largestStep = Math.max(largestStep, Math.abs(after[i] - before[i]))
    })
    found.push({ name, largestStep })
  }
  return found
}
