// What a solve holds: as many linearised batches as memory allows, the same bits whatever it is, and all of it given back.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Dataset, fit, forget, Model, networks, TangentModel } from '../lib/index.js'
import { memory } from '../lib/native.js'
import { normals } from './random.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const width = 24
const rows = 1100
const batches = 5

let core: Model
let data: Dataset
let total: number
beforeAll(async () => {
  core = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [160], classes: 3, seed: 1 }))
  const inputs = Float32Array.from(normals(rows * width, 1))
  const labels = Int32Array.from({ length: rows }, (_, i) => (inputs[i * width] > 0 ? 1 : i % 3))
  data = Dataset.fromArrays({ inputs, labels, shape: [width], classes: 3 })
  using model = TangentModel.at(core)
  const { memory } = await fit(model, data)
  if (memory === null) throw new Error('expected a report')
  total = memory.float32.bytes + memory.float64.bytes
})
afterAll(() => {
  data.dispose()
  core.dispose()
})

/** Weights, and the report without what differs from run to run. */
async function solved(memory?: number) {
  using model = TangentModel.at(core)
  const how = memory === undefined ? {} : { memory }
  const fitted = await fit(model, data, how)
  const forgotten = await forget(model, { where: { indices: [3, 4, 500] }, noise: 0.1, noiseSeed: 1, ...how })
  using weights = await model.weights()
  return { fitted, forgotten, weights: weights.names.map((name) => weights.getFloat64(name)) }
}

describe('memory of a solve', () => {
  it('by default holds every batch where there is room, and says so', async () => {
    const { fitted, forgotten } = await solved()
    for (const { memory } of [fitted, forgotten]) {
      expect(memory?.float32).toMatchObject({ held: batches, recomputed: 0 })
      expect(memory?.float64).toMatchObject({ held: batches, recomputed: 0 })
      expect(memory?.budget).toBeGreaterThan(total)
    }
    expect(fitted.options).not.toHaveProperty('memory')
  })

  it('gives the same bits with less, and says what it held', async () => {
    const all = await solved(total)
    const seen = new Set<number>()
    // From room for everything down to one batch of either type.
    for (let memory = total; ; memory -= 190_000) {
      let some
      try {
        some = await solved(memory)
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
        break
      }
      expect(some.weights).toEqual(all.weights)
      expect(some.fitted.passes).toEqual(all.fitted.passes)
      expect(some.fitted.options.memory).toBe(memory)
      for (const used of [some.fitted.memory, some.forgotten.memory]) {
        if (used === null) throw new Error('expected a report')
        expect(used.budget).toBe(memory)
        expect(used.float32.bytes + used.float64.bytes).toBeLessThanOrEqual(memory)
        for (const { held, recomputed, heldBytes, bytes } of [used.float32, used.float64]) {
          expect(held + recomputed).toBe(batches)
          expect(heldBytes).toBeLessThan(bytes)
        }
        seen.add(used.float32.held)
      }
    }
    expect([...seen].sort()).toEqual(expect.arrayContaining([0, 1, 2, 3, batches]))
  })

  it('is refused where it is too small for one batch, the model as before', async () => {
    using model = TangentModel.at(core)
    await expect(fit(model, data, { memory: 1000 })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(
        /expected at least \d+ bytes for 'memory' \(one batch of 256 rows\), got 1000/,
      ) as string,
    })
    expect(model.data).toBeUndefined()
    for (const memory of [0, -1, 1.5, '1' as never]) {
      await expect(fit(model, data, { memory })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    await fit(model, data)
    const before = await model.weights()
    const tooSmall = forget(model, { where: { indices: [1] }, noise: 0.1, memory: 1000 })
    await expect(tooSmall).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
    const after = await model.weights()
    for (const name of before.names) expect(after.getFloat64(name)).toEqual(before.getFloat64(name))
    before.dispose()
    after.dispose()
  })

  it('is given back at once: at the end, after an abort and after an error', async () => {
    // Pieces of more than 32 MiB, which C libraries give back to the system as soon as they are freed.
    using wide = Model.fromNetwork(networks.mlp({ inputShape: [4], hidden: [40_000], classes: 2, seed: 1 }))
    const labels = Int32Array.from({ length: 512 }, (_, i) => i % 2)
    const some = Dataset.fromArrays({ inputs: Float32Array.from(normals(2048, 2)), labels, shape: [4], classes: 2 })
    using model = TangentModel.at(wide, { damping: 10 })
    await fit(model, some, { maxIterations: 20, tolerance: 0.5 })
    collect()
    // A call that comes after is done when what was freed before it is.
    await wide.measure(some)
    const before = memory().rss
    for (const [how, ending] of [
      ['at the end', { tolerance: 0.5 }],
      ['abort', {}],
      ['not converged', { maxIterations: 1, tolerance: 1e-9 }],
    ] as const) {
      let most = 0
      const controller = new AbortController()
      const onProgress = ({ phase, done, total }: { phase: string; done: number; total: number }) => {
        most = Math.max(most, memory().rss - before)
        if (how === 'abort' && phase === 'verify' && done === total) controller.abort(new Error('enough'))
      }
      const ended = await fit(model, some, { ...ending, signal: controller.signal, onProgress }).then(
        () => 'at the end',
        (error: { message: string; code?: string }) => (error.code ? 'not converged' : error.message),
      )
      expect(ended).toBe(how === 'abort' ? 'enough' : how)
      expect(most).toBeGreaterThan(200e6)
      collect()
      await wide.measure(some)
      expect(memory().rss - before).toBeLessThan(60e6)
    }
    some.dispose()
  })
})
