// The choice of caps on the codes: against a model of how codes answer, in which the right choice is known.
import { describe, expect, it } from 'vitest'
import { chooseOnCodes, type CodeScorer } from '../lib/scrub/code_choice.js'
import type { CodeScores } from '../lib/scrub/code_scores.js'
import { fisherRatios, multiplierOf, naturalStep, type Caps, type TensorRatio } from '../lib/scrub/fisher_ratio.js'
import { normals } from './random.js'

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

describe('naturalStep()', () => {
  const gradient = Float64Array.of(-4, 2, 0, 3, 5)
  const retain = Float64Array.of(2, 0, 1, 3, 0)

  it('divides by R and the floors, tensor by tensor, and leaves what has no denominator', async () => {
    expect([...(await naturalStep(gradient, retain, layout, { floor: 0 }))]).toEqual([-2, 0, 0, 1, 0])
    const floored = await naturalStep(gradient, retain, layout, { floor: 0.5, relativeFloor: 0.25 })
    const [first, second] = [0.5 + 0.25, 0.5 + 0.25 * (4 / 3)]
    const expected = [-4 / (2 + first), 2 / first, 0, 3 / (3 + second), 5 / second]
    floored.forEach((value, i) => expect(value).toBeCloseTo(expected[i], 12))
  })

  it('leaves a tensor whose gradient is the rounding of zeros', async () => {
    const [g, r] = [Float64Array.of(1e-17, -2e-17, 0.1, 3, 5), Float64Array.of(1e-34, 4e-34, 1, 3, 1)]
    const step = await naturalStep(g, r, layout, { floor: 0, relativeFloor: 1e-4 })
    expect([...step.subarray(0, 2)]).toEqual([0, 0])
    expect(step[3]).toBeGreaterThan(0.9)
  })

  it('is the steepest way for what it costs: along any other of the same cost g changes less', async () => {
    const relative = { floor: 0, relativeFloor: 1e-3 }
    const step = await naturalStep(gradient, retain, layout, relative)
    const denominators = gradient.map((g, i) => (g === 0 ? 1 : g / step[i]))
    const cost = (d: Float64Array) => d.reduce((sum, value, i) => sum + denominators[i] * value * value, 0)
    const change = (d: Float64Array) => d.reduce((sum, value, i) => sum + gradient[i] * value, 0)
    for (const seed of [1, 2, 3, 4, 5]) {
      const other = Float64Array.from(normals(5, seed))
      const scale = Math.sqrt(cost(step) / cost(other))
      expect(Math.abs(scale * change(other))).toBeLessThanOrEqual(change(step) * (1 + 1e-12))
    }
  })
})

/** Ten codes of margin 8. What a candidate does to the class's code and to the loss of the others is up to the caller. */
function scorer(answer: (steps: number[], sign: number) => { fall: number; loss: number }): CodeScorer {
  const scores = (own: number, loss: number): CodeScores => ({
    score: 0,
    margins: Array.from({ length: 10 }, (_, c) => (c === 0 ? own : 8)),
    losses: Array.from({ length: 10 }, () => loss),
  })
  const score = (ratios: readonly TensorRatio[], caps: Caps, sign: 1 | -1) => {
    const steps = ratios.map((ratio) => multiplierOf(ratio, caps) * ratio.largest)
    const { fall, loss } = answer(steps, sign)
    return Promise.resolve(scores(8 - fall, loss))
  }
  return { before: scores(8, 1e-3), label: 0, score } as unknown as CodeScorer
}

const same = (largest: number[]): TensorRatio[] =>
  largest.map((value, i) => ({ ...layout[i], eta: new Float64Array(layout[i].size).fill(value), largest: value }))

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
    expect(found.scores.margins[0]).toBeLessThanOrEqual(-16)
    expect(found.scores.margins[0]).toBeGreaterThan(-17)
    expect(found.scores.losses[1]).toBeLessThan(0.1)
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
    expect(found.scores.margins[0]).toBeLessThanOrEqual(-8)
    expect(found.scores.losses[1]).toBeLessThan(Math.log(10) / 20)
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
