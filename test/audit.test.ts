// audit(): every readout against values worked out here, intervals against published ones, and what it refuses.
import { beforeAll, describe, expect, it } from 'vitest'
import { clopperPearson } from '../lib/audit/intervals.js'
import { membershipOf } from '../lib/audit/membership.js'
import { audit, Dataset, fit, Model, networks, type AuditReport } from '../lib/index.js'
import { normals } from './random.js'

const shape = [6]
const network = (seed: number) => networks.mlp({ inputShape: shape, classes: 3, hidden: [8], seed })
const newModel = (seed: number) => Model.fromNetwork(network(seed), { device: 'cpu' })

function rowsOf(count: number, seed: number): Dataset {
  const labels = Array.from({ length: count }, (_, i) => i % 3)
  const inputs = normals(count * 6, seed).map((v, i) => v + 2 * Number(i % 6 === labels[Math.floor(i / 6)]))
  return Dataset.fromArrays({ inputs, labels, shape, classes: 3 })
}
const [train, test] = [rowsOf(240, 1), rowsOf(120, 2)]
const [forgetSet, retainSet] = [train.where({ class: 1 }), train.without({ class: 1 })]
const sets = { forgetSet, retainSet, testSet: test }

let model: Model
let reference: Model
let report: AuditReport
beforeAll(async () => {
  ;[model, reference] = [newModel(1), newModel(2)]
  await fit(model, train, { epochs: 20 })
  await fit(reference, retainSet, { epochs: 20 })
  report = await audit(model, { ...sets, reference, relearn: { maxSteps: 300, learningRate: 0.05 } })
})

const softmax = (z: ArrayLike<number>) => {
  const e = Array.from(z, Math.exp)
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((v) => v / total)
}

describe('audit()', () => {
  it('gives accuracy and loss of each set and class, beside the reference', async () => {
    for (const [of, each] of [
      [report.model, model],
      [report.reference, reference],
    ] as const) {
      // prettier-ignore
      for (const [name, data] of [['forget', forgetSet], ['retain', retainSet], ['test', test]] as const) { // prettier-ignore
        const { loss, accuracy } = await each.measure(data)
        expect(of?.sets[name].loss).toBeCloseTo(loss, 5)
        expect(of?.sets[name].accuracy).toBeCloseTo(accuracy, 12)
        for (const part of of?.sets[name].classes ?? []) {
          const own = await each.measure(data.where({ class: part.class }))
          expect(part.loss).toBeCloseTo(own.loss, 5)
          expect(part.accuracy).toBeCloseTo(own.accuracy, 12)
        }
      }
      expect(of?.classes?.retainAccuracy).toBeCloseTo((await each.measure(test.without({ class: 1 }))).accuracy, 12)
      expect(of?.classes?.forgetError).toBeCloseTo(1 - (await each.measure(test.where({ class: 1 }))).accuracy, 12)
    }
    expect(report.model.sets.forget.classes.map(({ class: c, rows }) => [c, rows])).toEqual([[1, 80]])
    expect(structuredClone(report)).toEqual(report)
  })

  it('gives distances of outputs and weights', async () => {
    const [a, b] = [await model.evaluate(test), await reference.evaluate(test)]
    const sums = { activation: 0, jensenShannon: 0, agreement: 0 }
    for (let i = 0; i < test.size; i++) {
      const [p, q] = [softmax(a.subarray(3 * i, 3 * i + 3)), softmax(b.subarray(3 * i, 3 * i + 3))]
      const entropy = (x: number[]) => -x.reduce((sum, v) => sum + v * Math.log(v), 0)
      sums.activation += p.reduce((sum, v, j) => sum + Math.abs(v - q[j]), 0) / test.size
      const middle = p.map((v, j) => (v + q[j]) / 2)
      sums.jensenShannon += (entropy(middle) - (entropy(p) + entropy(q)) / 2) / test.size
      sums.agreement += Number(p.indexOf(Math.max(...p)) === q.indexOf(Math.max(...q))) / test.size
    }
    const told = report.distances?.outputs.test
    expect(told?.activation).toBeCloseTo(sums.activation, 5)
    expect(told?.jensenShannon).toBeCloseTo(sums.jensenShannon, 5)
    expect(told?.agreement).toBeCloseTo(sums.agreement, 12)
    expect(sums.activation).toBeGreaterThan(0.1)
    const difference = await model.weights('float64')
    await difference.axpy(-1, await reference.weights('float64'))
    expect(report.distances?.parameters).toBeCloseTo(await difference.norm(), 9)
    const same = await audit(model, { ...sets, reference: await model.clone() })
    expect(same.distances?.parameters).toBe(0)
    expect(same.distances?.outputs.forget).toEqual({ activation: 0, jensenShannon: 0, agreement: 1 })
  })

  it('counts the steps of relearning, to the same loss for both', () => {
    const [own, other] = [report.model.relearn, report.reference?.relearn]
    expect(own.targetLoss).toBe(other?.targetLoss)
    expect(own.targetLoss).toBeCloseTo(1.1 * (report.reference?.sets.retain.loss ?? NaN), 9)
    expect(own.steps ?? Infinity).toBeLessThan(other?.steps ?? Infinity)
  })

  it('says that relearning did not get there where its steps diverge, with all else as it is', async () => {
    for (const learningRate of [1e30, 1e300]) {
      const own = { learningRate, targetLoss: 1e-9 }
      const { relearn, ...rest } = (await audit(model, { ...sets, relearn: own })).model
      expect(relearn).toMatchObject({ steps: null, targetLoss: 1e-9 })
      expect(relearn.loss).toBeGreaterThan(0)
      expect(rest.sets).toEqual(report.model.sets)
    }
  })

  it('finds a class that was not forgotten, one that was over-forgotten, and says where it cannot conclude', async () => {
    const verdict = (of: AuditReport, readout: string) => of.findings.find((each) => each.readout === readout)?.verdict
    expect(verdict(report, 'forgetAccuracy')).toBe('under-forgotten')
    const other = await audit(reference, { ...sets, reference: model })
    expect(verdict(other, 'forgetAccuracy')).toBe('over-forgotten')
    const same = await audit(reference, { ...sets, reference: await reference.clone() })
    for (const { verdict: each } of same.findings) expect(each).toBe('cannot-conclude')
    const alone = await audit(model, sets)
    expect(alone.reference).toBeNull()
    expect(alone.distances).toBeNull()
    expect(verdict(alone, 'forgetAccuracy')).toBe('cannot-conclude')
  })

  it('changes nothing, and stops when it is told to', async () => {
    const before = await model.evaluate(test)
    const reason = new Error('enough')
    await expect(audit(model, { ...sets, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const onProgress = ({ phase }: { phase: string }) => phase === 'relearn' && controller.abort(reason)
    await expect(audit(model, { ...sets, signal: controller.signal, onProgress })).rejects.toBe(reason)
    expect(await model.evaluate(test)).toEqual(before)
  })

  it.each([
    ['an unknown option', { forgetset: forgetSet }, 'ERR_INVALID_ARGUMENT', /the nearest is 'forgetSet'/],
    ['an empty set', { forgetSet: train.subset([]) }, 'ERR_INVALID_ARGUMENT', /'forgetSet'/],
    ['a confidence of 1', { confidence: 1 }, 'ERR_INVALID_ARGUMENT', /'confidence'/],
    ['a reference that is no model', { reference: {} }, 'ERR_INVALID_ARGUMENT', /'reference'/],
  ])('refuses %s', async (_, options, code, message) => {
    const refused = audit(model, { ...sets, ...options } as never)
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
  })

  it('refuses a reference with other inputs', async () => {
    const other = Model.fromNetwork(networks.mlp({ inputShape: [5], classes: 3, hidden: [4] }), { device: 'cpu' })
    await expect(audit(model, { ...sets, reference: other })).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})

describe('intervals of Clopper and Pearson', () => {
  // Closed forms at the ends: 1 - (tail)^(1/n); between them values of beta quantiles.
  it.each([
    [0, 10, 0, 1 - 0.025 ** 0.1],
    [10, 10, 0.025 ** 0.1, 1],
    [1, 10, 1 - 0.975 ** 0.1, 0.4450161],
    [5, 10, 0.187086, 0.812914],
    [0, 1, 0, 0.975],
  ])('%i of %i', (k, n, low, high) => {
    const [a, b] = clopperPearson(k, n, 0.95)
    expect(a).toBeCloseTo(low, 6)
    expect(b).toBeCloseTo(high, 6)
  })

  it('cover the share they are for at least as often as they say', () => {
    const [n, p] = [25, 0.3]
    let [covered, probability] = [0, (1 - p) ** n]
    for (let k = 0; k <= n; k++) {
      const [low, high] = clopperPearson(k, n, 0.9)
      if (low <= p && p <= high) covered += probability
      probability *= ((n - k) / (k + 1)) * (p / (1 - p))
    }
    expect(covered).toBeGreaterThanOrEqual(0.9)
    expect(covered).toBeLessThan(0.99)
  })

  it('stay sound for many trials', () => {
    const [low, high] = clopperPearson(50_000, 100_000, 0.95)
    expect(low).toBeCloseTo(0.5 - 1.96 * Math.sqrt(0.25 / 1e5), 4)
    expect(high).toBeCloseTo(0.5 + 1.96 * Math.sqrt(0.25 / 1e5), 4)
  })
})

describe('the membership attack', () => {
  it('counts pairs, ties half', () => {
    const { auc } = membershipOf(Float64Array.of(1, 2, 2, 5), Float64Array.of(2, 3, 4), 0.95, 0)
    expect(auc).toBeCloseTo((3 + 2.5 + 2.5 + 0) / 12, 12)
  })

  it('tells members that are told apart, and shows nothing where there is nothing', () => {
    const apart = membershipOf(
      Float64Array.from(normals(400, 1)),
      Float64Array.from(normals(400, 2), (v) => v + 8),
      0.95,
      0,
    )
    expect(apart.auc).toBeGreaterThan(0.999)
    expect(apart.balancedAccuracyInterval[0]).toBeGreaterThan(0.95)
    const same = membershipOf(Float64Array.from(normals(400, 1)), Float64Array.from(normals(400, 2)), 0.95, 0)
    for (const [low, high] of [same.aucInterval, same.balancedAccuracyInterval]) {
      expect(low).toBeLessThan(0.5)
      expect(high).toBeGreaterThan(0.5)
    }
  })
})
