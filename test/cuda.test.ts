// What a GPU must do through public names: the CPU's results, memory that dispose() frees, errors after which it works on.
import { describe, expect, it } from 'vitest'
import { devices, Model, networks, PalimpsestError, type ParameterVector } from '../lib/index.js'
import { native } from '../lib/native.js'
import { normals } from './random.js'

const gpu = devices().find(({ name, available }) => name.startsWith('cuda') && available)?.name as `cuda:${number}`

const build = (device: 'cpu' | `cuda:${number}`) =>
  Model.fromNetwork(networks.lenet({ inputShape: [1, 12, 12], classes: 4, seed: 3 }), { device })
const rows = 6
const batch = { inputs: normals(rows * 144, 1), labels: Int32Array.from({ length: rows }, (_, i) => i % 4) }
const held = async () => (await native().memoryUse(gpu, false)).held

async function refusal(action: () => Promise<unknown>): Promise<PalimpsestError> {
  try {
    await action()
  } catch (error) {
    if (error instanceof PalimpsestError) return error
  }
  throw new Error('expected a PalimpsestError')
}

function distance(a: ParameterVector, b: ParameterVector, model: Model): number {
  let [difference, norm] = [0, 0]
  for (const { name } of model.parameters) {
    const [x, y] = [a.get(name), b.get(name)]
    x.forEach((value, i) => ((difference += (value - y[i]) ** 2), (norm += value ** 2)))
  }
  return Math.sqrt(difference / norm)
}

describe.skipIf(gpu === undefined)('a GPU', () => {
  it.each([
    ['float32', 1e-4],
    ['float64', 1e-12],
  ] as const)("gives the CPU's products in %s", async (precision, bar) => {
    const [near, far] = [build('cpu'), build(gpu)]
    for (const of of ['gradient', 'fisherDiagonal'] as const) {
      const [a, b] = [await near[of](batch, { precision }), await far[of](batch, { precision })]
      expect(distance(a, b, near)).toBeLessThan(bar)
      const product = [await near.ggnProduct(batch, a, { precision }), await far.ggnProduct(batch, b, { precision })]
      expect(distance(product[0], product[1], near)).toBeLessThan(2 * bar)
      for (const vector of [a, b, ...product]) vector.dispose()
    }
    near.dispose()
    far.dispose()
  })

  it('gives its memory back on dispose(), round after round', async () => {
    const round = async () => {
      const model = build(gpu)
      const gradient = await model.gradient(batch)
      const used = await held()
      gradient.dispose()
      model.dispose()
      return used
    }
    const before = await held()
    const used = [await round(), await round(), await round()]
    expect(used[0]).toBeGreaterThan(before)
    expect(used[2]).toBe(used[1])
    expect(await held()).toBeLessThan(used[0])
  })

  it('works on after memory was out', async () => {
    const model = build(gpu)
    const before = await model.evaluate(batch)
    await native().configure(gpu, { memoryLimit: (await held()) + 1000 })
    const { code, message } = await refusal(() => model.vector({}, { dtype: 'float64' }).norm())
    await native().configure(gpu, { memoryLimit: 0 })
    expect([code, message]).toEqual(['ERR_OUT_OF_MEMORY', expect.stringMatching(/expected \d+ bytes .*got \d+ free/)])
    expect(await model.evaluate(batch)).toEqual(before)
    model.dispose()
  })

  it('takes no vector of another device, and a model moves by clone()', async () => {
    const near = build('cpu')
    const far = await near.clone({ device: gpu })
    expect([far.device, far.deviceReason]).toEqual([gpu, `device is '${gpu}'`])
    const gradient = await near.gradient(batch)
    const { code, message } = await refusal(() => far.jvp(batch, gradient))
    expect(code).toBe('ERR_INVALID_ARGUMENT')
    expect(message).toMatch(new RegExp(`on the device ${gpu} for 'tangents', got one on cpu`))
    const there = await far.gradient(batch)
    expect((await refusal(() => gradient.dot(there))).message).toMatch(/on the device cpu/)
    const back = await far.clone({ device: 'cpu' })
    expect(await back.evaluate(batch)).toEqual(await near.evaluate(batch))
    for (const each of [near, far, back, gradient, there]) each.dispose()
  })
})

describe.each([['cpu'], ...(gpu === undefined ? [] : [[gpu]])] as ['cpu'][])('on %s', (device) => {
  it('nothing is left of 1,000 rounds of loading, computing and disposing', async () => {
    const first = Model.fromNetwork(networks.mlp({ inputShape: [3], hidden: [5], classes: 2, seed: 1 }), { device })
    const file = await first.exportOnnx()
    first.dispose()
    const data = { inputs: normals(6, 1), labels: Int32Array.from([0, 1]) }
    // What was disposed is let go of a turn later, on the native thread.
    const heldNow = async () => {
      for (let i = 0; i < 3; i++) {
        await new Promise(setImmediate)
        await native().memoryUse(device, false)
      }
      return (await native().memoryUse(device, false)).held
    }
    const norms = new Set<number>()
    let after: number | undefined
    for (let round = 0; round < 1000; round++) {
      const model = await Model.load(file, { device })
      const gradient = await model.gradient(data)
      if (round % 50 === 0) norms.add(await gradient.norm())
      gradient.dispose()
      model.dispose()
      if (round === 20) after = await heldNow()
    }
    expect(norms.size).toBe(1)
    expect(await heldNow()).toBe(after)
  })
})

describe('clone()', () => {
  it('refuses a device that is not there', async () => {
    const model = build('cpu')
    expect((await refusal(() => model.clone({ device: 'cuda:99' }))).code).toBe('ERR_DEVICE')
    model.dispose()
  })
})
