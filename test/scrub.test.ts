// scrub(): the frame that all methods share: dispatch, report, one swap at the end, abort, history.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bound, Dataset, Model, networks, scrub, type ScrubOptions } from '../lib/index.js'
import { normals } from './random.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'palimpsest-scrub-'))
})
afterAll(() => rm(folder, { recursive: true }))

const shape = [1, 4, 4]
const newModel = (seed = 1) =>
  Model.fromNetwork(networks.mlp({ inputShape: shape, classes: 3, hidden: [5], seed }), { device: 'cpu' })
const rows = Dataset.fromArrays({
  inputs: normals(24 * 16, 3),
  labels: Array.from({ length: 24 }, (_, i) => i % 3),
  shape,
})
const options = (): ScrubOptions => ({ method: 'fineTune', retainSet: rows, fit: { epochs: 1 } })

async function flat(model: Model): Promise<number[]> {
  const weights = await model.weights()
  return weights.names.flatMap((name) => [...weights.get(name)])
}

describe('scrub()', () => {
  it('changes the model in one step, and reports every option', async () => {
    const model = newModel()
    const before = await flat(model)
    const report = await scrub(model, options())
    expect(await flat(model)).not.toEqual(before)
    expect(report).toMatchObject({ verb: 'scrub', method: 'fineTune', sampleVisits: 24, device: 'cpu' })
    expect(report.options).toMatchObject({ retainSet: { rows: 24 }, fit: { steps: 1, learningRate: 0.01 } })
    expect(structuredClone(report)).toEqual(report)
    expect(report.seconds).toBeGreaterThan(0)
    expect(report.bound).toEqual(bound(model))
  })

  it('is never certified; the model keeps what was done to it, in its files too', async () => {
    const model = newModel()
    expect(model.history).toEqual([])
    const ordinary = bound(model).statement
    await scrub(model, options())
    const path = join(folder, 'scrubbed.safetensors')
    await model.save(path)
    const loaded = newModel(2)
    await loaded.loadWeights(path)
    for (const each of [model, await model.clone(), loaded]) {
      expect(each.history).toEqual([{ verb: 'scrub', method: 'fineTune' }])
      const { certified, guaranteed, total, measured, verdict, statement, assumptions } = bound(each)
      expect({ certified, guaranteed, total, measured, verdict }).toEqual({
        certified: false,
        guaranteed: null,
        total: null,
        measured: null,
        verdict: 'cannot-conclude',
      })
      expect(statement).toMatch(/fineTune.*no certificate/)
      expect(statement).not.toBe(ordinary)
      expect(assumptions[0].check).toMatch(/not a guarantee/)
    }
    const fresh = join(folder, 'fresh.safetensors')
    await newModel().save(fresh)
    await model.loadWeights(fresh)
    expect(model.history).toEqual([])
  })

  it('leaves the model bit for bit on abort, beforehand and meanwhile, and when a callback throws', async () => {
    const model = newModel()
    const before = await flat(model)
    const reason = new Error('enough')
    await expect(scrub(model, { ...options(), signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const onProgress = () => controller.abort(reason)
    await expect(scrub(model, { ...options(), signal: controller.signal, onProgress })).rejects.toBe(reason)
    const thrown = new Error('thrown')
    const throwing = () => {
      throw thrown
    }
    await expect(scrub(model, { ...options(), onProgress: throwing })).rejects.toBe(thrown)
    expect(await flat(model)).toEqual(before)
    expect(model.history).toEqual([])
  })

  it('refuses to overwrite what changed meanwhile', async () => {
    const model = newModel()
    const other = newModel(5)
    const running = scrub(model, options())
    await model.setWeights(await other.weights())
    await expect(running).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    expect(await flat(model)).toEqual(await flat(other))
  })
})

describe('scrub() refuses', () => {
  const model = newModel()
  it.each([
    ['a method that is not known', { method: 'fineTuen' }, /'method'.*'fineTuen'; the nearest is 'fineTune'/],
    ['no method', {}, /'method', got undefined/],
    ['no options', undefined, /plain object/],
    ['an option of no method', { method: 'fineTune', retainset: rows }, /the nearest is 'retainSet'/],
    ['no data', { method: 'fineTune' }, /a Dataset for 'retainSet'/],
    ['an option that fit() does not know', { ...options(), fit: { epoch: 1 } }, /the nearest is 'epochs'/],
  ])('%s', async (_, given, message) => {
    const before = await flat(model)
    await expect(scrub(model, given as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message) as string,
    })
    expect(await flat(model)).toEqual(before)
  })

  it('what is no model, one that was disposed, rows of another shape', async () => {
    await expect(scrub({} as never, options())).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const disposed = newModel()
    disposed.dispose()
    await expect(scrub(disposed, options())).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    const wide = Dataset.fromArrays({ inputs: new Float32Array(6), labels: [0], shape: [6] })
    await expect(scrub(model, { method: 'fineTune', retainSet: wide })).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})
