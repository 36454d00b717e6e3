// Model: loading, weights, options, data that do not fit, arrays that change meanwhile, and what products cost in memory.
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  channelStatistics,
  Dataset,
  devices,
  gradientCollision,
  Model,
  networks,
  PalimpsestError,
  ParameterVector,
  type ArrayBatch,
} from '../lib/index.js'
import { writeSafetensors } from '../lib/safetensors.js'
import { normals } from './random.js'

const width = 6
const classes = 3
const build = (seed = 3) => networks.mlp({ inputShape: [width], hidden: [5], classes, seed })
const batchOf = (rows: number, seed = 1): Required<ArrayBatch> => ({
  inputs: normals(rows * width, seed),
  labels: Int32Array.from({ length: rows }, (_, i) => i % classes),
})

let model: Model
let v: ParameterVector
const batch = batchOf(7)
beforeAll(() => {
  model = Model.fromNetwork(build())
  v = model.vector({ 'fc1.weight': normals(5 * width, 2) })
})
afterAll(() => model.dispose())

/** Every product, as a call on a model. */
const products: Record<string, (on: Model, data: ArrayBatch | Dataset, options?: object) => Promise<unknown>> = {
  evaluate: (on, data, options) => on.evaluate(data, options),
  jvp: (on, data, options) => on.jvp(data, v, options),
  vjp: (on, data, options) => on.vjp(data, new Float32Array(7 * classes).fill(1), options),
  gradient: (on, data, options) => on.gradient(data, options),
  ggnProduct: (on, data, options) => on.ggnProduct(data, v, options),
  hessianProduct: (on, data, options) => on.hessianProduct(data, v, options),
  fisherDiagonal: (on, data, options) => on.fisherDiagonal(data, options),
  measure: (on, data, options) => on.measure(data, options),
}
const needLabels = ['gradient', 'hessianProduct', 'fisherDiagonal', 'measure']

/** Plain numbers of a result, to compare bits. */
async function plain(result: unknown): Promise<unknown> {
  const value = await result
  return value instanceof ParameterVector ? value.names.map((name) => value.getFloat64(name)) : value
}

async function refusal(call: () => Promise<unknown>): Promise<PalimpsestError> {
  const error: unknown = await call().then(
    () => 'nothing',
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(PalimpsestError)
  expect((error as Error).message).toMatch(/^expected .+, got .+/)
  return error as PalimpsestError
}

describe.each(Object.keys(products))('%s', (name) => {
  const call = products[name]

  it('refuses data and options that do not fit, and works on', async () => {
    const wanted = await plain(call(model, batch))
    const { inputs, labels } = batch
    const spoiled = (value: number) => Float32Array.from(inputs, (x, i) => (i === 9 ? value : x))
    const cases: [string, () => Promise<unknown>][] = [
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs: spoiled(NaN), labels })],
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs: spoiled(Infinity), labels })],
      ['ERR_SHAPE', () => call(model, { inputs: inputs.subarray(1), labels })],
      ['ERR_SHAPE', () => call(model, { inputs: new Float32Array(0), labels: new Int32Array(0) })],
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs: [...inputs] as never, labels })],
      ['ERR_INVALID_ARGUMENT', () => call(model, null as never)],
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs, labels: labels.subarray(1) })],
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs, labels: labels.map(() => classes) })],
      ['ERR_INVALID_ARGUMENT', () => call(model, { inputs, labels: labels.map(() => -1) })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, { precision: 'float16' })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, { parameters: ['fc9.weight'] })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, { parameters: [] })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, { signal: {} })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, { onProgress: 1 })],
      ['ERR_INVALID_ARGUMENT', () => call(model, batch, [] as never)],
    ]
    if (needLabels.includes(name)) cases.push(['ERR_INVALID_ARGUMENT', () => call(model, { inputs })])
    for (const [code, run] of cases) expect((await refusal(run)).code).toBe(code)
    expect((await refusal(() => call(model, batch, { precison: 'float64' }))).message).toMatch(
      /'precison'; the nearest is 'precision'$/,
    )
    expect(await plain(call(model, batch))).toEqual(wanted)
  })

  it('takes no notice of arrays that are written or given away meanwhile', async () => {
    // More than two micro-batches: the last ones are read long after the call returned.
    const rows = 700
    const long = batchOf(rows, 4)
    const cotangent = new Float32Array(rows * classes).fill(1)
    const run = (data: ArrayBatch, u: Float32Array) => (name === 'vjp' ? model.vjp(data, u) : call(model, data))
    const wanted = await plain(run(long, cotangent))
    const written = { inputs: long.inputs.slice(), labels: long.labels.slice() }
    const u = cotangent.slice()
    const running = run(written, u)
    written.inputs.fill(NaN)
    written.labels.fill(-5)
    u.fill(7)
    expect(await plain(running)).toEqual(wanted)

    const given = { inputs: long.inputs.slice(), labels: long.labels.slice() }
    const other = run(given, cotangent)
    structuredClone(given, { transfer: [given.inputs.buffer, given.labels.buffer] })
    expect(given.inputs).toHaveLength(0)
    expect(await plain(other)).toEqual(wanted)
    expect((await refusal(() => run(given, cotangent))).code).toBe('ERR_SHAPE')

    const shared = new Float32Array(new SharedArrayBuffer(long.inputs.byteLength))
    shared.set(long.inputs)
    const third = run({ inputs: shared, labels: long.labels }, cotangent)
    shared.fill(1e30)
    expect(await plain(third)).toEqual(wanted)
  })

  it('can be aborted before and meanwhile, and rejects with the reason', async () => {
    const reason = new Error('enough')
    await expect(call(model, batch, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    if (name === 'vjp') return
    const long = batchOf(4000)
    const controller = new AbortController()
    const onProgress = () => controller.abort(reason)
    await expect(call(model, long, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    const broken = new Error('progress is broken')
    const throwing = () => {
      throw broken
    }
    await expect(call(model, long, { onProgress: throwing })).rejects.toBe(broken)
    const seen: number[] = []
    await call(model, long, { onProgress: ({ done }: { done: number }) => void seen.push(done) })
    expect(seen.at(-1)).toBe(4000)
  })

  it('is of one moment: refused where weights are set between its parts, or the model disposed of', async () => {
    if (name === 'vjp') return
    const other = Model.fromNetwork(build())
    const weights = await Model.fromNetwork(build(4)).weights()
    const moved = other.vector(Object.fromEntries(weights.names.map((each) => [each, weights.get(each)])))
    let told = 0
    const onProgress = () => void (told++ === 0 && void other.setWeights(moved))
    const mixed = await refusal(() => call(other, batchOf(4000), { onProgress, batchSize: 64 }))
    expect([mixed.code, mixed.message]).toEqual(['ERR_INVALID_ARGUMENT', expect.stringMatching(/set meanwhile/)])
    // In one part it is of one moment whatever comes after.
    const whole = call(other, batch)
    await other.setWeights(moved)
    await whole
    const disposing = { onProgress: () => other.dispose(), batchSize: 64 }
    expect((await refusal(() => call(other, batchOf(4000), disposing))).code).toBe('ERR_DISPOSED')
  })

  it('is computed for more sizes at once than programs are kept', async () => {
    if (name === 'vjp') return
    const other = Model.fromNetwork(build())
    const sizes = Array.from({ length: 30 }, (_, i) => i + 1)
    const long = call(other, batchOf(4000), { batchSize: 50 })
    const wanted = await Promise.all(sizes.map(async (rows) => plain(call(other, batchOf(rows)))))
    await long
    for (const rows of [1, 17, 30]) expect(await plain(call(other, batchOf(rows)))).toEqual(wanted[rows - 1])
    other.dispose()
  })

  it('is refused once the model or its data were disposed', async () => {
    const other = Model.fromNetwork(build())
    const data = Dataset.fromArrays({ ...batch, shape: [width], classes })
    await call(other, data)
    data.dispose()
    expect((await refusal(() => call(other, data))).code).toBe('ERR_DISPOSED')
    const long = Dataset.fromArrays({ ...batchOf(name === 'vjp' ? 7 : 4000), shape: [width], classes })
    const reading = call(other, long)
    long.dispose()
    await reading.catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_DISPOSED' }))
    const running = call(other, batchOf(name === 'vjp' ? 7 : 4000))
    other.dispose()
    other.dispose()
    // What was under way either ends or says why not.
    await running.catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_DISPOSED' }))
    expect((await refusal(() => call(other, batch))).code).toBe('ERR_DISPOSED')
  })

  it('refuses rows of another shape and classes that the model does not have', async () => {
    const five = Dataset.fromArrays({ inputs: new Float32Array(5), labels: [0], shape: [5], classes })
    expect((await refusal(() => call(model, five))).code).toBe('ERR_SHAPE')
    const { inputs } = batch
    const { labels } = batch
    const many = Dataset.fromArrays({ inputs, labels, shape: [width], classes: 9 })
    if (needLabels.includes(name)) expect((await refusal(() => call(model, many))).code).toBe('ERR_SHAPE')
    const none = Dataset.fromArrays({ inputs, labels, shape: [width], classes }).subset([])
    expect((await refusal(() => call(model, none))).code).toBe('ERR_INVALID_ARGUMENT')
  })
})

describe('vectors', () => {
  it('that are not finite, foreign or disposed are refused as tangents, cotangents and weights', async () => {
    expect(() => model.vector({ 'fc1.bias': new Float32Array(5).fill(NaN) })).toThrow(/finite values/)
    const bad = model.vector({ 'fc1.bias': new Float32Array(5).fill(1e30) })
    await bad.scale(1e30)
    const huge = model.vector({ 'fc1.bias': new Float64Array(5).fill(1e100) }, { dtype: 'float64' })
    const foreign = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [4], classes })).vector()
    const gone = model.vector()
    gone.dispose()
    for (const [vector, code] of [
      [bad, 'ERR_INVALID_ARGUMENT'],
      [huge, 'ERR_INVALID_ARGUMENT'],
      [foreign, 'ERR_INVALID_ARGUMENT'],
      [gone, 'ERR_DISPOSED'],
      [{} as ParameterVector, 'ERR_INVALID_ARGUMENT'],
    ] as const) {
      const before = await plain(model.weights())
      expect((await refusal(() => model.jvp(batch, vector))).code).toBe(code)
      expect((await refusal(() => model.ggnProduct(batch, vector))).code).toBe(code)
      expect((await refusal(() => model.setWeights(vector))).code).toBe(code)
      expect(await plain(model.weights())).toEqual(before)
    }
    expect((await refusal(() => model.vjp(batch, new Float32Array(21).fill(Infinity)))).code).toBe(
      'ERR_INVALID_ARGUMENT',
    )
    expect((await refusal(() => model.vjp(batch, new Float32Array(20)))).code).toBe('ERR_SHAPE')
    expect((await refusal(() => model.vjp(batch, [1, 2] as never))).code).toBe('ERR_INVALID_ARGUMENT')
    expect(() => model.vector({ nothing: new Float32Array(1) })).toThrow(/nothing/)
    for (const operand of [undefined, null, {}, new Float32Array(3)] as never[]) {
      for (const call of [() => v.dot(operand), () => v.axpy(1, operand), () => v.copyFrom(operand)]) {
        expect((await refusal(call)).code).toBe('ERR_INVALID_ARGUMENT')
      }
    }
    expect(() => model.vector({}, { dtyp: 'float64' } as never)).toThrow(/the nearest is 'dtype'/)
  })

  it('are read as they are when the call is made', async () => {
    const rows = batchOf(700)
    const u = await v.clone()
    const wanted = await model.jvp(rows, v)
    const running = model.jvp(rows, u)
    void u.scale(100)
    expect(await running).toEqual(wanted)
    const again = model.jvp(rows, await v.clone())
    u.dispose()
    expect(await again).toEqual(wanted)
  })

  it('results that overflow are refused, not returned', async () => {
    const large = Model.fromNetwork(build())
    const w = await large.weights()
    await w.scale(1e15)
    await large.setWeights(w)
    const { code } = await refusal(() => large.evaluate({ inputs: batch.inputs.map((x) => x * 1e15) }))
    expect(code).toBe('ERR_INVALID_ARGUMENT')
  })
})

describe('weights', () => {
  it('are replaced at once; float64 work sees them', async () => {
    const other = Model.fromNetwork(build())
    await other.evaluate(batch, { precision: 'float64' })
    const w = await other.weights()
    await w.scale(0.5)
    const replaced = other.setWeights(w)
    const both = [other.evaluate(batch), other.evaluate(batch, { precision: 'float64' })]
    await replaced
    const fresh = await other.evaluate(batch, { precision: 'float64' })
    const narrow = await other.evaluate(batch)
    expect(narrow).not.toEqual(await model.evaluate(batch))
    narrow.forEach((value, i) => expect(Math.abs(value - fresh[i])).toBeLessThan(1e-5))
    await Promise.all(both)
  })

  it('are saved whole or not at all, and read back only where they fit', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
    try {
      const file = path.join(folder, 'w.safetensors')
      await model.save(file)
      const other = Model.fromNetwork(build(8))
      expect(await other.evaluate(batch)).not.toEqual(await model.evaluate(batch))
      await other.loadWeights(file)
      expect(await other.evaluate(batch)).toEqual(await model.evaluate(batch))
      for (const change of [
        (bytes: Uint8Array<ArrayBuffer>) => void bytes.fill(7),
        (bytes: Uint8Array<ArrayBuffer>) => void structuredClone(bytes, { transfer: [bytes.buffer] }),
      ]) {
        const bytes = Uint8Array.from(readFileSync(file))
        const third = Model.fromNetwork(build(9))
        const reading = third.loadWeights(bytes)
        change(bytes)
        await reading
        expect(await third.evaluate(batch)).toEqual(await model.evaluate(batch))
      }
      expect((await refusalOf(model.save(path.join(folder, 'none', 'w')))).code).toBe('ERR_IO')
      expect(readdirSync(folder)).toEqual(['w.safetensors'])
      const wide = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [6], classes }))
      const before = await plain(wide.weights())
      expect((await refusalOf(wide.loadWeights(file))).code).toBe('ERR_MODEL_FORMAT')
      expect((await refusalOf(wide.loadWeights(path.join(folder, 'missing')))).code).toBe('ERR_IO')
      expect((await refusalOf(wide.loadWeights(new Uint8Array(3)))).code).toBe('ERR_MODEL_FORMAT')
      for (const wrong of [undefined, null, 5, [], new Float32Array(3)] as never[]) {
        expect((await refusalOf(wide.loadWeights(wrong))).code).toBe('ERR_INVALID_ARGUMENT')
        if (wrong !== undefined) expect((await refusalOf(wide.exportOnnx(wrong))).code).toBe('ERR_INVALID_ARGUMENT')
        expect((await refusalOf(wide.save(wrong))).code).toBe('ERR_INVALID_ARGUMENT')
      }
      // Nobody writes to it: reading would wait for ever.
      execFileSync('mkfifo', [path.join(folder, 'pipe')])
      expect((await refusalOf(wide.loadWeights(path.join(folder, 'pipe')))).code).toBe('ERR_IO')
      expect(await plain(wide.weights())).toEqual(before)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('running variances', () => {
  const source = networks.resnet20({ width: 2, seed: 1 })
  const names = ['bn1.running_mean', 'bn1.running_var', 'layer1.0.bn1.running_var']
  const saved = async (change: Record<string, number>): Promise<Uint8Array> => {
    const made = Model.fromNetwork(source, { device: 'cpu' })
    const tensors = new Map([...(await made.statistics()), ...(await made.tensors())])
    for (const [name, value] of Object.entries(change)) (tensors.get(name)?.data as Float32Array)[1] = value
    made.dispose()
    return writeSafetensors(tensors)
  }

  it('below 0 are refused, and nothing is read', async () => {
    const reader = Model.fromNetwork(source, { device: 'cpu' })
    const inputs = new Float32Array(3 * 32 * 32).fill(0.5)
    const before = await reader.evaluate({ inputs })
    for (const name of names.slice(1)) {
      const error = await refusalOf(reader.loadWeights(await saved({ [name]: -0.25 })))
      expect([error.code, error.message]).toEqual([
        'ERR_MODEL_FORMAT',
        `expected a running variance of at least 0, got -0.25 at position 1 of '${name}'`,
      ])
    }
    expect(await reader.evaluate({ inputs })).toEqual(before)
    // A mean may be anything, and a variance 0.
    await reader.loadWeights(await saved({ [names[0]]: -0.25, [names[1]]: 0 }))
    expect(await reader.evaluate({ inputs })).not.toEqual(before)
    reader.dispose()
  })

  it('below 0 are refused in a network too', () => {
    const leaves = source.network.leaves.map((leaf) =>
      leaf.kind === 'constant' && leaf.name === names[1] ? { ...leaf, data: Float32Array.of(1, -1) } : leaf,
    )
    const made = { ...source, network: { ...source.network, leaves } }
    expect(() => Model.fromNetwork(made)).toThrow(/at least 0, got -1 at position 1 of 'bn1.running_var'/)
  })
})

const refusalOf = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable(),
    (error: unknown) => error as PalimpsestError,
  )

describe('devices and loading', () => {
  it('refuses options of loading that are none, and of losses that mean nothing together', async () => {
    const bytes = await model.exportOnnx()
    for (const wrong of [{ parameters: 5 }, { parameters: 'fc1.weight' }, { inputShape: '6' }, { inputShape: [0.5] }]) {
      expect((await refusalOf(Model.load(bytes, wrong as never))).code).toBe('ERR_INVALID_ARGUMENT')
    }
    const { labels } = batch
    const message = async (call: Promise<unknown>) => (await refusalOf(call)).message
    expect(await message(model.evaluate({ inputs: new Float64Array(6) as never }))).toMatch(
      /'data.inputs', got Float64/,
    )
    expect(await message(model.gradient({ inputs: [1] as never, labels }))).toMatch(/'data.inputs', got an array of 1/)
    expect(await message(model.gradient(batch, { loss: 'squaredError', labelSmoothing: 0.1 }))).toMatch(
      /labelSmoothing/,
    )
    expect(await message(model.gradient(batch, { targetScale: 2 }))).toMatch(/targetScale/)
    expect(await message(model.fisherDiagonal(batch, { samples: 2 }))).toMatch(/'samples'/)
    expect(await message(model.fisherDiagonal(batch, { type: 'exact', seed: 2 }))).toMatch(/'seed'/)
  })

  it('says what there is, and refuses what there is not with the reason', async () => {
    expect(devices().map(({ name }) => name)).toContain('cpu')
    expect(devices().map(({ name }) => name)).toContain(model.device)
    for (const make of [
      () => Model.fromNetwork(build(), { device: 'cuda:99' }),
      () => Model.fromNetwork(build(), { device: 'tpu' as never }),
    ]) {
      expect(make).toThrow(/^expected a device that can be used for 'device', got '/)
    }
    expect(() => Model.fromNetwork(build(), { devise: 'cpu' } as never)).toThrow(/the nearest is 'device'/)
    expect(() => Model.fromNetwork({} as never)).toThrow(/expected a built network/)
    expect((await refusalOf(Model.load('/nowhere.onnx'))).code).toBe('ERR_IO')
    expect((await refusalOf(Model.load(new Uint8Array(9)))).code).toBe('ERR_MODEL_FORMAT')
    expect((await refusalOf(Model.load(new Uint8Array(9), { parameter: [] } as never))).message).toMatch(
      /the nearest is 'parameters'/,
    )
  })

  it('refuses weights that are not finite or missing', () => {
    const spoiled = build()
    spoiled.parameters.get('fc2.weight')!.data[3] = NaN
    expect(() => Model.fromNetwork(spoiled)).toThrow(/expected finite weights, got NaN at position 3 of 'fc2.weight'/)
    const lacking = build()
    lacking.parameters.delete('fc1.bias')
    expect(() => Model.fromNetwork(lacking)).toThrow(/fc1\.bias/)
  })

  it('clones are independent', async () => {
    const copy = await model.clone()
    expect(await copy.evaluate(batch)).toEqual(await model.evaluate(batch))
    const w = await copy.weights()
    await w.scale(2)
    await copy.setWeights(w)
    expect(await copy.evaluate(batch)).not.toEqual(await model.evaluate(batch))
  })
})

describe('memory', () => {
  it('of the copies of arrays is given back with each call', async () => {
    const wide = Model.fromNetwork(networks.convnet({ inputShape: [3, 16, 16], width: 2, classes, seed: 1 }))
    const rows = 2000
    const data = {
      inputs: normals(rows * 3 * 256, 1),
      labels: Int32Array.from({ length: rows }, (_, i) => i % classes),
    }
    const w = await wide.weights()
    const external = () => process.memoryUsage().external
    const calls: Record<string, () => Promise<unknown>> = {
      evaluate: () => wide.evaluate(data),
      measure: () => wide.measure(data),
      gradient: async () => (await wide.gradient(data)).dispose(),
      jvp: () => wide.jvp(data, w),
      linearize: async () => (await wide.linearize(data)).dispose(),
      channelStatistics: () => channelStatistics(wide, data),
      gradientCollision: async () => (await gradientCollision(wide, [data, data])).gradient.dispose(),
    }
    // Nothing is left to a garbage collection, which might not have come yet.
    const few = async (call: () => Promise<unknown>) => {
      await call()
      const before = external()
      for (let i = 0; i < 4; i++) await call()
      expect(external() - before).toBeLessThan(data.inputs.byteLength)
    }
    for (const call of Object.values(calls)) await few(call)
    data.inputs[data.inputs.length - 1] = NaN
    for (const call of Object.values(calls))
      await few(() => expect(call()).rejects.toThrow(/finite inputs.* in row 1999/))
    for (const each of [w, wide]) each.dispose()
  })

  it('of products grows by no more than 5 MB from 1,000 rows to 100,000', async () => {
    const script = fileURLToPath(new URL('memory/growth.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--import', 'tsx', script])
    const growth = Number(stdout)
    console.log(`growth from 1,000 to 100,000 rows: ${(growth / 1e6).toFixed(2)} MB`)
    expect(growth).toBeLessThan(5e6)
  })
})
