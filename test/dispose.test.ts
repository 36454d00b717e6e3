// scrub() with method 'dispose' against its formulas, what it refuses; piggyback() on a task that is easy to know again.
import { describe, expect, it } from 'vitest'
import {
  bound,
  Dataset,
  fit,
  gradientCollision,
  Model,
  networks,
  piggyback,
  scrub,
  type DisposeOptions,
} from '../lib/index.js'
import { shuffled } from '../lib/data/batches.js'
import { findLastLayer, freshLastLayer } from '../lib/model/last_layer.js'
import { normals } from './random.js'

const shape = [1, 4, 4]
const newModel = (classes: number, seed = 1, hidden = [24, 16]) =>
  Model.fromNetwork(networks.mlp({ inputShape: shape, classes, hidden, activation: 'Tanh', seed }), { device: 'cpu' })

/** Rows around a mean a class; classes `first` on. */
function task(first: number, classes: number, count: number, seed: number, spread = 0.8): Dataset {
  const centres = normals(16 * 16, 4)
  const labels = Array.from({ length: count }, (_, i) => i % classes)
  const inputs = normals(count * 16, seed).map(
    (value, i) => spread * value + centres[(first + labels[Math.floor(i / 16)]) * 16 + (i % 16)],
  )
  return Dataset.fromArrays({ inputs, labels, shape, classes })
}
const [source, target] = [task(0, 5, 400, 1), task(5, 3, 240, 2)]

async function transferred(): Promise<{ sourceHead: Model; model: Model }> {
  const sourceHead = newModel(5)
  await fit(sourceHead, source, { epochs: 15, learningRate: 0.05, batchSize: 40 })
  const model = await sourceHead.withHead(3, { seed: 2 })
  await fit(model, target, { epochs: 5, learningRate: 0.05, batchSize: 40 })
  return { sourceHead, model }
}

async function byName(model: Model): Promise<Map<string, Float32Array>> {
  const weights = await model.weights()
  return new Map(weights.names.map((name) => [name, weights.get(name)]))
}
const flat = async (model: Model) => [...(await byName(model)).values()].flatMap((values) => [...values])
const softmax = (logits: ArrayLike<number>) => {
  const powers = Array.from(logits, Math.exp)
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}

describe("method 'dispose'", () => {
  it.each([
    ['cosine', 'source'],
    ['dot', 'source'],
    ['cosine', 'fresh'],
  ] as const)('steps by both losses: %s, %s head', async (form, head) => {
    const { sourceHead, model } = await transferred()
    const [batches, batchSize, rate, temperature, seed] = [3, 20, 0.1, 2, 7]
    const weightsOfLosses = { collision: 0.7, retention: 1.3 }
    const stepped = async (steps: number): Promise<Model> => {
      const copy = await model.clone()
      const plain = { learningRate: rate, momentum: 0, clip: 1e9, tolerance: 1, temperature, ...weightsOfLosses }
      await scrub(copy, {
        method: 'dispose',
        source,
        head,
        ...(head === 'source' && { sourceHead }),
        target,
        form,
        batches,
        batchSize,
        steps,
        seed,
        ...plain,
      })
      return copy
    }
    const [one, two] = [await stepped(1), await stepped(2)]
    /** The collision loss's gradient at a model's backbone under the source head. */
    const collisionAt = async (at: Model, step: number) => {
      const view = await sourceHead.clone()
      const weights = await view.weights()
      if (head === 'fresh') {
        const layer = findLastLayer(view.description, 'this test')
        for (const [name, { data }] of freshLastLayer(layer, 5, seed, step + 1)) await weights.set(name, data)
      }
      for (const [name, values] of await byName(at)) if (!name.startsWith('fc3')) await weights.set(name, values)
      await view.setWeights(weights)
      const order = shuffled(source.size, seed).subarray(step * batches * batchSize)
      const parts = Array.from({ length: batches }, (_, i) =>
        source.subset(order.slice(i * batchSize, (i + 1) * batchSize)),
      )
      return (await gradientCollision(view, parts, { form, precision: 'float64' })).gradient
    }
    /** J^T tau (softmax(f / tau) - softmax(f_before / tau)) / rows. */
    const retentionAt = async (at: Model, step: number) => {
      const order = shuffled(target.size, seed + 1).subarray(step * batchSize, (step + 1) * batchSize)
      const rows = target.subset(order)
      const [now, before] = await Promise.all([at, model].map((each) => each.evaluate(rows, { precision: 'float64' })))
      const cotangent = new Float64Array(now.length)
      for (let i = 0; i < now.length; i += 3) {
        const [p, q] = [now, before].map((logits) => softmax(logits.subarray(i, i + 3).map((l) => l / temperature)))
        p.forEach((value, k) => (cotangent[i + k] = (temperature * (value - q[k])) / batchSize))
      }
      return at.vjp(rows, cotangent, { precision: 'float64' })
    }
    const compare = async (from: Model, to: Model, step: number) => {
      const [collision, retention] = [await collisionAt(from, step), await retentionAt(from, step)]
      const [before, after] = [await byName(from), await byName(to)]
      let largest = 0
      for (const [name, values] of before) {
        const g = name.startsWith('fc3') ? undefined : collision.getFloat64(name)
        const k = retention.getFloat64(name)
        values.forEach((w, i) => {
          const expected = -(rate / (step + 1)) * (0.7 * (g?.[i] ?? 0) + 1.3 * k[i])
          const moved = (after.get(name) as Float32Array)[i] - w
          largest = Math.max(largest, Math.abs(expected))
          expect(Math.abs(moved - expected)).toBeLessThan(2e-6)
        })
      }
      expect(largest).toBeGreaterThan(1e-4)
      return retention.norm()
    }
    // At first the answers are those before: nothing to retain, and the target head stays.
    expect(await compare(model, one, 0)).toBeLessThan(1e-6)
    expect(await compare(one, two, 1)).toBeGreaterThan(1e-4)
  })

  it('turns the gradients away from each other, keeps the target task, and says that nothing is certified', async () => {
    const { sourceHead, model } = await transferred()
    const before = await model.measure(target)
    const options: DisposeOptions = {
      method: 'dispose',
      source,
      head: 'source',
      sourceHead,
      target,
      steps: 60,
      every: 10,
      learningRate: 0.02,
    }
    const phases: number[] = []
    const copy = await model.clone()
    const report = await scrub(copy, {
      ...options,
      onProgress: ({ phase, done }) => phase === 'dispose' && phases.push(done),
    })
    expect(phases).toEqual(Array.from({ length: report.steps }, (_, i) => i + 1))
    const { looks } = report
    expect((looks.at(-1)?.collision ?? 1) + 0.1).toBeLessThan(looks[0].collision ?? 0)
    expect(report.accuracy.before).toBe(before.accuracy)
    const { accuracy } = await copy.measure(target)
    expect(accuracy).toBe(report.accuracy.after)
    expect(accuracy).toBeGreaterThanOrEqual(before.accuracy - 0.005)
    expect(looks.find(({ step }) => step === report.kept)?.accuracy).toBe(accuracy)
    expect(report.sampleVisits).toBe(report.steps * (2 * 4 * 64 + 64) + (looks.length + 2) * target.size)
    expect(report.bound).toMatchObject({ certified: false, verdict: 'cannot-conclude', guaranteed: null })
    expect(bound(copy).statement).toMatch(/'dispose' has no certificate/)
    expect(structuredClone(report)).toEqual(report)
    const again = await model.clone()
    await scrub(again, options)
    expect(await flat(again)).toEqual(await flat(copy))
  })

  it('brings the target accuracy back by retention alone where unlearning ends below it', async () => {
    const { sourceHead, model } = await transferred()
    const options: DisposeOptions = { method: 'dispose', source, head: 'source', sourceHead, target, collision: 100, steps: 10, every: 5 } // prettier-ignore
    await expect(scrub(await model.clone(), { ...options, recovery: 0 })).rejects.toMatchObject({
      code: 'ERR_NOT_CONVERGED',
    })
    const phases = new Set<string>()
    const report = await scrub(model, { ...options, onProgress: ({ phase }) => void phases.add(phase) })
    expect([...phases]).toEqual(expect.arrayContaining(['dispose', 'recover']))
    expect(report.recovering).toBeGreaterThan(0)
    expect(report).toMatchObject({ kept: report.steps, steps: 10 + report.recovering })
    expect(report.looks.map(({ collision }) => collision !== undefined)).toEqual(
      report.looks.map(({ step }) => step <= 10),
    )
    expect(report.accuracy.after).toBeGreaterThanOrEqual(report.accuracy.before - 0.005)
    expect((await model.measure(target)).accuracy).toBe(report.accuracy.after)
  })

  it('goes back to the last weights that kept the target accuracy, or to those before', async () => {
    const { sourceHead, model } = await transferred()
    const wild: DisposeOptions = { method: 'dispose', source, head: 'source', sourceHead, target, retention: 0, steps: 40, learningRate: 3, every: 1, patience: 2, recovery: 0, clip: 100, momentum: 0 } // prettier-ignore
    const before = await flat(model)
    await expect(scrub(model, { ...wild, tolerance: 0 })).rejects.toMatchObject({
      code: 'ERR_NOT_CONVERGED',
      message: expect.stringMatching(/the model is as before/) as string,
      report: { kept: 0, steps: 2 },
    })
    expect(await flat(model)).toEqual(before)
    // As far as it may fall without a tolerance tells a tolerance that some looks keep and others do not.
    const free = await scrub(await model.clone(), { ...wild, learningRate: 0.2, tolerance: 1 })
    const falls = free.looks.map(({ accuracy }) => free.accuracy.before - accuracy)
    const last = falls[falls.length - 1]
    const tolerance = (falls[0] + last) / 2
    expect(last).toBeGreaterThan(falls[0])
    const end = falls.findIndex((fall, i) => i > 0 && fall > tolerance && falls[i - 1] > tolerance)
    const report = await scrub(model, { ...wild, learningRate: 0.2, tolerance })
    expect(report.steps).toBe(end < 0 ? 40 : end + 1)
    expect(report.kept).toBe(falls.slice(0, report.steps).findLastIndex((fall) => fall <= tolerance) + 1)
    expect(report.kept).toBeLessThan(report.steps)
    expect((await model.measure(target)).accuracy).toBe(report.accuracy.after)
  })

  it.each<[string, Partial<Record<keyof DisposeOptions, unknown>>, string, RegExp]>([
    [
      'no source head',
      { sourceHead: undefined },
      'ERR_INVALID_ARGUMENT',
      /the one before the transfer, for 'sourceHead', got undefined/,
    ],
    [
      'a source head of another backbone',
      { sourceHead: newModel(5, 1, [24, 15]) },
      'ERR_SHAPE',
      /same network but for its last layer/,
    ],
    [
      'a source head of another architecture',
      { sourceHead: newModel(5, 1, [24, 16, 16]) },
      'ERR_SHAPE',
      /same network/,
    ],
    ['a source of more classes than the head', { source: task(0, 8, 400, 1) }, 'ERR_SHAPE', /at most 5 classes/],
    [
      'a source head that is not asked for',
      { head: 'fresh' },
      'ERR_INVALID_ARGUMENT',
      /nothing with head 'fresh' for 'sourceHead'/,
    ],
    ['too few source rows', { source: source.subset([0, 1, 2]) }, 'ERR_INVALID_ARGUMENT', /4 disjoint batches of 64/],
    ['one batch', { batches: 1 }, 'ERR_INVALID_ARGUMENT', /'batches', got 1/],
    ['a target of more classes than the model', { target: task(0, 4, 40, 1) }, 'ERR_SHAPE', /at most 3 classes/],
    ['another form', { form: 'angle' }, 'ERR_INVALID_ARGUMENT', /'cosine' or 'dot'/],
    ['an unknown option', { rate: 1 } as never, 'ERR_INVALID_ARGUMENT', /'rate'; the nearest is/],
  ])('refuses %s', async (_, options, code, message) => {
    const { sourceHead, model } = await transferred()
    const before = await flat(model)
    const all = { method: 'dispose', source, head: 'source', sourceHead, target, ...options } as DisposeOptions
    await expect(scrub(model, all)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
    expect(await flat(model)).toEqual(before)
  })

  it('stops at a signal, before and within, with the model as it was', async () => {
    const { model } = await transferred()
    const before = await flat(model)
    const options: DisposeOptions = { method: 'dispose', source, target, steps: 50 }
    const reason = new Error('enough')
    await expect(scrub(model, { ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const stop = new AbortController()
    const onProgress = ({ done }: { done: number }) => done === 3 && stop.abort(reason)
    await expect(scrub(model, { ...options, signal: stop.signal, onProgress })).rejects.toBe(reason)
    expect(await flat(model)).toEqual(before)
    expect(model.history).toEqual([])
  })
})

describe('piggyback', () => {
  const testSet = task(0, 5, 300, 9, 1.6)
  const quick = { steps: 8, share: 0.05, fit: { learningRate: 0.05 } }

  it('measures what a budget brings back, beside fresh and unscrubbed weights', async () => {
    const { model } = await transferred()
    const floor = newModel(2, 5)
    const budget = [quick, { ...quick, steps: 200, share: 1 }]
    const [before, fresh] = [await flat(model), await flat(floor)]
    const done: number[] = []
    const onProgress = ({ done: count, total }: { done: number; total: number }) => void done.push(count / total)
    const given = { budget, testSet, floor, ceiling: model, seeds: [1, 2, 3, 4] }
    const report = await piggyback(model, source, { ...given, onProgress })
    expect(done).toEqual(Array.from({ length: 24 }, (_, i) => (i + 1) / 24))
    const [small, large] = report.results
    expect([small.rows, large.rows]).toEqual([20, 400])
    expect(small.recovered).toBe(1)
    expect(small.accuracy).toBe(small.ceiling)
    expect(small.accuracy).toBe(small.accuracies.reduce((a, b) => a + b, 0) / 4)
    expect(new Set(small.accuracies).size).toBeGreaterThan(1)
    expect(small.accuracy).toBeGreaterThan((small.floor as number) + 0.02)
    expect(large.accuracy).toBeGreaterThan(small.accuracy)
    expect(small.budget).toMatchObject({
      steps: 8,
      share: 0.05,
      fit: { batchSize: 64, learningRate: 0.05, momentum: 0.9 },
    })
    expect(await flat(model)).toEqual(before)
    expect(await flat(floor)).toEqual(fresh)
    expect(structuredClone(report)).toEqual(report)
    const alone = await piggyback(floor, source, { budget: quick, testSet, seeds: [1, 2, 3, 4] })
    // 20 rows are one batch.
    expect(alone.sampleVisits).toBe(4 * (8 * 20 + testSet.size))
    const parts = await piggyback(floor, source, { budget: { ...quick, fit: { batchSize: 16 } }, testSet })
    expect(parts.sampleVisits).toBe(4 * 20 + testSet.size)
    expect(alone.results[0]).toMatchObject({ accuracy: small.floor, floor: null, ceiling: null, recovered: null })
  })

  it('takes another task than the one before, and parameters to fit', async () => {
    const { model } = await transferred()
    const [other, otherTest] = [task(8, 4, 200, 3), task(8, 4, 200, 8)]
    const probe = { parameters: (name: string) => name.startsWith('fc3'), learningRate: 0.05 }
    const { results } = await piggyback(model, other, { budget: [{ share: 0.2 }, { share: 0.2, fit: probe }], testSet: otherTest }) // prettier-ignore
    for (const { accuracy } of results) expect(accuracy).toBeGreaterThan(0.6)
    expect(results[0].accuracy).not.toBe(results[1].accuracy)
  })

  it('refuses what it cannot use, and stops at a signal', async () => {
    const model = newModel(3)
    const refused = (options: unknown, code: string, message: RegExp, data: unknown = source) =>
      expect(piggyback(model, data as Dataset, options as never)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message) as string,
      })
    await refused({ budget: [], testSet }, 'ERR_INVALID_ARGUMENT', /a list of them for 'budget', got an array of 0/)
    await refused({ budget: [quick, { share: 0 }], testSet }, 'ERR_INVALID_ARGUMENT', /'budget\[1\]\.share', got 0/)
    await refused({ budget: { step: 1 }, testSet }, 'ERR_INVALID_ARGUMENT', /nearest is 'steps'/)
    await refused({ budget: quick }, 'ERR_INVALID_ARGUMENT', /a Dataset for 'testSet'/)
    await refused({ budget: quick, testSet: task(0, 6, 60, 1) }, 'ERR_SHAPE', /at most 5 classes/)
    await refused({ budget: quick, testSet }, 'ERR_INVALID_ARGUMENT', /a Dataset for 'data'/, [])
    await refused({ budget: { fit: { epochs: 2 } }, testSet }, 'ERR_INVALID_ARGUMENT', /epochs/)
    for (const own of [{ steps: 500 }, { seed: 1 }]) {
      await refused({ budget: { fit: own }, testSet }, 'ERR_INVALID_ARGUMENT', /without steps and seed/)
    }
    const reason = new Error('enough')
    await expect(piggyback(model, source, { budget: quick, testSet, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
  })
})
