// scrub() with method 'mnemonic': one class out of a network, from its codes alone (Yamashita et al. 2024).
import { MnemonicCodes } from '../codes.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import type { PassOptions } from '../model/passes.js'
import { check, integer, invalid, number, oneOf, optional, withDefault, type Check } from '../options.js'
import { inTurns } from '../turns.js'
import { chooseOnCodes, CodeScorer, type Along, type CodeScores, type Direction } from './code_choice.js'
import { alongGradient, fisherRatios, toShares, type Caps, type Unused } from './fisher_ratio.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

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
   * 'same' (default with given caps): one sign for all parameters, both tried (the paper's eq. 5). 'gradient': each moves
   * as the loss of the destroyed class's code rises. With chosen caps and none given, 'gradient' where 'same' harms the
   * other codes; the report's options say which it was.
   */
  direction?: Direction
  /**
   * Where the caps are chosen: how wrong the destroyed class's code is to become, as a multiple of the margin (logit of
   * the own class minus the largest other one) that the codes had on average; default 2, and 4 along the gradient. Less,
   * down to a quarter, where it would harm the other codes; the report's options say what it was.
   */
  margin?: number
  /**
   * 'each' (default with chosen caps): every code's squared gradients are divided by their sum first, so that the code
   * learned worst does not decide alone what is protected. 'none' (default with given caps): the paper's eq. 6.
   */
  balance?: 'each' | 'none'
  /** Added to both Fishers before the ratio: default 0 with chosen caps, 1e-16 (the released code's) with given ones. */
  floor?: number
  /**
   * Added to both as a share of the tensor's mean F_R, so that weights which no other code needs are not moved without
   * measure: default 1e-3 with chosen caps, 0 with given ones.
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
  /** Which of the two candidates was kept: w + step or w - step; along the gradient 1. */
  sign: 1 | -1
  caps: Caps
  /** Scores of the candidates that were compared in the end, and of the model before, on the codes. */
  scores: { before: CodeScores; plus: CodeScores; minus: CodeScores }
  /** Candidates whose codes were looked at. */
  candidates: number
  /** For each tensor the largest eta and the largest step, in magnitude. */
  tensors: { name: string; largestRatio: number; largestStep: number }[]
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
    if ((lambda1 === undefined) !== (lambda2 === undefined)) {
      throw invalid(
        lambda1 === undefined ? 'lambda1' : 'lambda2',
        'both caps, or neither to have them chosen',
        undefined,
      )
    }
    if (lambda1 !== undefined && margin !== undefined) throw invalid('margin', 'nothing beside given caps', margin)
    if (direction === 'gradient' && unused === 'move') {
      throw invalid('unused', "'leave' along the gradient, which such parameters do not have", unused)
    }
    codes.checkFor(model)
    const learned = model.history.flatMap((entry) => (entry.verb === 'fit' ? [entry.codes] : []))
    if (learned.length > 0 && !learned.includes(codes.digest)) {
      throw invalid('codes', 'the codes that this model learned', 'codes of another model')
    }
  },
  async run({ work, passes }, options) {
    const { class: label, codes, unused } = options
    const chosen = options.lambda1 === undefined
    const { balance = chosen ? 'each' : 'none', floor = chosen ? 0 : 1e-16 } = options
    const relativeFloor = options.relativeFloor ?? (chosen ? 1e-3 : 0)
    const scorer = await CodeScorer.of(work, codes, label, passes)
    try {
      checkLearned(scorer.before, label)
      const fishers = await codeFishers(work, codes, label, balance, passes)
      const layout = work.engine.network.layout
      const ratios = await fisherRatios(fishers.forget, fishers.retain, layout, { floor, relativeFloor, unused })
      const wanted = options.direction ?? (chosen ? undefined : 'same')
      let gradients = 0
      const gradient = async () => {
        await scorer.restore()
        gradients++
        return alongGradient(ratios, await gradientSigns(work, codes, label, passes))
      }
      const along: Along = {
        ...(wanted !== 'gradient' && { same: () => Promise.resolve(ratios) }),
        ...(wanted !== 'same' && { gradient }),
      }
      const { lambda1, lambda2 } = options
      const {
        caps,
        sign,
        plus,
        minus,
        margin,
        direction,
        ratios: taken,
      } = wanted !== undefined && lambda1 !== undefined && lambda2 !== undefined
        ? await scorer.compare(along, wanted, { lambda1, lambda2 })
        : await chooseOnCodes(scorer, along, options.margin)
      await scorer.apply(taken, caps, sign)
      return {
        sampleVisits: codes.classes * (scorer.candidates + 2) + gradients,
        chosen: { ...caps, direction, balance, floor, relativeFloor, ...(chosen && { margin }) },
        details: {
          sign,
          caps,
          scores: { before: scorer.before, plus, minus },
          candidates: scorer.candidates,
          tensors: scorer.stepsOf(taken, caps),
        },
      }
    } finally {
      scorer.dispose()
    }
  },
}

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

/**
 * f_{C_F} and f_{C_R}: mean squares of the loss's gradients at the codes, one code a class, in float64, with running
 * statistics (Yamashita et al. 2024, above eq. 6). With 'each' every code's squares are divided by their sum.
 */
async function codeFishers(
  work: Model,
  codes: MnemonicCodes,
  label: number,
  balance: 'each' | 'none',
  passes: PassOptions,
): Promise<{ forget: Float64Array; retain: Float64Array }> {
  const rest = Array.from({ length: codes.classes }, (_, c) => c).filter((c) => c !== label)
  const squares = async (classes: number[]): Promise<Float64Array> => {
    const signal = passes.signal && { signal: passes.signal }
    const diagonal = await work.fisherDiagonal(codes.batch(classes), { precision: 'float64', ...signal })
    const flat = (await diagonal.native.read()) as Float64Array
    diagonal.dispose()
    return flat
  }
  if (balance === 'none') return { forget: await squares([label]), retain: await squares(rest) }
  const forget = await toShares(await squares([label]))
  const retain = new Float64Array(forget.length)
  let done = 0
  for (const c of rest) {
    const part = await toShares(await squares([c]))
    await inTurns(part.length, (from, to) => {
      for (let i = from; i < to; i++) retain[i] += part[i] / rest.length
    })
    passes.onProgress?.({ phase: 'fisherDiagonal', done: ++done, total: rest.length })
  }
  return { forget, retain }
}

/** Signs of the loss's gradient at the class's code, flat, with running statistics. */
async function gradientSigns(
  work: Model,
  codes: MnemonicCodes,
  label: number,
  { signal }: PassOptions,
): Promise<Int8Array> {
  const gradient = await work.gradient(codes.batch([label]), { precision: 'float64', ...(signal && { signal }) })
  const flat = (await gradient.native.read()) as Float64Array
  gradient.dispose()
  const signs = new Int8Array(flat.length)
  await inTurns(flat.length, (from, to) => {
    for (let i = from; i < to; i++) signs[i] = Math.sign(flat[i])
  })
  return signs
}
