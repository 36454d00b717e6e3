// The choice of caps on the codes: against a model of how codes answer, in which the right choice is known.
import { describe, expect, it } from 'vitest'
import { chooseOnCodes, type CodeScorer, type CodeScores } from '../lib/scrub/code_choice.js'
import { alongGradient, fisherRatios, multiplierOf, type Caps, type TensorRatio } from '../lib/scrub/fisher_ratio.js'

const layout = [2, 3].map((size, i) => ({ name: `t${i}`, shape: [size], offset: i * 2, size }))
const rules = { floor: 0, unused: 'leave' } as const

describe('fisherRatios() with a relative floor', () => {
  const forget = Float64Array.of(4, 1e-6, 1, 1, 0)
  const retain = Float64Array.of(2, 1e-12, 0, 1, 1)

  it('adds a share of the mean of R, tensor by tensor', async () => {
    const [a, b] = await fisherRatios(forget, retain, layout, { ...rules, relativeFloor: 0.1 })
    const of = (f: number, r: number, mean: number) => (f + 0.1 * mean) / (r + 0.1 * mean)
    expect(a.eta[0]).toBeCloseTo(of(4, 2, 1), 9)
    expect(a.eta[1]).toBeCloseTo(1, 4)
    expect(b.eta[0]).toBeCloseTo(of(1, 0, 2 / 3), 9)
    const [exact] = await fisherRatios(forget, retain, layout, rules)
    expect(exact.eta[1]).toBeCloseTo(1e6, 3)
  })

  it('is free of scale', async () => {
    const scaled = [forget, retain].map((values) => values.map((value) => 1e-20 * value))
    const [one, other] = [
      await fisherRatios(forget, retain, layout, { ...rules, relativeFloor: 1e-3 }),
      await fisherRatios(scaled[0], scaled[1], layout, { ...rules, relativeFloor: 1e-3 }),
    ]
    one.forEach(({ eta }, t) => eta.forEach((value, i) => expect(other[t].eta[i] / value).toBeCloseTo(1, 9)))
  })
})

describe('alongGradient()', () => {
  it('gives each ratio the sign of the gradient, none where that is 0, and leaves the others as they were', async () => {
    const [forget, retain] = [Float64Array.of(4, 1, 9, 1, 2), Float64Array.of(2, 1, 1, 1, 1)]
    const ratios = await fisherRatios(forget, retain, layout, rules)
    const along = await alongGradient(ratios, Int8Array.of(-1, 1, 0, -1, 1))
    expect(along.map(({ eta }) => [...eta])).toEqual([
      [-2, 1],
      [0, -1, 2],
    ])
    expect(along.map(({ largest }) => largest)).toEqual([2, 2])
    expect(ratios.map(({ largest }) => largest)).toEqual([2, 9])
  })
})

/**
 * Ten codes of margin 8; ratios below 0 stand for those along a gradient. What a candidate does to the class's code and
 * to the loss of the others is up to the caller.
 */
function scorer(
  answer: (steps: number[], sign: number, gradient: boolean) => { fall: number; loss: number },
  before = 1e-3,
): CodeScorer {
  const scores = (own: number, loss: number): CodeScores => ({
    score: 0,
    margins: Array.from({ length: 10 }, (_, c) => (c === 0 ? own : 8)),
    losses: Array.from({ length: 10 }, () => loss),
  })
  const score = (ratios: readonly TensorRatio[], caps: Caps, sign: 1 | -1) => {
    const { fall, loss } = answer(
      ratios.map((ratio) => multiplierOf(ratio, caps) * ratio.largest),
      sign,
      ratios[0].eta[0] < 0,
    )
    return Promise.resolve(scores(8 - fall, loss))
  }
  return { before: scores(8, before), label: 0, score } as unknown as CodeScorer
}

const ratios = (largest: number[], sign = 1): TensorRatio[] =>
  largest.map((value, i) => ({
    ...layout[i],
    eta: new Float64Array(layout[i].size).fill(sign * value),
    largest: value,
  }))
const way = (list: TensorRatio[]) => () => Promise.resolve(list)
const same = (largest: number[]) => ({ same: way(ratios(largest)) })

describe('chooseOnCodes()', () => {
  it('caps a tensor of huge ratios far below what the others need', async () => {
    // The first tensor, a million times as steep, only does harm; the second is what the class needs.
    const found = await chooseOnCodes(
      scorer(([harm, useful], sign) => ({ fall: sign < 0 ? 10 * useful + 0.01 * harm : 0, loss: 0.03 * harm })),
      same([1e7, 10]),
      2,
    )
    expect(found.sign).toBe(-1)
    expect(found.margin).toBe(2)
    expect(found.minus.margins[0]).toBeLessThanOrEqual(-16)
    expect(found.minus.margins[0]).toBeGreaterThan(-17)
    expect(found.minus.losses[1]).toBeLessThan(0.1)
    expect(found.caps.lambda1).toBeGreaterThan(0.1)
  })

  it('asks for less where the whole margin would destroy the other codes', async () => {
    const found = await chooseOnCodes(
      scorer((steps, sign) => {
        const size = Math.max(...steps)
        return { fall: sign < 0 ? 10 * size : 0, loss: size < 1.7 ? 0.01 * size : 5 * size }
      }),
      same([3, 5]),
      2,
    )
    // A fall of 17 and less leaves the others alone: margins of up to 9 / 8 of the mean.
    expect(found.margin).toBeCloseTo(1, 9)
    expect(found.minus.margins[0]).toBeLessThanOrEqual(-8)
    expect(found.minus.losses[1]).toBeLessThan(Math.log(10) / 20)
  })

  it('moves along the gradient where one sign for all harms the other codes, and only there', async () => {
    // A fall as large as the step; what it does to the others is up to the case.
    const [before, chance] = [0.3, Math.log(10)]
    const asked: string[] = []
    const choose = (harm: { same: number; gradient: number }, margin?: number) =>
      chooseOnCodes(
        scorer(
          ([size], sign, gradient) => ({
            fall: gradient === sign > 0 ? size : 0,
            loss: before + (gradient ? harm.gradient * size : harm.same),
          }),
          before,
        ),
        {
          same: way(ratios([1, 1])),
          gradient: () => {
            asked.push('gradient')
            return Promise.resolve(ratios([1, 1], -1))
          },
        },
        margin,
      )
    expect(await choose({ same: chance / 20.01, gradient: 0 })).toMatchObject({
      direction: 'same',
      sign: -1,
      margin: 2,
    })
    // More than is enough at every margin, but borne: of equals the largest margin.
    expect(await choose({ same: chance / 4.01, gradient: 0 })).toMatchObject({ direction: 'same', margin: 2 })
    expect(asked).toEqual([])
    const tooMuch = chance / 3.99
    expect(await choose({ same: tooMuch, gradient: 0.01 })).toMatchObject({ direction: 'gradient', sign: 1, margin: 4 })
    expect(await choose({ same: tooMuch, gradient: 0.01 }, 3)).toMatchObject({ direction: 'gradient', margin: 3 })
    // A fall of 8 m and 8 at a loss of 0.02 a unit: up to a rise of 0.575 at m = 2.6.
    const less = await choose({ same: tooMuch, gradient: 0.02 })
    expect([less.direction, less.margin]).toEqual(['gradient', 0.59 * 4])
    expect(less.plus.losses[1]).toBeLessThan(before + chance / 4)
    // Neither is borne: what does less harm.
    expect(await choose({ same: 0.6, gradient: 0.1 })).toMatchObject({ direction: 'same', margin: 2 })
    expect(await choose({ same: 3, gradient: 0.08 })).toMatchObject({ direction: 'gradient', margin: 1 })
  })

  it('keeps the least harm where every margin does some, refuses what destroys the others or reaches nothing', async () => {
    const found = await chooseOnCodes(
      scorer(([size], sign) => ({ fall: sign > 0 ? size : 0, loss: 1.5 + 0.01 * size })),
      same([1, 1]),
      2,
    )
    expect([found.sign, found.margin]).toEqual([1, 0.5])
    await expect(
      chooseOnCodes(
        scorer(([size], sign) => ({ fall: sign > 0 ? size : 0, loss: 2.31 + 0.01 * size })),
        same([1, 1]),
        2,
      ),
    ).rejects.toMatchObject({ code: 'ERR_NOT_CONVERGED', message: expect.stringMatching(/above chance/) as string })
    await expect(
      chooseOnCodes(
        scorer(() => ({ fall: 1, loss: 0 })),
        same([1, 1]),
        2,
      ),
    ).rejects.toMatchObject({ code: 'ERR_NOT_CONVERGED' })
  })
})
