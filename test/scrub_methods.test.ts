// scrub(): what each method does to the weights, against the formulas; and what each refuses.
import { describe, expect, it } from 'vitest'
import {
  Dataset,
  fit,
  MnemonicCodes,
  Model,
  networks,
  scrub,
  type MnemonicOptions,
  type MnemonicReport,
} from '../lib/index.js'
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
      const moved = (after.get(name) as Float64Array).map((value, i) => (value - values[i]) * (report.sign ?? NaN))
      moved.forEach((step, i) => expect(Math.abs(step - alpha * eta[i])).toBeLessThan(1e-6))
      expect(Math.max(...moved)).toBeGreaterThan(1e-4)
      const told = report.tensors.find((tensor) => tensor.name === name)
      expect(told?.largestStep).toBeCloseTo(alpha * Math.max(...eta), 9)
    }
    expect(new Set(caps).size).toBe(2)
    const { after: kept, other } = report.scores
    const [plus, minus] = report.sign === 1 ? [kept, other] : [other, kept]
    expect(report.sign).toBe((plus?.score ?? NaN) > (minus?.score ?? NaN) ? 1 : -1)
    expect(report.options.direction).toBe('same')
    expect(report.caps).toEqual({ lambda1, lambda2 })
  })

  it('moves along g / R of the moment by a sixth of the mean margin, until the margin is reached', async () => {
    const { model, codes } = await fitted(1, [100])
    const oracle = await model.clone()
    const all = [0, 1, 2, 3].map((c) => ({ inputs: codes.get(c), labels: Int32Array.of(c) }))
    const marginsOf = async () => {
      const rows = await Promise.all(all.map(async (row) => [...(await oracle.evaluate(row))]))
      return rows.map((row, c) => row[c] - Math.max(...row.filter((_, k) => k !== c)))
    }
    const mean = (await marginsOf()).reduce((a, b) => a + b, 0) / classes
    const weights = await oracle.weights('float64')
    let steps = 0
    while ((await marginsOf())[2] > -2.5 * mean) {
      const fall = await oracle.vjp(all[2], Float64Array.of(1 / 3, 1 / 3, -1, 1 / 3), { precision: 'float64' })
      const others = [0, 1, 3].map((c) => oracle.gradient(all[c], { precision: 'float64' }))
      const shares = (await Promise.all(others)).map((gradient) => {
        const sum = gradient.names.flatMap((name) => [...gradient.getFloat64(name)]).reduce((s, g) => s + g * g, 0)
        return new Map(gradient.names.map((name) => [name, gradient.getFloat64(name).map((g) => (g * g) / sum / 3)]))
      })
      let slope = 0
      const step = new Map<string, Float64Array>()
      for (const name of weights.names) {
        const g = fall.getFloat64(name)
        const fisher = g.map((_, i) => shares.reduce((sum, share) => sum + (share.get(name) as Float64Array)[i], 0))
        const floor = (1e-4 * fisher.reduce((a, b) => a + b, 0)) / fisher.length
        const d = g.map((value, i) => value / (fisher[i] + floor))
        step.set(name, d)
        slope += d.reduce((sum, value, i) => sum + value * g[i], 0)
      }
      for (const [name, d] of step) {
        const w = weights.getFloat64(name)
        await weights.set(
          name,
          w.map((value, i) => value + (mean / 6 / slope) * d[i]),
        )
      }
      await oracle.setWeights(weights)
      steps++
    }
    const start = await byName(model)
    const report = await scrub(model, { method: 'mnemonic', class: 2, codes, spread: 'free', blends: 0 })
    expect(steps).toBeGreaterThan(10)
    expect(report.sampleVisits).toBe(classes * (2 * steps + 2))
    expect(report.candidates).toBe(steps)
    const [moved, expected] = [await byName(model), await byName(oracle)]
    for (const [name, values] of moved) {
      const there = expected.get(name) as Float64Array
      values.forEach((value, i) => expect(Math.abs(value - there[i])).toBeLessThan(1e-4))
      const before = start.get(name) as Float64Array
      const told = report.tensors.find((tensor) => tensor.name === name)
      expect(told?.largestStep).toBeCloseTo(Math.max(...values.map((value, i) => Math.abs(value - before[i]))), 5)
    }
  })

  it.each(['gradient', 'same'] as const)(
    'destroys the class, keeps the others, no data, nothing chosen: %s',
    async (direction) => {
      const { model, codes } = await fitted(1, [100])
      expect((await model.measure(own)).accuracy).toBeGreaterThan(0.9)
      const known = (await model.measure(rest)).accuracy
      const report = await scrub(model, { method: 'mnemonic', class: 2, codes, direction })
      expect((await model.measure(own)).accuracy).toBeLessThan(0.1)
      expect((await model.measure(rest)).accuracy).toBeGreaterThan(known - 0.1)
      const { before, after } = report.scores
      expect(after.score).toBe(2)
      const [mean, margin] = [before.margins.reduce((a, b) => a + b, 0) / classes, direction === 'same' ? 2 : 2.5]
      expect(after.margins[2]).toBeLessThanOrEqual(-margin * mean)
      expect(after.margins[2]).toBeGreaterThan(-margin * mean * 1.2)
      expect(report.options).toMatchObject({ class: 2, direction, balance: 'each', floor: 0, margin })
      expect(structuredClone(report)).toEqual(report)
    },
  )

  it.each(['gradient', 'same'] as const)('asks nothing less of codes learned only in part: %s', async (direction) => {
    const { model, codes } = await fitted(1, [100], 8)
    const report = await scrub(model, { method: 'mnemonic', class: 2, codes, direction })
    expect(report.options).toMatchObject({ direction, margin: direction === 'same' ? 2 : 2.5 })
    expect((await model.measure(own)).accuracy).toBeLessThan(direction === 'same' ? 0.1 : 0.3)
  })

  it('spreads the change evenly by itself where the other codes bear it, and says so', async () => {
    for (const [hidden, margin, spread] of [
      [100, 2.5, 'even'],
      [12, 20, 'free'],
    ] as const) {
      const { model, codes } = await fitted(1, [hidden])
      const asked = await model.clone()
      const own = { method: 'mnemonic', class: 2, codes, margin } as const
      const [chosen, given] = [await scrub(model, own), await scrub(asked, { ...own, spread })]
      expect(chosen.options).toMatchObject({ direction: 'gradient', spread, margin, blends: 2 })
      expect(chosen.scores).toEqual(given.scores)
      const lost = [0, 1, 3].map((c) => chosen.scores.before.margins[c] - chosen.scores.after.margins[c])
      const mean = chosen.scores.before.margins.reduce((a, b) => a + b, 0) / classes
      if (spread === 'even') expect(lost.reduce((a, b) => a + b, 0) / 3).toBeLessThanOrEqual(mean / 4)
      else expect(chosen.candidates).toBeGreaterThan(given.candidates)
    }
  })

  it('repeats bit for bit, its blends too', async () => {
    const { model, codes } = await fitted(3)
    const again = await model.clone()
    const start = await flat(model)
    const own = { method: 'mnemonic', class: 2, codes } as const
    await scrub(model, own)
    await scrub(again, own)
    expect(await flat(model)).toEqual(await flat(again))
    expect(await flat(model)).not.toEqual(start)
  })

  it('harms the other codes less than one step with one sign for all', async () => {
    const { model, codes } = await fitted(3)
    const one = await model.clone()
    const own = { method: 'mnemonic', class: 2, codes } as const
    const harm = ({ before, after }: MnemonicReport['scores']) =>
      [0, 1, 3].reduce((sum, c) => sum + after.losses[c] - before.losses[c], 0) / 3
    const [steps, step] = [await scrub(model, own), await scrub(one, { ...own, direction: 'same' })]
    expect(harm(steps.scores)).toBeLessThan(harm(step.scores) / 2)
  })

  it('goes as far as the other codes bear, and refuses what they bear too little of', async () => {
    const { model, codes } = await fitted(3)
    const before = await flat(model)
    const own = { method: 'mnemonic', class: 2, codes, spread: 'even' } as const
    const far = await model.clone()
    const { options, scores } = await scrub(far, { ...own, margin: 20 })
    expect(options.margin).toBeGreaterThan(6)
    expect(options.margin).toBeLessThan(20)
    const mean = (margins: readonly number[], of: readonly number[]) =>
      of.reduce((sum, c) => sum + margins[c], 0) / of.length
    const lost = mean(scores.before.margins, [0, 1, 3]) - mean(scores.after.margins, [0, 1, 3])
    expect(lost).toBeLessThanOrEqual(mean(scores.before.margins, [0, 1, 2, 3]) / 2)
    const refused = scrub(model, { ...own, margin: 60 })
    await expect(refused).rejects.toMatchObject({ code: 'ERR_NOT_CONVERGED' })
    expect(await flat(model)).toEqual(before)
  })

  it('takes one of two classes, and refuses the only one', async () => {
    for (const count of [1, 2]) {
      const kept = labels.flatMap((label, i) => (label < count ? [i] : []))
      const data = Dataset.fromArrays({
        inputs: Float32Array.from(kept.flatMap((i) => [...inputs.slice(16 * i, 16 * i + 16)])),
        labels: kept.map((i) => labels[i]),
        shape,
        classes: count,
      })
      const net = networks.mlp({ inputShape: shape, classes: count, hidden: [20], activation: 'Sigmoid', seed: 1 })
      const model = Model.fromNetwork(net, { device: 'cpu' })
      const codes = MnemonicCodes.draw(model, { seed: 1 })
      await fit(model, data, { epochs: 60, learningRate: 0.1, mnemonic: { codes, rate: 0.2 }, batchSize: 30 })
      const before = await flat(model)
      const scrubbing = scrub(model, { method: 'mnemonic', class: 0, codes })
      if (count === 1) {
        await expect(scrubbing).rejects.toThrow('two classes or more')
        expect(await flat(model)).toEqual(before)
      } else {
        const { scores } = await scrubbing
        expect(scores.after.score).toBe(2)
        expect((await model.measure(data.where({ class: 0 }))).accuracy).toBeLessThan(0.1)
        expect((await model.measure(data.where({ class: 1 }))).accuracy).toBeGreaterThan(0.9)
      }
    }
  })

  it('can be stopped, and tells its steps', async () => {
    const { model, codes } = await fitted(3)
    const before = await flat(model)
    const stop = new AbortController()
    const seen: number[] = []
    const stopped = scrub(model, {
      method: 'mnemonic',
      class: 2,
      codes,
      signal: stop.signal,
      onProgress({ phase, done }) {
        if (phase === 'steps') seen.push(done)
        if (seen.length === 3) stop.abort(new Error('enough'))
      },
    })
    await expect(stopped).rejects.toThrow('enough')
    expect(seen).toEqual([1, 2, 3])
    expect(await flat(model)).toEqual(before)
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
    ['caps along the gradient', { direction: 'gradient', lambda1: 1, lambda2: 1 }, /one step.*'direction'/],
    ['a spread of one step', { direction: 'same', spread: 'even' }, /'spread'/],
    ['blends in one step', { lambda1: 1, lambda2: 1, blends: 2 }, /'blends'/],
    ['blends below 0', { blends: -1 }, /'blends'/],
    ['a margin beside caps', { margin: 1, lambda1: 1, lambda2: 1 }, /'margin'/],
    ['to move along a gradient what has none', { direction: 'gradient', unused: 'move' }, /'leave' along the gradient/],
    ['to move by default what has no gradient', { unused: 'move' }, /'leave' along the gradient/],
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
