// forget(): where it lands, what it releases, what it promises, and what it leaves alone.
import { describe, expect, it } from 'vitest'
import {
  bound,
  Dataset,
  fit,
  forget,
  forgetAll,
  Model,
  networks,
  PalimpsestError,
  TangentModel,
  type ForgetOptions,
} from '../lib/index.js'
import { native } from '../lib/native.js'
import { normals } from './random.js'
import { distanceOf, normOf, retrain, userWeights } from './retrained.js'
import { datasetOf, fitted, layerChoices, makeCore, makeRows, rowCount, width } from './tangent_models.js'

const rows = makeRows()
const ownersRows = (owner: string) => rows.owners.flatMap((each, i) => (each === owner ? [i] : []))
const without = (...gone: number[]) => [...rows.labels.keys()].filter((i) => !gone.includes(i))

/** Relative distance to the exactly retrained model, and what the certificate says of it. */
async function landing(model: TangentModel, kept: readonly number[]) {
  const data = datasetOf(rows, kept)
  const { weights } = await retrain(model, data)
  data.dispose()
  const distance = distanceOf(await userWeights(model), weights)
  return { distance, relative: distance / normOf(weights) }
}

describe.each(layerChoices)('forget() with layers: %s', (_, layers) => {
  it('lands on the exactly retrained model, request after request', async () => {
    const model = await fitted(layers)
    const start = await landing(model, without())
    expect(start.relative).toBeLessThan(1e-3)
    const gone: number[] = []
    const requests: [ForgetOptions, number[]][] = [
      [{ where: { owner: 'o3' } }, ownersRows('o3')],
      [{ where: (row) => row.label === 1 && row.index < 20 }, []],
      [{ rows: datasetOf(rows, [50, 51]) }, [50, 51]],
      [{ where: [{ owner: 'o7' }, { owner: 'o8', class: 2 }] }, []],
    ]
    for (const [request, expected] of requests) {
      const before = model.data!
      const keysBefore = Array.from({ length: before.size }, (_x, i) => before.digest(i))
      const moved = await userWeights(model)
      const report = await forget(model, { noise: 'none', ...request })
      const left = model.data!
      const kept = new Set(Array.from({ length: left.size }, (_x, i) => left.digest(i)))
      const removed = keysBefore.filter((digest) => !kept.has(digest))
      expect(report.forgotten).toBe(removed.length)
      expect(report.retained).toBe(left.size)
      const all = datasetOf(rows)
      const digests = await all.digests()
      gone.push(...removed.map((digest) => digests.indexOf(digest)))
      if (expected.length > 0) expect(removed.map((digest) => digests.indexOf(digest)).sort()).toEqual(expected.sort())
      const { distance, relative } = await landing(model, without(...gone))
      expect(relative).toBeLessThanOrEqual(1e-4)
      expect(report.bound.measured!.distance).toBeGreaterThanOrEqual(distance)
      // The request moved the weights by far more than what is left.
      expect(distanceOf(moved, await userWeights(model))).toBeGreaterThan(20 * distance)
      expect(report.bound).toMatchObject({ certified: false, guaranteed: null, verdict: 'cannot-conclude' })
      expect(report.bound.measured).toMatchObject({ nats: null, epsilon: null })
    }
    expect(gone.length).toBeGreaterThan(15)
  })

  it('at other dampings and target scales', async () => {
    for (const options of [
      { damping: 0.01, targetScale: 1 },
      { damping: 7, targetScale: 0.1 },
    ]) {
      const model = await fitted(layers, rows, options)
      const { bound: found } = await forget(model, { where: { owner: 'o1' }, noise: 'none' })
      const { distance, relative } = await landing(model, without(...ownersRows('o1')))
      expect(relative).toBeLessThanOrEqual(1e-4)
      expect(found.measured!.distance).toBeGreaterThanOrEqual(distance)
    }
  })

  it('releases what the certificate allows, on the grid, in float32', async () => {
    const model = await fitted(layers)
    const report = await forget(model, { where: { owner: 'o3' }, noise: 0.25, target: { nats: 1e-3 }, noiseSeed: 5 })
    const twin = await fitted(layers)
    const other = await forget(twin, { where: { owner: 'o3' }, noise: 0.25, target: { nats: 1e-3 }, noiseSeed: 6 })
    const [a, b] = [await userWeights(model), await userWeights(twin)]
    expect(distanceOf(a, b)).toBeGreaterThan(0.1 * Math.sqrt(a.length) * 0.25)
    // h = 2^(floor(log2 s) - 16)
    const grid = 2 ** -18
    for (const w of [...a, ...b]) {
      expect(Math.fround(w)).toBe(w)
      expect(Number.isInteger(w / grid)).toBe(true)
    }
    expect(report.bound.measured).toEqual(other.bound.measured)
    expect(report.bound.verdict).toBe('holds')
    expect(report.bound.measured!.nats!).toBeLessThanOrEqual(1e-3)
    const { weights } = await retrain(model, datasetOf(rows, without(...ownersRows('o3'))))
    // Noise of that deviation, and nothing else: chi-squared with P degrees of freedom, six deviations wide.
    const spread = distanceOf(a, weights) ** 2 / 0.25 ** 2
    expect(Math.abs(spread - a.length)).toBeLessThan(6 * Math.sqrt(2 * a.length))
    expect(await model.evaluate({ inputs: rows.inputs })).not.toEqual(await twin.evaluate({ inputs: rows.inputs }))
    const w = await model.weights()
    for (const name of w.names) {
      expect(w.getFloat64(name).some((value) => value !== 0)).toBe(model.parameters.includes(name))
    }
    expect(JSON.stringify(report.bound.assumptions)).toContain('nobody knows the seed')
    // Whoever asks later is told, too.
    expect(JSON.stringify(bound(model).assumptions)).toContain('nobody knows the seed')
  })

  it('refits to the bits of a fit on the retained rows alone', async () => {
    const model = await fitted(layers)
    await forget(model, { where: { owner: 'o2' } })
    const report = await forget(model, { where: { owner: 'o3' }, solver: 'refit' })
    expect(report).toMatchObject({ solver: 'refit', noiseScale: 0 })
    const kept = without(...ownersRows('o2'), ...ownersRows('o3'))
    const fresh = TangentModel.at(makeCore(), { layers })
    await fit(fresh, datasetOf(rows, kept))
    expect(await userWeights(model)).toEqual(await userWeights(fresh))
    expect(report.bound).toMatchObject({
      certified: true,
      verdict: 'exact',
      guaranteed: { nats: 0, epsilon: 0, exact: true },
    })
    expect(bound(model).verdict).toBe('exact')
    // The release before it was noisy, and counts.
    expect(report.bound.total!.nats).toBeCloseTo(0.01, 10)
    await expect(forget(model, { where: { owner: 'o4' }, solver: 'refit', noise: 0.1 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await forget(model, { where: { owner: 'o4' }, noise: 'none' })
    expect(
      (
        await landing(
          model,
          kept.filter((i) => rows.owners[i] !== 'o4'),
        )
      ).relative,
    ).toBeLessThanOrEqual(1e-4)
  })

  it("takes the paper's SGD as a control, which changes the linearised parameters alone", async () => {
    const distances: number[] = []
    for (const epochs of [1, 200]) {
      const model = await fitted(layers)
      const { bound: found, iterations } = await forget(model, {
        where: { owner: 'o3' },
        noise: 'none',
        solver: 'sgd',
        epochs,
      })
      expect(iterations).toBe(epochs)
      expect(found).toMatchObject({ verdict: 'cannot-conclude', certified: false })
      const { distance } = await landing(model, without(...ownersRows('o3')))
      expect(found.measured!.distance).toBeGreaterThanOrEqual(distance)
      distances.push(distance)
      const w = await model.weights()
      for (const name of w.names) {
        expect(w.getFloat64(name).some((value) => value !== 0)).toBe(model.parameters.includes(name))
      }
      await forget(model, { where: { owner: 'o4' }, noise: 'none' })
      expect((await landing(model, without(...ownersRows('o3'), ...ownersRows('o4')))).relative).toBeLessThanOrEqual(
        1e-4,
      )
    }
    expect(distances[1]).toBeLessThan(0.2 * distances[0])
  })

  it('reports the options that were used, with which it can be asked again', async () => {
    const model = await fitted(layers)
    const usual = { noiseShape: 'isotropic', fallback: 'throw', maxIterations: 500, epochs: 3, seed: 0 }
    const nats = { nats: 0.01 }
    const [bits, delta] = [{ epsilon: 0.5, delta: 1e-3 }, 1e-6]
    const cases: [ForgetOptions, object][] = [
      [{ noise: 'none' }, { noise: 'none', solver: 'newton', tolerance: 1e-4, delta }],
      [
        { noise: 'none', tolerance: 0.01 },
        { noise: 'none', solver: 'newton', tolerance: 0.01, delta },
      ],
      [{ solver: 'refit' }, { noise: 'none', solver: 'refit', tolerance: 1e-3, delta }],
      [
        { solver: 'sgd', noise: 'none' },
        { noise: 'none', solver: 'sgd', delta },
      ],
      [{ noise: 0.5 }, { noise: 0.5, solver: 'newton', target: nats, delta }],
      [
        { noise: 0.5, delta: 0.1 },
        { noise: 0.5, solver: 'newton', target: nats, delta: 0.1 },
      ],
      [
        { noise: 0.5, target: bits },
        { noise: 0.5, solver: 'newton', target: bits, delta: bits.delta },
      ],
    ]
    for (const [i, [given, used]] of cases.entries()) {
      const { options } = await forget(model, { where: { owner: `o${i + 1}` }, ...given })
      expect(Object.entries(options).sort()).toEqual(Object.entries({ ...usual, ...used }).sort())
      const again = await forget(model, { where: (row) => row.index === 0, ...options })
      expect(again.options).toEqual(options)
    }
  })

  it('gives the core back bit for bit when everything is forgotten', async () => {
    const model = await fitted(layers)
    await forget(model, { where: { owner: 'o3' } })
    const inputs = normals(300 * width, 9)
    expect(await model.evaluate({ inputs })).not.toEqual(await model.core.evaluate({ inputs }))
    const found = await forgetAll(model)
    const [mine, core] = [await model.evaluate({ inputs }), await model.core.evaluate({ inputs })]
    expect(mine.every((value, i) => Object.is(value, core[i]))).toBe(true)
    expect((await userWeights(model)).every((value) => value === 0)).toBe(true)
    expect(model.data).toBeUndefined()
    expect(found).toMatchObject({
      certified: true,
      verdict: 'exact',
      guaranteed: { nats: 0, exact: true },
      measured: null,
    })
    expect(bound(model)).toMatchObject({ verdict: 'exact', guaranteed: { nats: 0 } })
    await expect(forget(model, { where: { owner: 'o1' } })).rejects.toMatchObject({ code: 'ERR_NOT_FITTED' })
    await fit(model, datasetOf(rows))
    expect((await landing(model, without())).relative).toBeLessThan(1e-3)
  })
})

describe('noise', () => {
  it('has the promised deviation in every parameter of a larger model', async () => {
    const core = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [120], classes: 3, seed: 4 }))
    const released: Float64Array[] = []
    const means: number[] = []
    for (const noiseSeed of [1, 2, undefined, undefined]) {
      const model = TangentModel.at(core)
      await fit(model, datasetOf(rows))
      const options = { where: { owner: 'o3' }, noise: 0.3, target: { nats: 0.1 }, ...(noiseSeed && { noiseSeed }) }
      const report = await forget(model, options)
      expect(JSON.stringify(report)).not.toContain('noiseSeed')
      released.push(await userWeights(model))
      means.push(report.bound.measured!.distance)
    }
    expect(new Set(means).size).toBe(1)
    // The mean is the same: differences of two releases are noise alone, of deviation s sqrt(2).
    const size = released[0].length
    for (const [a, b] of [
      [0, 1],
      [2, 3],
      [0, 2],
    ]) {
      const differences = released[a].map((value, i) => (value - released[b][i]) / (0.3 * Math.SQRT2))
      const moment = (power: number) => differences.reduce((sum, value) => sum + value ** power, 0) / size
      expect(Math.abs(moment(1))).toBeLessThan(5 / Math.sqrt(size))
      expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / size))
      expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / size))
    }
  })

  it('is drawn anew for each release, even under one seed of the rows', async () => {
    const [one, other] = [await fitted(), await fitted()]
    for (const model of [one, other]) await forget(model, { where: { owner: 'o3' }, seed: 1 })
    expect(distanceOf(await userWeights(one), await userWeights(other))).toBeGreaterThan(0)
  })

  it('follows the curvature where it is asked to, over the head', async () => {
    const s = 0.5
    const kept = without(...ownersRows('o3'))
    let energy = 0
    let square = 0
    const draws = 40
    const base = await fitted('head')
    const { weights, curvature } = await retrain(base, datasetOf(rows, kept))
    for (let seed = 0; seed < draws; seed++) {
      const model = await fitted('head')
      const request = { where: { owner: 'o3' }, noise: s, noiseShape: 'curvature', noiseSeed: seed } as const
      const { bound: found } = await forget(model, request)
      const w = await userWeights(model)
      const delta = w.map((value, i) => (value - weights[i]) / s)
      energy += delta.reduce((sum, value, i) => sum + value * curvature[i].reduce((t, h, j) => t + h * delta[j], 0), 0)
      square += delta.reduce((sum, value) => sum + value * value, 0)
      expect(found.verdict).toBe('holds')
      expect(found.measured!.nats!).toBeLessThanOrEqual(0.01)
    }
    // delta ~ N(0, H^-1): delta^T H delta has P degrees of freedom a draw.
    const freedom = draws * weights.length
    expect(Math.abs(energy - freedom)).toBeLessThan(5 * Math.sqrt(2 * freedom))
    // Not isotropic of that scale: |delta|^2 has the trace of H^-1, well below P where H exceeds 1.
    expect(square).toBeLessThan(0.8 * freedom)
    await expect(
      forget(await fitted(), { where: { owner: 'o3' }, noise: s, noiseShape: 'curvature' }),
    ).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' })
  })

  it("'auto' is a power of two that public rows hardly see, whatever the user's rows are", async () => {
    const scales = new Set<number>()
    for (const seed of [1, 5, 6]) {
      const model = await fitted('all', makeRows(rowCount, seed))
      scales.add((await forget(model, { where: { owner: 'o3' } })).noiseScale)
    }
    expect(scales.size).toBe(1)
    const [s] = scales
    expect(Number.isInteger(Math.log2(s))).toBe(true)
    const model = await fitted()
    const { publicData, core } = model
    let square = 0
    let count = 0
    for (const { name, shape } of core.parameters) {
      const size = shape.reduce((a, b) => a * b, 1)
      for (let i = 0; i < size; i++) {
        const unit = new Float64Array(size)
        unit[i] = 1
        const column = await core.jvp(publicData!, core.vector({ [name]: unit }), { precision: 'float64' })
        square += normOf(column) ** 2
        count = column.length
      }
    }
    // Deviation of an output over 5 % of the target scale: at most 1 but for the probes' error, at least 1/2.
    const share = (s * Math.sqrt(square / count)) / (0.05 * model.targetScale)
    expect(share).toBeLessThan(1.2)
    expect(share).toBeGreaterThan(0.4)
  })
})

describe('what is promised', () => {
  it('is the preset target; totals add as squares of distances', async () => {
    const model = await fitted()
    expect(bound(model)).toMatchObject({ certified: false, guaranteed: null, total: null, verdict: 'cannot-conclude' })
    const first = await forget(model, { where: { owner: 'o3' }, noise: 0.2, target: { nats: 0.01 } })
    const second = await forget(model, { where: { owner: 'o4' }, noise: 0.1, target: { epsilon: 0.5, delta: 1e-5 } })
    const distance = native().distanceOf(0.5, 1e-5)
    expect(first.bound.guaranteed).toMatchObject({ nats: 0.01, delta: 1e-6, exact: false })
    expect(second.bound.guaranteed!.epsilon).toBeCloseTo(0.5, 9)
    expect(second.bound.guaranteed!.nats).toBeCloseTo(distance ** 2 / 2, 12)
    const total = bound(model).total!
    expect(total.nats).toBeCloseTo(0.01 + distance ** 2 / 2, 12)
    expect(total.nats).toBeGreaterThanOrEqual(0.01 + distance ** 2 / 2)
    expect(total.epsilon).toBeCloseTo(native().epsilonOf(Math.sqrt(2 * 0.01 + distance ** 2), 1e-5), 9)
    expect(bound(model)).toMatchObject({
      certified: true,
      verdict: 'holds',
      measured: null,
      guaranteed: { delta: 1e-5 },
    })
    expect(bound(model).guaranteed!.advantage).toBeCloseTo(native().advantage(distance ** 2 / 2), 12)
    expect(model.ledger.map(({ kind, noiseScale, number }) => [number, kind, noiseScale])).toEqual([
      [1, 'fit', 0],
      [2, 'forget', 0.2],
      [3, 'forget', 0.1],
    ])
    await forget(model, { where: { owner: 'o5' }, noise: 'none' })
    expect(bound(model).total).toMatchObject({ nats: null, epsilon: null, advantage: null })
    expect(bound(model).verdict).toBe('cannot-conclude')
  })

  it('is the same whatever was forgotten, and nothing measured is in it', async () => {
    const records: string[] = []
    for (const owner of ['o3', 'o5']) {
      const model = await fitted()
      const report = await forget(model, { where: { owner }, noise: 0.2, target: { nats: 0.01 } })
      const { measured, ...rest } = report.bound
      const record = JSON.stringify([bound(model), model.ledger, rest])
      for (const value of Object.values(measured!)) expect(record).not.toContain(String(value))
      for (const [i, entry] of model.ledger.entries()) {
        expect(Object.keys(entry).sort()).toEqual(
          ['number', 'kind', 'noiseScale', 'noiseShape', 'targetDistance', 'delta', 'guaranteed'].sort(),
        )
        expect(entry.number).toBe(i + 1)
      }
      records.push(record)
    }
    expect(records[0]).toBe(records[1])
  })

  it('says what it is about and what it is not', async () => {
    const model = await fitted()
    const { bound: found } = await forget(model, { where: { owner: 'o3' }, target: { nats: 0.02 } })
    expect(found.statement).toMatch(/within 0\.02 nats of exact retraining plus the same noise, in both directions/)
    const epsilon = Number(/\(([0-9.]+), 0\.000001\)-indistinguishable/.exec(found.statement)![1])
    expect(epsilon).toBeGreaterThanOrEqual(found.guaranteed!.epsilon!)
    expect(epsilon).toBeLessThan(1.001 * found.guaranteed!.epsilon!)
    expect(found.guaranteed!.nats).toBe(0.02)
    const text = JSON.stringify(bound(model).assumptions)
    for (const words of ['released before', 'core', 'requests were chosen', 'running time'])
      expect(text).toContain(words)
    const told = JSON.stringify(found.assumptions)
    for (const words of ['digests of all rows', 'do not depend on user rows', 'generator is ideal', 'mu = '])
      expect(told).toContain(words)
    // Who changes what a report says does not change the ledger.
    found.guaranteed!.nats = 0
    model.ledger[1].guaranteed!.nats = 0
    expect(bound(model).guaranteed!.nats).toBe(0.02)
  })

  it('certifies no ordinary network', async () => {
    expect(bound(makeCore())).toMatchObject({
      certified: false,
      guaranteed: null,
      total: null,
      verdict: 'cannot-conclude',
    })
    expect(() => bound({} as Model)).toThrow(PalimpsestError)
  })
})

describe('the release rule', () => {
  it('refuses where the target is not met, and the model is as before; a fallback refits', async () => {
    const model = await fitted()
    const before = await userWeights(model)
    const request = { where: { owner: 'o3' }, noise: 1e-3, target: { nats: 1e-4 }, solver: 'sgd', epochs: 1 } as const
    const error = await forget(model, request).then(
      () => undefined,
      (thrown: unknown) => thrown as PalimpsestError,
    )
    expect(error).toBeInstanceOf(PalimpsestError)
    expect(error!.code).toBe('ERR_NOT_CONVERGED')
    const { wanted, distance } = error!.report as { wanted: number; distance: number }
    expect(wanted).toBeCloseTo(1e-3 * Math.sqrt(2e-4), 10)
    expect(distance).toBeGreaterThan(wanted)
    expect(await userWeights(model)).toEqual(before)
    expect(model.ledger).toHaveLength(1)
    expect(model.data!.size).toBe(rowCount)
    await expect(
      forget(model, { where: { owner: 'o3' }, noise: 0.1, maxIterations: 1, target: { nats: 1e-6 } }),
    ).rejects.toMatchObject({ code: 'ERR_NOT_CONVERGED' })
    expect(await userWeights(model)).toEqual(before)
    const report = await forget(model, { ...request, fallback: 'refit' })
    expect(report).toMatchObject({ solver: 'refit', noiseScale: 0, bound: { verdict: 'exact' } })
    expect(model.ledger[1]).toMatchObject({ kind: 'refit', noiseScale: 0 })
  })

  it('refuses targets below the grid before it reads a row', async () => {
    const model = await fitted()
    const phases: string[] = []
    const onProgress = ({ phase }: { phase: string }) => void phases.push(phase)
    await expect(
      forget(model, { where: { owner: 'o3' }, noise: 0.1, target: { nats: 1e-12 }, onProgress }),
    ).rejects.toThrow(/expected at least .* nats .* for 'target', got/)
    expect(phases).toEqual([])
  })

  it('gives a noisy model a step that starts from what was released', async () => {
    const model = await fitted()
    await forget(model, { where: { owner: 'o3' }, noise: 0.5 })
    const released = await userWeights(model)
    await forget(model, { where: { owner: 'o4' }, noise: 0.5 })
    const gone = [...ownersRows('o3'), ...ownersRows('o4')]
    const { weights } = await retrain(model, datasetOf(rows, without(...gone)))
    // The second release has the noise of one draw, not of two.
    const spread = distanceOf(await userWeights(model), weights) ** 2 / 0.25
    expect(Math.abs(spread - weights.length)).toBeLessThan(6 * Math.sqrt(2 * weights.length))
    expect(distanceOf(released, await userWeights(model))).toBeGreaterThan(0)
  })
})

describe('a Dataset of rows to forget', () => {
  it('means all fitted rows with their bytes and labels', async () => {
    const doubled = makeRows()
    doubled.inputs.copyWithin(10 * width, 20 * width, 21 * width)
    doubled.labels[10] = doubled.labels[20]
    const model = await fitted('all', doubled)
    const report = await forget(model, { rows: datasetOf(doubled, [20]), noise: 'none' })
    expect(report.forgotten).toBe(2)
    await expect(forget(model, { rows: datasetOf(doubled, [20]), noise: 'none' })).rejects.toMatchObject({
      code: 'ERR_NOT_FITTED',
    })
    expect(model.data).toBeInstanceOf(Dataset)
  })
})
