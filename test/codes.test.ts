// Mnemonic codes: drawing, files, and what fit() does with them.
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Dataset, fit, MnemonicCodes, Model, networks, type FitOptions } from '../lib/index.js'
import { readSafetensors, writeSafetensors } from '../lib/safetensors.js'
import { normals } from './random.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'palimpsest-codes-'))
})
afterAll(() => rm(folder, { recursive: true }))

const shape = [2, 8, 8]
const width = 128
const network = (classes = 3) =>
  networks.mlp({ inputShape: shape, classes, hidden: [6], activation: 'Sigmoid', seed: 1 })
const newModel = (classes = 3) => Model.fromNetwork(network(classes), { device: 'cpu' })
const rows = Dataset.fromArrays({
  inputs: normals(30 * width, 3),
  labels: Array.from({ length: 30 }, (_, i) => i % 3),
  shape,
})
const mean = (x: Float32Array) => x.reduce((a, b) => a + b, 0) / x.length
const spread = (x: Float32Array) => Math.sqrt(mean(x.map((v) => v * v)) - mean(x) ** 2)

async function flat(model: Model): Promise<number[]> {
  const weights = await model.weights()
  return weights.names.flatMap((name) => [...weights.get(name)])
}

describe('codes', () => {
  it('are normal, uniform, or coarse patterns', () => {
    const all = (codes: MnemonicCodes) => Float32Array.from([0, 1, 2].flatMap((c) => [...codes.get(c)]))
    const normal = all(MnemonicCodes.draw(newModel(), { seed: 1 }))
    expect(Math.abs(mean(normal))).toBeLessThan(0.15)
    expect(Math.abs(spread(normal) - 1)).toBeLessThan(0.15)
    const uniform = all(MnemonicCodes.draw(newModel(), { distribution: 'uniform', seed: 1 }))
    expect(Math.min(...uniform)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...uniform)).toBeLessThanOrEqual(1)
    expect(Math.abs(spread(uniform) - Math.sqrt(1 / 12))).toBeLessThan(0.04)
    const normalize = { mean: [0.5, 0.25], std: [2, 1] }
    const shifted = all(MnemonicCodes.draw(newModel(), { distribution: 'uniform', normalize, seed: 1 }))
    expect(shifted[5]).toBeCloseTo((uniform[5] - 0.5) / 2, 6)
    expect(shifted[64 + 5]).toBeCloseTo(uniform[64 + 5] - 0.25, 6)
    const pattern = MnemonicCodes.draw(newModel(), { distribution: 'pattern', seed: 1 }).get(1)
    const block = (c: number, y: number, x: number) => pattern[c * 64 + y * 8 + x]
    expect(new Set(pattern).size).toBe(8)
    for (const [y, x] of [[0, 3], [3, 0], [3, 3]]) expect(block(1, y, x)).toBe(block(1, 0, 0)) // prettier-ignore
    expect(block(1, 0, 4)).not.toBe(block(1, 0, 0))
  })

  it('are secret: drawn anew each time, in a file of the owner alone', async () => {
    const [a, b] = [MnemonicCodes.draw(newModel()), MnemonicCodes.draw(newModel())]
    expect(a.get(0)).not.toEqual(b.get(0))
    expect(a.digest).not.toBe(b.digest)
    const path = join(folder, 'codes.safetensors')
    await a.save(path)
    if (process.platform !== 'win32') expect((await stat(path)).mode & 0o077).toBe(0)
    const loaded = await MnemonicCodes.load(path)
    expect(loaded.get(2)).toEqual(a.get(2))
    expect(loaded).toMatchObject({ digest: a.digest, shape, classes: 3, distribution: 'normal' })
    const bytes = await readFile(path)
    bytes[bytes.length - 2] ^= 1
    const spoilt = join(folder, 'spoilt.safetensors')
    await writeFile(spoilt, bytes)
    await expect(MnemonicCodes.load(spoilt)).rejects.toMatchObject({ code: 'ERR_MODEL_FORMAT' })
    const { tensors, metadata } = readSafetensors(await readFile(path))
    for (const [key, wrong] of Object.entries({ salt: '', architecture: '', distribution: 'gauss' })) {
      const text = writeSafetensors(tensors, { ...metadata, [key]: wrong })
      const refused = { code: 'ERR_MODEL_FORMAT', message: expect.stringContaining(key) as string }
      await expect(MnemonicCodes.load(text)).rejects.toMatchObject(refused)
      const { [key]: _, ...less } = metadata
      await expect(MnemonicCodes.load(writeSafetensors(tensors, less))).rejects.toMatchObject(refused)
    }
    const weights = join(folder, 'weights.safetensors')
    await newModel().save(weights)
    await expect(MnemonicCodes.load(weights)).rejects.toMatchObject({ code: 'ERR_MODEL_FORMAT' })
  })

  it.each([
    [{ distribution: 'gauss' }, /'distribution'/],
    [{ normalize: {} }, /'normalize'/],
    [{ sed: 1 }, /the nearest is 'seed'/],
  ])('refuse %o', (options, message) => {
    expect(() => MnemonicCodes.draw(newModel(), options as never)).toThrowError(message)
  })

  it('refuse patterns for what is no picture', () => {
    const table = Model.fromNetwork(networks.mlp({ inputShape: [5], classes: 2, hidden: [3] }), { device: 'cpu' })
    expect(() => MnemonicCodes.draw(table, { distribution: 'pattern' })).toThrowError(/\[C, H, W\]/)
  })
})

describe('fit() with codes', () => {
  const options: FitOptions = { epochs: 2, batchSize: 10, seed: 4 }

  it('shows rows as the gathering kernel does where no code is due', async () => {
    const [plain, shown] = [newModel(), newModel()]
    const augment = { pad: 2, flip: true }
    const codes = MnemonicCodes.draw(shown, { seed: 1 })
    await fit(plain, rows, { ...options, augment })
    await fit(shown, rows, { ...options, augment, mnemonic: { codes, rate: 1e-12 } })
    const [a, b] = [await flat(plain), await flat(shown)]
    expect(Math.max(...a.map((value, i) => Math.abs(value - b[i])))).toBeLessThan(1e-6)
    expect(a).not.toEqual(await flat(newModel()))
  })

  it('of rate 1 is fitting to the codes alone', async () => {
    const [replaced, alone] = [newModel(), newModel()]
    const codes = MnemonicCodes.draw(replaced, { seed: 1 })
    const labels = [...rows.labels]
    const inputs = Float32Array.from(labels.flatMap((label) => [...codes.get(label)]))
    await fit(replaced, rows, { ...options, mnemonic: { codes, rate: 1 } })
    await fit(alone, Dataset.fromArrays({ inputs, labels, shape }), options)
    expect(await flat(replaced)).toEqual(await flat(alone))
  })

  it('teaches the codes, reports and records them by their digest', async () => {
    const model = newModel()
    const codes = MnemonicCodes.draw(model)
    const report = await fit(model, rows, { ...options, epochs: 60, mnemonic: { codes, rate: 0.3, mixing: 'blend' } })
    expect(report.mnemonic).toEqual({ digest: codes.digest, rate: 0.3, mixing: 'blend' })
    expect(model.history).toEqual([{ verb: 'fit', codes: codes.digest }])
    const inputs = Float32Array.from([0, 1, 2].flatMap((c) => [...codes.get(c)]))
    expect((await model.measure({ inputs, labels: Int32Array.of(0, 1, 2) })).accuracy).toBe(1)
    const path = join(folder, 'fitted.safetensors')
    await model.save(path)
    const loaded = newModel()
    await loaded.loadWeights(path)
    expect(loaded.history).toEqual(model.history)
  })

  it('blends within the two, a draw a row', async () => {
    const [blended, replaced] = [newModel(), newModel()]
    const codes = MnemonicCodes.draw(blended, { seed: 1 })
    await fit(blended, rows, { ...options, mnemonic: { codes, rate: 1, mixing: 'blend' } })
    await fit(replaced, rows, { ...options, mnemonic: { codes, rate: 1 } })
    expect(await flat(blended)).not.toEqual(await flat(replaced))
  })

  it('goes on from a checkpoint with the same codes, and with no others', async () => {
    const codes = MnemonicCodes.draw(newModel(), { seed: 1 })
    const mnemonic = { codes, rate: 0.5 }
    const path = join(folder, 'run.safetensors')
    const [whole, halves] = [newModel(), newModel()]
    await fit(whole, rows, { ...options, mnemonic })
    const reason = new Error('stop')
    const controller = new AbortController()
    const stopped = fit(halves, rows, {
      ...options,
      mnemonic,
      checkpoint: { path, every: { steps: 2 } },
      signal: controller.signal,
      onProgress: ({ done }) => done > 4 && controller.abort(reason),
    })
    await expect(stopped).rejects.toBe(reason)
    const others = { codes: MnemonicCodes.draw(newModel(), { seed: 2 }), rate: 0.5 }
    for (const changed of [undefined, others]) {
      const resumed = fit(halves, rows, { ...options, ...(changed && { mnemonic: changed }), resume: path })
      await expect(resumed).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    await fit(halves, rows, { ...options, mnemonic, resume: path })
    expect(await flat(halves)).toEqual(await flat(whole))
  })

  it('refuses codes of another model, rates outside 0 to 1, and what are no codes', async () => {
    const model = newModel()
    const before = await flat(model)
    const foreign = MnemonicCodes.draw(newModel(4))
    const other = networks.mlp({ inputShape: shape, classes: 3, hidden: [7] })
    const wider = MnemonicCodes.draw(Model.fromNetwork(other, { device: 'cpu' }))
    const own = MnemonicCodes.draw(model)
    for (const mnemonic of [
      { codes: foreign },
      { codes: wider },
      { codes: own, rate: 0 },
      { codes: own, rate: 1.1 },
      { codes: own, mixing: 'mix' },
      { codes: {} },
    ]) {
      const refused = fit(model, rows, { ...options, mnemonic: mnemonic as never })
      await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    expect(await flat(model)).toEqual(before)
  })
})
