// estimate(): predicted memory beside what the engine then holds, refusals before allocation, and misuse.
import { afterEach, describe, expect, it } from 'vitest'
import {
  configure,
  estimate,
  Model,
  networks,
  PalimpsestError,
  settings,
  type EstimateOptions,
  type NetworkSource,
} from '../lib/index.js'
import { native } from '../lib/native.js'

type Product = Exclude<EstimateOptions['quantity'], 'fitStep'>

const nets: Record<string, { make: () => NetworkSource; batches: number[] }> = {
  mlp: { make: () => networks.mlp({ seed: 1 }), batches: [16, 64, 200] },
  convnet: { make: () => networks.convnet({ seed: 1 }), batches: [4, 9, 32] },
  'ResNet-18, narrow': { make: () => networks.resnet18({ seed: 1, width: 16 }), batches: [2, 5, 8] },
}

const quantities: Product[] = ['evaluate', 'jvp', 'vjp', 'gradient', 'ggnProduct', 'hessianProduct', 'fisherDiagonal']

function batchOf(model: Model, rows: number) {
  const width = model.inputShape.reduce((a, b) => a * b, 1)
  const inputs = Float32Array.from({ length: rows * width }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5)
  return { inputs, labels: Int32Array.from({ length: rows }, (_, i) => i % model.classes) }
}

type Options = Omit<EstimateOptions, 'quantity' | 'rows'>

async function run(model: Model, quantity: Product, rows: number, options: Options = {}): Promise<void> {
  const batch = batchOf(model, rows)
  if (quantity === 'evaluate') return void (await model.evaluate(batch, options))
  if (quantity === 'vjp') return (await model.vjp(batch, new Float32Array(rows * model.classes), options)).dispose()
  if (quantity === 'gradient' || quantity === 'fisherDiagonal') return (await model[quantity](batch, options)).dispose()
  const v = model.vector()
  const result = await model[quantity](batch, v, options)
  v.dispose()
  if (!ArrayBuffer.isView(result)) result.dispose()
}

/** Bytes that a call adds at its peak, where its kernels have their working memory. */
async function rise(model: Model, work: () => Promise<void>): Promise<number> {
  // What was disposed is let go of a turn later, on the native thread.
  for (let i = 0; i < 2; i++) {
    await new Promise(setImmediate)
    await native().memoryUse(model.device, true)
  }
  const { held } = await native().memoryUse(model.device, true)
  await work()
  return (await native().memoryUse(model.device, false)).peak - held
}

async function predictedAndMeasured(
  source: NetworkSource,
  quantity: Product,
  rows: number,
  options: Options = {},
): Promise<[number, number, number]> {
  const warm = Model.fromNetwork(source, { device: 'cpu' })
  await run(warm, quantity, rows, options)
  warm.dispose()
  const model = Model.fromNetwork(source, { device: 'cpu' })
  const { memory, batchSize } = await estimate(model, { quantity, rows, ...options })
  const { peak, working, host } = memory
  expect(peak).toBe(memory.plan + memory.buffers + memory.vectors + working + host)
  // The tangent that `run` makes itself is given, not made by the product.
  const given = ['jvp', 'ggnProduct', 'hessianProduct'].includes(quantity) ? 4 * model.engine.network.vectorLength : 0
  const measured = await rise(model, () => run(model, quantity, rows, options))
  model.dispose()
  return [peak - working - host + given, measured, batchSize]
}

afterEach(async () => {
  await configure({ memoryLimit: 'none' })
})

describe('predicted memory', () => {
  for (const [name, { make, batches }] of Object.entries(nets)) {
    it.each(quantities)(`is within a tenth of what %s of ${name} takes`, async (quantity) => {
      const source = make()
      for (const rows of batches) {
        const [predicted, measured] = await predictedAndMeasured(source, quantity, rows)
        expect(predicted / measured, `${rows} rows, ${predicted} for ${measured}`).toBeGreaterThan(0.9)
        expect(predicted / measured, `${rows} rows, ${predicted} for ${measured}`).toBeLessThan(1.1)
      }
    })
  }

  it.each([
    ['float64', 'gradient', { precision: 'float64' }],
    ['tf32', 'gradient', { precision: 'tf32' }],
    ['a chosen batch size', 'ggnProduct', { batchSize: 4 }],
    ['some parameters', 'gradient', { parameters: ['fc2.weight', 'fc2.bias'] }],
    ['the exact Fisher diagonal', 'fisherDiagonal', { type: 'exact' }],
    ['drawn labels', 'fisherDiagonal', { type: 'mc', samples: 2 }],
  ] as [string, Product, Options][])('holds for %s', async (_, quantity, options) => {
    const [predicted, measured, batchSize] = await predictedAndMeasured(nets.convnet.make(), quantity, 10, options)
    if (options.batchSize) expect(batchSize).toBe(options.batchSize)
    expect(predicted / measured).toBeGreaterThan(0.9)
    expect(predicted / measured).toBeLessThan(1.1)
  })

  it('counts the memory that kernels work in', async () => {
    const model = Model.fromNetwork(nets.convnet.make(), { device: 'cpu' })
    const { memory } = await estimate(model, { quantity: 'fisherDiagonal', rows: 8 })
    expect(memory.working).toBeGreaterThan(0)
    expect(memory.working).toBeLessThan(64 * 2 ** 20)
    model.dispose()
  })
})

describe('an estimate', () => {
  it('says how long, how many operations and at which rates', async () => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const { seconds, flops, bytes, rates, rows, batchSize, fits } = await estimate(model, {
      quantity: 'evaluate',
      rows: 64,
    })
    expect([rows, batchSize, fits]).toEqual([64, 64, true])
    const products = 2 * 64 * (784 * 1024 + 1024 * 1024 + 1024 * 10)
    expect(flops).toBeGreaterThan(products)
    expect(flops).toBeLessThan(1.01 * products)
    const weights = 4 * (784 * 1024 + 1024 * 1024 + 1024 * 10)
    expect(bytes).toBeGreaterThan(weights)
    expect(bytes).toBeLessThan(2 * weights)
    for (const value of [seconds, rates.gemm, rates.conv, rates.squares, rates.copy, rates.call]) {
      expect(value).toBeGreaterThan(0)
      expect(Number.isFinite(value)).toBe(true)
    }
    model.dispose()
  })

  it('goes on with the rows: twice the micro-batches are twice the operations', async () => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const at = (rows: number) => estimate(model, { quantity: 'gradient', rows, batchSize: 8 })
    const [once, twice] = [await at(8), await at(16)]
    expect(twice.flops).toBe(2 * once.flops)
    expect(twice.memory.plan).toBe(once.memory.plan)
    expect(twice.seconds).toBeGreaterThan(once.seconds)
    model.dispose()
  })

  it('knows a step of fit()', async () => {
    const model = Model.fromNetwork(networks.resnet18({ seed: 1, width: 8 }), { device: 'cpu' })
    const step = await estimate(model, { quantity: 'fitStep', rows: 4 })
    expect(step.batchSize).toBe(4)
    expect(step.memory.vectors).toBe(12 * model.engine.network.vectorLength)
    const still = await estimate(model, { quantity: 'fitStep', rows: 4, batchNorm: 'evaluation' })
    expect(still.flops).toBeLessThan(step.flops)
    const all = model.parameters.map(({ name }) => name)
    expect((await estimate(model, { quantity: 'fitStep', rows: 4, parameters: all })).flops).toBe(step.flops)
    await expect(estimate(model, { quantity: 'fitStep', rows: 4, batchSize: 2 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining("the 4 rows of a step with batchNorm: 'training'") as string,
    })
    // Without normalisation steps may be cut.
    const mlp = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    expect((await estimate(mlp, { quantity: 'fitStep', rows: 8, batchSize: 4 })).batchSize).toBe(4)
    mlp.dispose()
    model.dispose()
  })

  it('leaves the model as it is, and is told of while it goes on', async () => {
    const model = Model.fromNetwork(networks.convnet({ seed: 1 }), { device: 'cpu' })
    const before = await model.evaluate(batchOf(model, 2))
    const told: unknown[] = []
    await estimate(model, { quantity: 'hessianProduct', rows: 4, onProgress: (progress) => told.push(progress) })
    expect(told).toEqual([{ phase: 'estimate', done: 1, total: 1 }])
    expect(await model.evaluate(batchOf(model, 2))).toEqual(before)
    model.dispose()
  })

  it('of a network that grows beyond the machine is an answer, and quick', async () => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const { fits, memory } = await estimate(model, { quantity: 'gradient', rows: 2 ** 31 - 1, batchSize: 2 ** 31 - 1 })
    expect(fits).toBe(false)
    expect(memory.peak).toBeGreaterThan(1e13)
    model.dispose()
  })

  it('can be aborted: before, and between the pieces of its calibration', async () => {
    const model = Model.fromNetwork(networks.convnet({ seed: 2 }), { device: 'cpu' })
    const reason = new Error('enough')
    const early = estimate(model, { quantity: 'jvp', rows: 3, signal: AbortSignal.abort(reason) })
    await expect(early).rejects.toBe(reason)
    const controller = new AbortController()
    const going = estimate(model, { quantity: 'jvp', rows: 3, precision: 'float64', signal: controller.signal })
    setImmediate(() => controller.abort(reason))
    await expect(going).rejects.toBe(reason)
    expect((await estimate(model, { quantity: 'jvp', rows: 3, precision: 'float64' })).seconds).toBeGreaterThan(0)
    model.dispose()
  })

  it.each([
    ['quantity', { quantity: 'trace', rows: 1 }, "one of 'evaluate', 'jvp'"],
    ['no rows', { quantity: 'jvp' }, "for 'rows'"],
    ['no row', { quantity: 'jvp', rows: 0 }, "for 'rows', got 0"],
    ['a batch of none', { quantity: 'jvp', rows: 1, batchSize: 0 }, "for 'batchSize', got 0"],
    ['half a row', { quantity: 'jvp', rows: 1.5 }, "for 'rows', got 1.5"],
    ['a type of another', { quantity: 'jvp', rows: 1, type: 'mc' }, "for 'type', got 'mc'"],
    ['a double fit', { quantity: 'fitStep', rows: 1, precision: 'float64' }, "for 'precision'"],
    ['an unknown key', { quantity: 'jvp', rows: 1, batch: 3 }, "the nearest is 'batchSize'"],
    ['no parameters', { quantity: 'jvp', rows: 1, parameters: ['fc9'] }, 'names of parameters'],
  ])('refuses %s', async (_, options, text) => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const error = await estimate(model, options as EstimateOptions).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(PalimpsestError)
    expect((error as PalimpsestError).code).toBe('ERR_INVALID_ARGUMENT')
    expect((error as Error).message).toContain(text)
    model.dispose()
    await expect(estimate(model, { quantity: 'jvp', rows: 1 })).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect(estimate({} as Model, { quantity: 'jvp', rows: 1 })).rejects.toThrow("a Model for 'model'")
  })
})

describe('what cannot fit', () => {
  it('is refused before anything is allocated, says what is needed, free and possible, and changes nothing', async () => {
    const model = Model.fromNetwork(networks.convnet({ seed: 1 }), { device: 'cpu' })
    const batch = batchOf(model, 64)
    const before = await model.evaluate(batch, { batchSize: 8 })
    const limit = (await native().memoryUse('cpu', true)).held + 8 * 2 ** 20
    const info = await configure({ memoryLimit: limit })
    expect(info.memoryLimit).toBe(limit)
    const { fits, memory } = await estimate(model, { quantity: 'gradient', rows: 64 })
    expect(fits).toBe(false)
    expect(memory.free).toBeLessThanOrEqual(8 * 2 ** 20)
    const { held } = await native().memoryUse('cpu', true)
    const error = await model.gradient(batch).catch((e: unknown) => e as PalimpsestError)
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
    const message = (error as PalimpsestError).message
    expect(message).toMatch(/expected \d+ bytes \(\d+ MiB\) for 64 rows at once/)
    expect(message).toMatch(/got \d+ bytes \(\d+ MiB\) free of a limit of \d+ MiB; a batch of about \d+ rows would fit/)
    const use = await native().memoryUse('cpu', false)
    // Vectors of the call were made, the plan's memory was not.
    expect(use.peak - held).toBeLessThan(8 * 2 ** 20)
    expect(await model.evaluate(batch, { batchSize: 8 })).toEqual(before)
    await configure({ memoryLimit: 'none' })
    expect(settings().memoryLimit).toBe(null)
    ;(await model.gradient(batch)).dispose()
    model.dispose()
  })

  it('is a batch size of zero, or one that is no number, for every product', async () => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const batch = batchOf(model, 4)
    for (const batchSize of [0, -1, 2.5, NaN, '8', 2 ** 31]) {
      const options = { batchSize: batchSize as number }
      const calls = [
        model.evaluate(batch, options),
        model.gradient(batch, options),
        model.fisherDiagonal(batch, options),
      ]
      for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    model.dispose()
  })

  it('gives other batch sizes the same result but for rounding', async () => {
    const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
    const batch = batchOf(model, 10)
    const [whole, cut] = [await model.gradient(batch), await model.gradient(batch, { batchSize: 3 })]
    const norm = await whole.norm()
    await cut.axpy(-1, whole)
    expect((await cut.norm()) / norm).toBeLessThan(1e-5)
    expect(norm).toBeGreaterThan(0)
    model.dispose()
  })
})
