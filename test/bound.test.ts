// bound(): the numbers of a guarantee, their totals and directions of rounding, and what is said beside them.
import { describe, expect, it } from 'vitest'
import { bound, fit, forget, forgetAll, Model, networks, TangentModel, type Bound, type Target } from '../lib/index.js'
import { datasetOf, fitted, makeRows } from './tangent_models.js'

/** The guarantee of a release at that target. */
async function guaranteed(target: Target, delta?: number) {
  const model = await fitted('head')
  const report = await forget(model, { where: { owner: 'o1' }, noise: 0.5, target, ...(delta && { delta }) })
  return { model, report, ...report.bound.guaranteed! }
}

/** The error function by its series, for |x| of a few at most. */
function erf(x: number): number {
  let term = (2 / Math.sqrt(Math.PI)) * x
  let sum = term
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return sum
}

/** P(N(d, 1) in T) - e^eps P(N(0, 1) in T) at the best T, by Simpson's rule over the tail: delta of (eps, delta). */
function hockeyStick(epsilon: number, d: number): number {
  const from = epsilon / d + d / 2
  const density = (x: number, mean: number) => Math.exp(-((x - mean) ** 2) / 2) / Math.sqrt(2 * Math.PI)
  const steps = 20_000
  const h = 40 / steps
  let sum = 0
  for (let i = 0; i <= steps; i++) {
    const x = from + i * h
    const weight = i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2
    sum += weight * (density(x, d) - Math.exp(epsilon) * density(x, 0))
  }
  return (sum * h) / 3
}

describe('a guarantee', () => {
  it.each([
    [1e-4, 0.049, 0.0056],
    [1e-3, 0.168, 0.0178],
    [0.01, 0.575, 0.0564],
    [0.1, 1.99, 0.177],
    [1, 7.29, 0.52],
  ])('of %d nats is (epsilon %d, 1e-6) and advantage %d', async (nats, epsilon, advantage) => {
    const found = await guaranteed({ nats })
    expect(found).toMatchObject({ nats, delta: 1e-6, exact: false })
    expect(Math.abs(found.epsilon! / epsilon - 1)).toBeLessThan(0.01)
    expect(Math.abs(found.advantage! / advantage - 1)).toBeLessThan(0.01)
    const exact = erf(Math.sqrt(nats) / 2)
    expect(found.advantage!).toBeGreaterThanOrEqual(exact * (1 - 1e-14))
    expect(found.advantage! / exact - 1).toBeLessThan(1e-9)
    // Rounded up: at that epsilon delta is not above what is said, and a little below it is.
    const d = Math.sqrt(2 * nats)
    expect(hockeyStick(found.epsilon!, d)).toBeLessThanOrEqual(1e-6 * (1 + 1e-8))
    expect(hockeyStick(found.epsilon! * (1 - 1e-6), d)).toBeGreaterThan(1e-6)
  })

  it.each([
    [0.1, 1e-6, 0.00038],
    [1, 1e-6, 0.028],
    [1, 1e-9, 0.0166],
    [4, 1e-6, 0.351],
  ])('of (%d, %d) is %d nats', async (epsilon, delta, nats) => {
    const found = await guaranteed({ epsilon, delta })
    expect(Math.abs(found.nats! / nats - 1)).toBeLessThan(0.02)
    expect(found.delta).toBe(delta)
    // The distance is rounded down: what is promised is not above what was asked for, but for the last digits.
    expect(found.epsilon! / epsilon - 1).toBeLessThan(1e-9)
    expect(hockeyStick(epsilon, Math.sqrt(2 * found.nats!))).toBeLessThanOrEqual(delta * (1 + 1e-6))
  })

  it('is reported at the delta that was asked for', async () => {
    const [wide, narrow] = [await guaranteed({ nats: 0.01 }, 1e-3), await guaranteed({ nats: 0.01 }, 1e-9)]
    expect(wide.delta).toBe(1e-3)
    expect(narrow.epsilon!).toBeGreaterThan(wide.epsilon!)
    expect(bound(wide.model).guaranteed).toEqual(wide.report.bound.guaranteed)
    expect(bound(wide.model).total!.delta).toBe(1e-3)
  })

  it('is met by what was measured', async () => {
    for (const nats of [1e-4, 0.01, 1]) {
      const { report } = await guaranteed({ nats })
      const { measured } = report.bound
      expect(measured!.nats!).toBeLessThanOrEqual(nats)
      expect(measured!.nats!).toBeCloseTo((measured!.distance / 0.5) ** 2 / 2, 14)
      expect(measured!.epsilon!).toBeLessThanOrEqual(report.bound.guaranteed!.epsilon!)
      expect(measured!.allowance).toBeLessThan(measured!.residual)
      expect(measured!.energy!).toBeGreaterThan(0)
    }
  })
})

describe('totals', () => {
  it('of many small releases are the root of the sum of squares, as one release of that distance', async () => {
    const model = await fitted('head')
    const nats = 0.002
    for (const owner of ['o1', 'o2', 'o3', 'o4', 'o5']) {
      await forget(model, { where: { owner }, noise: 0.5, target: { nats } })
    }
    const total = bound(model).total!
    expect(total.nats! / (5 * nats) - 1).toBeLessThan(1e-12)
    expect(total.nats!).toBeGreaterThanOrEqual(5 * nats)
    const one = await guaranteed({ nats: 5 * nats })
    expect(total.epsilon! / one.epsilon! - 1).toBeLessThan(1e-9)
    expect(total.advantage! / one.advantage! - 1).toBeLessThan(1e-9)
    expect(bound(model).guaranteed!.nats).toBe(nats)
  })

  it('are not reset by exact releases, and by a fit no release is forgotten', async () => {
    const model = await fitted('head')
    await forget(model, { where: { owner: 'o1' }, noise: 0.5, target: { nats: 0.1 } })
    await forget(model, { where: { owner: 'o2' }, solver: 'refit' })
    expect(bound(model)).toMatchObject({ verdict: 'exact', guaranteed: { nats: 0, advantage: 0, exact: true } })
    expect(bound(model).total!.nats).toBeCloseTo(0.1, 12)
    expect(bound(model).total!.exact).toBe(false)
    await forgetAll(model)
    await fit(model, datasetOf(makeRows()))
    expect(bound(model)).toMatchObject({ certified: false, guaranteed: null, verdict: 'cannot-conclude' })
    expect(bound(model).total!.nats).toBeCloseTo(0.1, 12)
    expect(model.ledger.map(({ kind }) => kind)).toEqual(['fit', 'forget', 'refit', 'forgetAll', 'fit'])
  })

  it('are unknown once a release had no noise', async () => {
    const model = await fitted('head')
    await forget(model, { where: { owner: 'o1' }, noise: 'none' })
    await forget(model, { where: { owner: 'o2' }, noise: 0.5 })
    expect(bound(model)).toMatchObject({ verdict: 'holds', guaranteed: { nats: 0.01 } })
    expect(bound(model).total).toMatchObject({ nats: null, epsilon: null, advantage: null, exact: false })
  })
})

describe('what stands beside the numbers', () => {
  const statements = (found: Bound) =>
    found.assumptions.map(({ statement, check }) => `${statement}: ${check}`).join('\n')

  it('names what is not covered, earlier releases by number', async () => {
    const model = await fitted('head')
    await forget(model, { where: { owner: 'o1' }, noise: 0.5 })
    const { bound: found } = await forget(model, { where: { owner: 'o2' }, noise: 0.5 })
    for (const words of [
      /together they reveal the forgotten rows: not covered: releases 1 to 2 of the ledger/,
      /the core, the public data and every choice .*: the operator's to ensure/,
      /never from a model that held the rows or from measured values: the operator's to ensure/,
      /running time, refusals, which solver gave the weights, logs: not covered/,
    ]) {
      expect(statements(found)).toMatch(words)
      expect(statements(bound(model))).toMatch(words)
    }
    expect(statements(found)).toMatch(
      /float64 at the mean that was published, its rounding included: measured\.allowance/,
    )
    expect(statements(found)).toMatch(/bounds the curvature from below: mu = 1/)
    expect(statements(found)).toMatch(/public grid.*: s = 0\.5, grid 7\.63e-6/)
  })

  it('says of every kind of release what it is', async () => {
    const model = await fitted('head')
    expect(bound(model).statement).toBe('nothing was forgotten from these weights')
    const { bound: silent } = await forget(model, { where: { owner: 'o1' }, noise: 'none' })
    expect(silent.statement).toMatch(/^no noise was added/)
    const { bound: exact } = await forget(model, { where: { owner: 'o2' }, solver: 'refit' })
    expect(exact.statement).toMatch(/same routine gives on the retained rows alone/)
    expect((await forgetAll(model)).verdict).toBe('exact')
  })

  it('makes no promise for an ordinary network, and refuses what is no model', () => {
    const model = Model.fromNetwork(networks.mlp({ inputShape: [4], hidden: [], classes: 2 }))
    const found = bound(model)
    expect(found).toMatchObject({ certified: false, guaranteed: null, measured: null, total: null })
    expect(found.verdict).toBe('cannot-conclude')
    expect(found.statement).toMatch(/no certificate/)
    expect(bound(TangentModel.at(model))).toMatchObject({ certified: false, verdict: 'cannot-conclude', total: null })
    model.dispose()
    expect(() => bound(model)).toThrow(/disposed/)
    expect(() => bound(null as never)).toThrow(
      /expected a Model, a TangentModel, a record or an ensemble for 'model', got null/,
    )
  })
})
