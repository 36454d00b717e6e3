// scrub() with method 'mnemonic': one class out of a network, from its codes alone (Yamashita et al. 2024).
import { MnemonicCodes } from '../codes.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import type { PassOptions } from '../model/passes.js'
import {
  check,
  integer,
  invalid,
  number,
  oneOf,
  optional,
  withDefault,
  type Check,
  type OptionsOf,
} from '../options.js'
import { chooseOnCodes, CodeScorer } from './code_choice.js'
import { descendOnCodes, type Spread } from './code_descent.js'
import { allOf, codeFisher, codeRows, othersOf, type Balance } from './code_gradients.js'
import { scoresOf, type CodeScores } from './code_scores.js'
import { fisherRatios, type Caps, type Unused } from './fisher_ratio.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod, ScrubOutcome } from './method.js'

/** How the weights move: all with one sign in one step (the paper), or in small steps along the gradient. */
export type Direction = 'same' | 'gradient'

/** Mnemonic code: a class is destroyed from one secret code a class; no data are read. */
export interface MnemonicOptions extends CommonScrubOptions {
  method: 'mnemonic'
  /** The class to destroy. One: the authors state that several at once are difficult for this method. */
  class: number
  /** The codes that the model learned in fit(), or the file that they were saved in. */
  codes: MnemonicCodes
  /** Cap on the multiplier of eta, above 0. Chosen on the codes where neither cap is given. */
  lambda1?: number
  /** Cap on the largest step of a tensor, above 0. */
  lambda2?: number
  /**
   * 'gradient' (default without caps): small steps along the natural gradient at the class's code, the Fisher of the other
   * codes taken anew at each; this library's. 'same' (default with given caps): one step with one sign for all parameters,
   * both tried (Yamashita et al. 2024, eqs. 5 to 7); without caps they are chosen on the codes.
   */
  direction?: Direction
  /**
   * How wrong the destroyed class's code is to become, as a multiple of the margin (logit of the own class minus the
   * largest other one) that the codes had on average; default 2.5 along the gradient, 2 in one step. Less, down to a
   * quarter, where it would harm the other codes; the report's options say what it was. Nothing beside given caps.
   */
  margin?: number
  /**
   * Along the gradient: 'even', every tensor brings about the same share of the change, or 'free', as the natural gradient
   * has it. Default 'even', which takes most of the class's data along, where it costs the other codes no more than a
   * quarter of the mean margin, else 'free', which spares them, or of the two the one that goes further; the report's options
   * say which it was.
   */
  spread?: Spread
  /**
   * Along the gradient: how many blends of each other class's code are protected beside it, 0 to 64; default 2. A blend is
   * the mean of the code and a drawn pattern, other ones at each step, coarse where inputs are pictures [C, H, W].
   */
  blends?: number
  /**
   * 'each' (default without caps): every code's squared gradients are divided by their sum first, so that the code learned
   * worst does not decide alone what is protected. 'none' (default with given caps): the paper's eq. 6.
   */
  balance?: Balance
  /**
   * Added to the Fisher of the other codes, in one step to the class's as well: default 0, with given caps 1e-16 (the
   * released code's).
   */
  floor?: number
  /**
   * The same as a share of the tensor's mean F_R, so that weights which no other code needs are not moved without measure:
   * default 1e-4 along the gradient, 1e-3 in one step with chosen caps, 0 with given ones.
   */
  relativeFloor?: number
  /**
   * Parameters that no code reaches (0 / 0): 'leave' (default), or 'move' as eta = 1, as released. Along the gradient
   * they stay.
   */
  unused?: Unused
}

export interface MnemonicReport extends CommonScrubReport {
  method: 'mnemonic'
  /** Scores on the codes: of the model before and as it is now; of one step also with the other sign. */
  scores: { before: CodeScores; after: CodeScores; other?: CodeScores }
  /** Of one step: which of the two candidates was kept, w + step or w - step. */
  sign?: 1 | -1
  /** Of one step. */
  caps?: Caps
  /** Changed models whose codes were looked at. */
  candidates: number
  /** For each tensor the largest change, in magnitude; of one step also the largest eta. */
  tensors: { name: string; largestStep: number; largestRatio?: number }[]
}

const oneClass: Check<number> = {
  expected: 'one class',
  read(value, name) {
    if (!Array.isArray(value)) return integer().read(value, name)
    const why = 'Yamashita et al. 2024 state that forgetting several classes at once is difficult for this method'
    throw invalid(name, `one class (${why})`, value)
  },
}

const table = {
  class: oneClass,
  codes: check(
    'MnemonicCodes (MnemonicCodes.load() reads them)',
    (v): v is MnemonicCodes => v instanceof MnemonicCodes,
  ),
  lambda1: optional(number({ above: 0 })),
  lambda2: optional(number({ above: 0 })),
  direction: optional(oneOf('same', 'gradient')),
  margin: optional(number({ above: 0 })),
  spread: optional(oneOf('even', 'free')),
  blends: optional(integer({ min: 0, max: 64 })),
  balance: optional(oneOf('each', 'none')),
  floor: optional(number({ min: 0 })),
  relativeFloor: optional(number({ min: 0 })),
  unused: withDefault(oneOf('leave', 'move'), 'leave'),
}

export const mnemonic: ScrubMethod<typeof table, Omit<MnemonicReport, keyof CommonScrubReport>> = {
  table,
  check(model, options) {
    const { class: label, codes, lambda1, lambda2, margin, direction, unused } = options
    integer({ min: 0, max: model.classes - 1 }).read(label, 'class')
    if (model.classes < 2) throw invalid('model', 'a Model of two classes or more', `one of ${model.classes}`)
    if ((lambda1 === undefined) !== (lambda2 === undefined)) {
      throw invalid(
        lambda1 === undefined ? 'lambda1' : 'lambda2',
        'both caps, or neither to have them chosen',
        undefined,
      )
    }
    if (lambda1 !== undefined && margin !== undefined) throw invalid('margin', 'nothing beside given caps', margin)
    if (lambda1 !== undefined && direction === 'gradient') {
      throw invalid('direction', "'same' beside given caps, which are of one step", direction)
    }
    if (direction === 'same' || lambda1 !== undefined) {
      for (const key of ['spread', 'blends'] as const) {
        if (options[key] !== undefined) throw invalid(key, 'nothing in one step', options[key])
      }
    }
    if (directionOf(options) === 'gradient' && unused === 'move') {
      throw invalid('unused', "'leave' along the gradient, which such parameters do not have", unused)
    }
    codes.checkFor(model)
    const learned = model.history.flatMap((entry) => (entry.verb === 'fit' ? [entry.codes] : []))
    if (learned.length > 0 && !learned.includes(codes.digest)) {
      throw invalid('codes', 'the codes that this model learned', 'codes of another model')
    }
  },
  async run({ work, passes }, options) {
    const { class: label, codes } = options
    const logits = (await work.evaluate(codes.batch(allOf(codes)), signalOf(passes))) as Float32Array
    checkLearned(scoresOf(logits, codes.classes, label), label)
    return directionOf(options) === 'same' ? inOneStep(work, options, passes) : alongGradient(work, options, passes)
  },
}

const directionOf = ({ direction, lambda1 }: { direction?: Direction; lambda1?: number }): Direction =>
  direction ?? (lambda1 === undefined ? 'gradient' : 'same')

type Outcome = ScrubOutcome<Omit<MnemonicReport, keyof CommonScrubReport>>

async function alongGradient(work: Model, options: OptionsOf<typeof table>, passes: PassOptions): Promise<Outcome> {
  const { class: label, codes, balance = 'each', floor = 0, relativeFloor = 1e-4, blends = 2 } = options
  const wanted = { margin: options.margin ?? 2.5, spread: options.spread, blends, balance, floor, relativeFloor }
  const { before, after, margin, spread, candidates, sampleVisits, tensors } = await descendOnCodes(
    work,
    codes,
    label,
    wanted,
    passes,
  )
  return {
    sampleVisits: sampleVisits + codes.classes,
    chosen: { direction: 'gradient', spread, blends, balance, floor, relativeFloor, margin },
    details: { scores: { before, after }, candidates, tensors },
  }
}

/** The paper's step, with given caps or chosen ones. */
async function inOneStep(work: Model, options: OptionsOf<typeof table>, passes: PassOptions): Promise<Outcome> {
  const { class: label, codes, unused, lambda1, lambda2 } = options
  const given = lambda1 !== undefined && lambda2 !== undefined ? { lambda1, lambda2 } : undefined
  const { balance = given ? 'none' : 'each', floor = given ? 1e-16 : 0 } = options
  const relativeFloor = options.relativeFloor ?? (given ? 0 : 1e-3)
  const scorer = await CodeScorer.of(work, codes, label, passes)
  try {
    const forget = await codeFisher(work, codeRows(codes, [label]), 1, balance, signalOf(passes))
    const others = othersOf(codes, label)
    const retain = await codeFisher(work, codeRows(codes, others), others.length, balance, passes)
    const layout = work.engine.network.layout
    const ratios = await fisherRatios(forget, retain, layout, { floor, relativeFloor, unused })
    const kept = given ? await scorer.compare(ratios, given) : await chooseOnCodes(scorer, ratios, options.margin ?? 2)
    const { caps, sign, scores: after, other, margin } = kept
    await scorer.apply(ratios, caps, sign)
    return {
      sampleVisits: codes.classes * (scorer.candidates + 3),
      chosen: { ...caps, direction: 'same', balance, floor, relativeFloor, ...(margin !== undefined && { margin }) },
      details: {
        sign,
        caps,
        scores: { before: scorer.before, after, other },
        candidates: scorer.candidates,
        tensors: scorer.stepsOf(ratios, caps),
      },
    }
  } finally {
    scorer.dispose()
  }
}

const signalOf = ({ signal }: PassOptions): PassOptions => (signal ? { signal } : {})

/** A model that never saw these codes answers them by chance: nothing can be read off its gradients there. */
function checkLearned({ margins }: CodeScores, label: number): void {
  const right = margins.filter((margin) => margin > 0).length
  const knows = margins[label] > 0
  if (knows && 2 * right > margins.length) return
  throw new PalimpsestError(
    'ERR_NOT_FITTED',
    `expected a model that learned these codes (fit() with 'mnemonic', or a short fine-tune with it), got one that ` +
      `answers ${right} of ${margins.length} codes${knows ? '' : `, and not that of class ${label}`}`,
  )
}
