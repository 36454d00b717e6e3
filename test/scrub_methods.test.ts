// scrub(): what each method does to the weights, against the formulas; and what each refuses.
import { describe, expect, it } from 'vitest'
import { Dataset, fit, MnemonicCodes, Model, networks, scrub, type MnemonicOptions } from '../lib/index.js'
import { normals } from './random.js'

const shape = [1, 4, 4]
const classes = 4
const network = (seed = 1, hidden = [12]) =>
  networks.mlp({ inputShape: shape, classes, hidden, activation: 'Sigmoid', seed })
const newModel = (seed = 1) => Model.fromNetwork(network(seed), { device: 'cpu' })

/** Rows around a mean a class. */
const labels = Array.from({ length: 120 }, (_, i) => i % classes)
const noise = normals(120 * 16, 3)
const centres = normals(classes * 16, 4)
const inputs = noise.map((value, i) => 0.5 * value + centres[labels[Math.floor(i / 16)] * 16 + (i % 16)])
const rows = Dataset.fromArrays({ inputs, labels, shape })
const own = rows.where({ class: 2 })
const rest = rows.without({ class: 2 })

async function fitted(seed = 1, hidden = [12], epochs = 60): Promise<{ model: Model; codes: MnemonicCodes }> {
  const model = Model.fromNetwork(network(seed, hidden), { device: 'cpu' })
  const codes = MnemonicCodes.draw(model, { seed })
  await fit(model, rows, { epochs, learningRate: 0.1, mnemonic: { codes, rate: 0.2 }, batchSize: 30 })
  return { model, codes }
}

async function byName(model: Model): Promise<Map<string, Float64Array>> {
  const weights = await model.weights('float64')
  return new Map(weights.names.map((name) => [name, weights.getFloat64(name)]))
}
const flat = async (model: Model) => [...(await byName(model)).values()].flatMap((values) => [...values])

describe("method 'mnemonic'", () => {
  it('moves by alpha eta of the codes, both caps kept (Yamashita et al. 2024, eqs. 5 to 7)', async () => {
    const { model, codes } = await fitted()
    const before = await byName(model)
    const square = async (c: number) => {
      const gradient = await model.gradient(
        { inputs: codes.get(c), labels: Int32Array.of(c) },
        { precision: 'float64' },
      )
      return new Map(gradient.names.map((name) => [name, gradient.getFloat64(name).map((g) => g * g)]))
    }
    const squares = await Promise.all([0, 1, 2, 3].map(square))
    const [lambda1, lambda2] = [0.05, 0.2]
    const report = await scrub(model, { method: 'mnemonic', class: 2, codes, lambda1, lambda2 })
    const after = await byName(model)
    const caps: string[] = []
    for (const [name, values] of before) {
      const of = (c: number) => squares[c].get(name) as Float64Array
      const eta = of(2).map((f, i) => (f + 1e-16) / ((of(0)[i] + of(1)[i] + of(3)[i]) / 3 + 1e-16))
      const alpha = Math.min(lambda1, lambda2 / Math.max(...eta))
      caps.push(alpha < lambda1 ? 'lambda2' : 'lambda1')
      const moved = (after.get(name) as Float64Array).map((value, i) => (value - values[i]) * report.sign)
      moved.forEach((step, i) => expect(Math.abs(step - alpha * eta[i])).toBeLessThan(1e-6))
      expect(Math.max(...moved)).toBeGreaterThan(1e-4)
      const told = report.tensors.find((tensor) => tensor.name === name)
      expect(told?.largestStep).toBeCloseTo(alpha * Math.max(...eta), 9)
    }
    expect(new Set(caps).size).toBe(2)
    const { plus, minus } = report.scores
    expect(report.sign).toBe(plus.score > minus.score ? 1 : -1)
    expect(report.caps).toEqual({ lambda1, lambda2 })
  })

  it('destroys the class and keeps the others with nothing chosen and no data', async () => {
    const { model, codes } = await fitted(1, [100])
    expect((await model.measure(own)).accuracy).toBeGreaterThan(0.9)
    const known = (await model.measure(rest)).accuracy
    const report = await scrub(model, { method: 'mnemonic', class: 2, codes })
    expect((await model.measure(own)).accuracy).toBeLessThan(0.1)
    expect((await model.measure(rest)).accuracy).toBeGreaterThan(known - 0.1)
    const { before, minus, plus } = report.scores
    const kept = report.sign > 0 ? plus : minus
    expect(kept.score).toBe(2)
    const mean = before.margins.reduce((a, b) => a + b, 0) / classes
    expect(kept.margins[2]).toBeLessThanOrEqual(-2 * mean)
    expect(kept.margins[2]).toBeGreaterThan(-2 * mean * 1.2)
    expect(report.options).toMatchObject({ class: 2, direction: 'same', balance: 'each', floor: 0, margin: 2 })
    expect(structuredClone(report)).toEqual(report)
  })

  it('asks nothing less of codes that were learned only in part: a loss they had before is no harm', async () => {
    const { model, codes } = await fitted(1, [100], 8)
    const report = await scrub(model, { method: 'mnemonic', class: 2, codes })
    expect(report.options).toMatchObject({ direction: 'same', margin: 2 })
    expect((await model.measure(own)).accuracy).toBeLessThan(0.1)
  })

  it('moves each parameter as the loss of the code rises, by the same amounts, where that is asked for', async () => {
    const { model, codes } = await fitted(1, [100])
    const before = await byName(model)
    const gradient = await model.gradient({ inputs: codes.get(2), labels: Int32Array.of(2) }, { precision: 'float64' })
    const [plain, chosen] = [await model.clone(), await model.clone()]
    const caps = { lambda1: 0.05, lambda2: 0.2 }
    const own = { method: 'mnemonic', class: 2, codes } as const
    const [one, each] = [
      await scrub(plain, { ...own, ...caps }),
      await scrub(model, { ...own, ...caps, direction: 'gradient' }),
    ]
    expect([one.options.direction, each.options.direction, each.sign]).toEqual(['same', 'gradient', 1])
    const [same, moved] = [await byName(plain), await byName(model)]
    for (const [name, values] of before) {
      const g = gradient.getFloat64(name)
      const [a, b] = [same, moved].map((after) => (after.get(name) as Float64Array).map((w, i) => w - values[i]))
      b.forEach((step, i) => expect(Math.abs(step - Math.sign(g[i]) * one.sign * a[i])).toBeLessThan(1e-6))
    }
    const report = await scrub(chosen, { ...own, direction: 'gradient' })
    expect(report.options).toMatchObject({ direction: 'gradient', margin: 4 })
    expect((await chosen.measure(rows.where({ class: 2 }))).accuracy).toBeLessThan(0.1)
    expect(report.scores.plus.score).toBe(2)
  })

  it('takes the same way along the gradient by itself, where one sign harms the other codes, as when asked to', async () => {
    const { model, codes } = await fitted(3)
    const asked = await model.clone()
    const own = { method: 'mnemonic', class: 2, codes } as const
    const [chosen, given] = [await scrub(model, own), await scrub(asked, { ...own, direction: 'gradient' })]
    expect(chosen.options.direction).toBe('gradient')
    expect(chosen.candidates).toBeGreaterThan(given.candidates)
    expect(chosen.caps).toEqual(given.caps)
    expect(await flat(model)).toEqual(await flat(asked))
  })

  it('knows the codes that scrub() itself taught, and no longer takes others for them', async () => {
    const { model } = await fitted()
    const codes = MnemonicCodes.draw(model, { seed: 5 })
    const fitting = { epochs: 60, learningRate: 0.1, batchSize: 30, mnemonic: { codes, rate: 0.2 } }
    const plain = newModel()
    await fit(plain, rows, { epochs: 2 })
    for (const each of [model, plain]) {
      const known = each.history
      await scrub(each, { method: 'retrain', retainSet: rows, from: newModel(9), fit: fitting })
      expect(each.history).toEqual([
        ...known,
        { verb: 'fit', codes: codes.digest },
        { verb: 'scrub', method: 'retrain' },
      ])
    }
    const others = MnemonicCodes.draw(plain, { seed: 6 })
    const refused = scrub(plain, { method: 'mnemonic', class: 2, codes: others })
    await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await scrub(model, { method: 'mnemonic', class: 2, codes })
  })

  it('leaves parameters that no code reaches, or moves them as released', async () => {
    const { model, codes } = await fitted()
    // A code of zeros everywhere at one pixel cannot be drawn; a dead hidden unit can be made.
    const weights = await model.weights()
    const dead = weights.get('fc2.weight')
    for (let o = 0; o < classes; o++) dead[o * 12 + 5] = 0
    await weights.set('fc2.weight', dead)
    await model.setWeights(weights)
    const shift = async (unused: 'leave' | 'move') => {
      const copy = await model.clone()
      await scrub(copy, { method: 'mnemonic', class: 2, codes, lambda1: 1e-3, lambda2: 10, unused })
      const [a, b] = [(await byName(model)).get('fc1.bias'), (await byName(copy)).get('fc1.bias')]
      return Math.abs((b as Float64Array)[5] - (a as Float64Array)[5])
    }
    expect(await shift('leave')).toBe(0)
    expect(await shift('move')).toBeCloseTo(1e-3, 6)
  })

  it.each<[string, Partial<MnemonicOptions> & { class?: unknown }, RegExp]>([
    ['a class that is not there', { class: 4 }, /'class', got 4/],
    [
      'several classes, and says what the paper says',
      { class: [1, 2] as never },
      /several classes at once is difficult/,
    ],
    ['one cap without the other', { lambda1: 1 }, /'lambda2'/],
    ['caps that are not above 0', { lambda1: 0, lambda2: 1 }, /'lambda1'/],
    ['to move along a gradient what has none', { direction: 'gradient', unused: 'move' }, /'leave' along the gradient/],
    ['a direction that is not there', { direction: 'up' as never }, /'direction'/],
    ['what are no codes', { codes: 'codes.safetensors' as never }, /MnemonicCodes\.load/],
  ])('refuses %s', async (_, options, message) => {
    const { model, codes } = await fitted()
    const before = await flat(model)
    const refused = scrub(model, { method: 'mnemonic', class: 2, codes, ...options } as MnemonicOptions)
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message) as string,
    })
    expect(await flat(model)).toEqual(before)
  })

  it('refuses a model without codes, codes of another model, another architecture', async () => {
    const { codes } = await fitted()
    const plain = newModel()
    await fit(plain, rows, { epochs: 20, learningRate: 0.1 })
    const scrubbing = (model: Model, of: MnemonicCodes) => scrub(model, { method: 'mnemonic', class: 2, codes: of })
    const { model } = await fitted(2)
    await expect(scrubbing(model, codes)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const wide = Model.fromNetwork(network(1, [13]), { device: 'cpu' })
    await expect(scrubbing(wide, codes)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const { accuracy } = await plain.measure({
      inputs: Float32Array.from([0, 1, 2, 3].flatMap((c) => [...codes.get(c)])),
      labels: Int32Array.of(0, 1, 2, 3),
    })
    expect(accuracy).toBeLessThan(1)
    await expect(scrubbing(plain, codes)).rejects.toMatchObject({ code: 'ERR_NOT_FITTED' })
    expect(plain.history).toEqual([])
  })
})

describe('the comparisons', () => {
  it("'dampening' shrinks what the forgotten rows need out of proportion (Foster et al. 2024)", async () => {
    const { model } = await fitted()
    const before = await byName(model)
    const [f, r] = [await model.fisherDiagonal(own), await model.fisherDiagonal(rest)]
    const alpha = 1.5
    const report = await scrub(model, { method: 'dampening', forgetSet: own, retainSet: rest, alpha })
    const after = await byName(model)
    let dampened = 0
    for (const [name, values] of before) {
      const [forget, retain] = [f.getFloat64(name), r.getFloat64(name)]
      values.forEach((value, i) => {
        const all = 0.25 * forget[i] + 0.75 * retain[i]
        const factor = forget[i] > alpha * all ? Math.min(all / forget[i], 1) : 1
        dampened += Number(factor < 1)
        expect(Math.abs((after.get(name) as Float64Array)[i] - factor * value)).toBeLessThan(
          1e-5 * (1 + Math.abs(value)),
        )
      })
    }
    expect(dampened).toBeGreaterThan(10)
    const told = report.tensors.reduce((sum, { name, dampened: d }) => sum + d * (before.get(name)?.length ?? 0), 0)
    expect(told).toBeCloseTo(dampened, 6)
  })

  it("'fisherNoise' is larger where the retained rows need a weight less (Golatkar et al. 2020)", async () => {
    const { model } = await fitted()
    const f = await model.fisherDiagonal(rest, { type: 'mc' })
    const noiseOf = async (power: 0.25 | 0.5) => {
      const copy = await model.clone()
      await scrub(copy, { method: 'fisherNoise', retainSet: rest, noiseScale: 1e-3, power, noiseSeed: 7 })
      const [a, b] = [await byName(model), await byName(copy)]
      return [...a].flatMap(([name, values]) =>
        [...values].map((value, i) => {
          const scale = 1e-3 * (f.getFloat64(name)[i] + 1e-8) ** -power
          return ((b.get(name) as Float64Array)[i] - value) / scale
        }),
      )
    }
    const [quarter, half] = [await noiseOf(0.25), await noiseOf(0.5)]
    const variance = quarter.reduce((sum, e) => sum + e * e, 0) / quarter.length
    expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2 / quarter.length))
    quarter.forEach((e, i) => expect(Math.abs(e - half[i])).toBeLessThan(1e-2))
  })

  it("'fisherNoise' takes the exact diagonal where asked, which has no seed", async () => {
    const { model } = await fitted()
    const before = await byName(model)
    const f = await model.fisherDiagonal(rest, { type: 'exact' })
    const [twin, exact] = [await model.clone(), { method: 'fisherNoise', retainSet: rest, fisher: 'exact' } as const]
    await scrub(model, { ...exact, noiseSeed: 7 })
    await scrub(twin, { ...exact, noiseSeed: 7, noiseScale: 2e-3 })
    const [one, two] = [await byName(model), await byName(twin)]
    const normal = [...before].flatMap(([name, values]) =>
      [...values].map((value, i) => {
        const [a, b] = [one, two].map((after) => (after.get(name) as Float64Array)[i] - value)
        expect(Math.abs(b - 2 * a)).toBeLessThan(1e-5)
        return a / (1e-3 * (f.getFloat64(name)[i] + 1e-8) ** -0.25)
      }),
    )
    const variance = normal.reduce((sum, e) => sum + e * e, 0) / normal.length
    expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2 / normal.length))
  })

  it("'gradientAscent' stops at the loss of chance, or says that it did not get there", async () => {
    const { model } = await fitted()
    const report = await scrub(model, { method: 'gradientAscent', forgetSet: own, learningRate: 0.05 })
    expect(report.steps).toBeGreaterThan(0)
    expect(report.loss).toBeGreaterThanOrEqual(Math.log(classes))
    expect((await model.measure(own)).loss).toBeGreaterThan(1)
    const again = newModel()
    await fit(again, rows, { epochs: 20, learningRate: 0.1 })
    const before = await flat(again)
    const slow = scrub(again, { method: 'gradientAscent', forgetSet: own, learningRate: 1e-9, maxSteps: 2 })
    await expect(slow).rejects.toMatchObject({ code: 'ERR_NOT_CONVERGED' })
    expect(await flat(again)).toEqual(before)
  })

  it("'retrain' has the bits of fit() from the fresh network", async () => {
    const { model } = await fitted()
    const [from, reference] = [newModel(9), newModel(9)]
    const options = { epochs: 2, seed: 3 }
    await scrub(model, { method: 'retrain', retainSet: rest, from, fit: options })
    await fit(reference, rest, options)
    expect(await flat(model)).toEqual(await flat(reference))
    const wide = Model.fromNetwork(network(1, [13]), { device: 'cpu' })
    const refused = scrub(model, { method: 'retrain', retainSet: rest, from: wide })
    await expect(refused).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})
