// model.linearize(): every fixture beside the model's own products, many tangents and batches, its own point, misuse.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Dataset, Model, networks, type FloatArray, type Linearization, type ParameterVector } from '../lib/index.js'
import { readTypedSafetensors } from '../lib/safetensors.js'
import { normals } from './random.js'

const nets = ['mlp', 'lenet', 'lqf', 'vgg', 'resnet', 'mobilenet', 'vit', 'tied'] as const
const path = (name: string, ending: string) => fileURLToPath(new URL(`fixtures/${name}.${ending}`, import.meta.url))

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
const flat = (v: ParameterVector): FloatArray => Float64Array.from(v.names.flatMap((name) => [...v.getFloat64(name)]))

/** |got - wanted| / |wanted|. */
function off(got: FloatArray, wanted: FloatArray): number {
  expect(got.length).toBe(wanted.length)
  let far = 0
  let size = 0
  for (let i = 0; i < got.length; i++) {
    far += (got[i] - wanted[i]) ** 2
    size += wanted[i] ** 2
  }
  expect(size).toBeGreaterThan(0)
  return Math.sqrt(far / size)
}

function tangents(model: Model, count: number): ParameterVector[] {
  return Array.from({ length: count }, (_, i) =>
    model.vector(
      Object.fromEntries(
        model.parameters.map(({ name, shape }, j) => [name, Float32Array.from(normals(sizeOf(shape), 100 * i + j))]),
      ),
    ),
  )
}

describe.each(nets)('%s', (name) => {
  let model: Model
  let batch: { inputs: Float32Array; labels: Int32Array }
  let vs: ParameterVector[]
  let us: Float32Array[]
  beforeAll(async () => {
    const { tensors } = readTypedSafetensors(readFileSync(path(name, 'safetensors')))
    batch = {
      inputs: tensors.get('x')?.data as Float32Array,
      labels: Int32Array.from(tensors.get('y')?.data as BigInt64Array, Number),
    }
    model = await Model.load(path(name, 'onnx'), { device: 'cpu' })
    vs = tangents(model, 3)
    us = vs.map((_, i) => Float32Array.from(normals(batch.labels.length * model.classes, 7 + i)))
  })
  afterAll(() => {
    for (const v of vs) v.dispose()
    model.dispose()
  })

  it.each(['float32', 'tf32', 'float64'] as const)("gives the model's own products in %s", async (precision) => {
    const at = await model.linearize(batch, { precision })
    const bar = precision === 'float64' ? 1e-14 : 1e-6
    expect([at.rows, at.classes, at.precision]).toEqual([batch.labels.length, model.classes, precision])
    const rows = await at.jvp(vs)
    const pulled = await at.vjp(us)
    const entropy = await at.ggnProduct(vs, { loss: 'crossEntropy' })
    const squared = await at.ggnProduct(vs, { loss: 'squaredError' })
    for (const [i, v] of vs.entries()) {
      expect(off(rows[i], await model.jvp(batch, v, { precision }))).toBeLessThanOrEqual(bar)
      expect(off(flat(pulled[i]), flat(await model.vjp(batch, us[i], { precision })))).toBeLessThanOrEqual(bar)
      for (const [loss, got] of [
        ['crossEntropy', entropy[i]],
        ['squaredError', squared[i]],
      ] as const) {
        const wanted = await model.ggnProduct(batch, v, { loss, precision })
        expect(off(flat(got), flat(wanted))).toBeLessThanOrEqual(bar)
      }
    }
    // One alone is bit for bit one among others, whatever was asked for in between.
    expect(await at.jvp(vs[1])).toEqual(rows[1])
    expect(flat(await at.vjp(us[2]))).toEqual(flat(pulled[2]))
    expect(flat(await at.ggnProduct(vs[0]))).toEqual(flat(entropy[0]))
    at.dispose()
  })
})

describe('a linearization', () => {
  const width = 6
  let model: Model
  let vs: ParameterVector[]
  const rowsOf = (rows: number) => ({
    inputs: Float32Array.from(normals(rows * width, 1)),
    labels: Int32Array.from({ length: rows }, (_, i) => i % 3),
  })
  beforeAll(() => {
    model = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [9, 7], classes: 3, seed: 1 }))
    vs = tangents(model, 2)
  })
  afterAll(() => {
    for (const v of vs) v.dispose()
    model.dispose()
  })

  it('goes over several micro-batches with a tail, and over a Dataset', async () => {
    const rows = 700
    const batch = rowsOf(rows)
    const data = Dataset.fromArrays({ ...batch, shape: [width], classes: 3 })
    const u = Float32Array.from(normals(rows * 3, 5))
    for (const given of [batch, data]) {
      const at = await model.linearize(given)
      expect(at.rows).toBe(rows)
      expect(off(await at.jvp(vs[0]), await model.jvp(batch, vs[0]))).toBeLessThanOrEqual(1e-6)
      expect(off(flat(await at.vjp(u)), flat(await model.vjp(batch, u)))).toBeLessThanOrEqual(1e-6)
      const wanted = await model.ggnProduct(batch, vs[0])
      expect(off(flat(await at.ggnProduct(vs[0])), flat(wanted))).toBeLessThanOrEqual(1e-6)
      at.dispose()
    }
    data.dispose()
  })

  it('differentiates the parameters that were named, others stay zero', async () => {
    const batch = rowsOf(20)
    const parameters = [model.parameters[2].name]
    const at = await model.linearize(batch, { parameters })
    expect(await at.jvp(vs[0])).toEqual(await model.jvp(batch, vs[0], { parameters }))
    const got = await at.ggnProduct(vs[0])
    expect(got.get(model.parameters[0].name).every((value) => value === 0)).toBe(true)
    expect(flat(got)).toEqual(flat(await model.ggnProduct(batch, vs[0], { parameters })))
    at.dispose()
  })

  it('stays at its point while the model moves on, and works on without it', async () => {
    const batch = rowsOf(30)
    const moving = await model.clone()
    const at = await moving.linearize(batch)
    const before = [await at.jvp(vs[0]), flat(await at.ggnProduct(vs[0]))]
    const other = await moving.weights()
    await other.scale(-1.5)
    await moving.setWeights(other)
    expect(await moving.jvp(batch, vs[0])).not.toEqual(before[0])
    expect([await at.jvp(vs[0]), flat(await at.ggnProduct(vs[0]))]).toEqual(before)
    moving.dispose()
    expect([await at.jvp(vs[0]), flat(await at.ggnProduct(vs[0]))]).toEqual(before)
    at.dispose()
  })

  it('copies arrays and tangents before a call returns', async () => {
    const batch = rowsOf(40)
    const inputs = batch.inputs.slice()
    const linearizing = model.linearize({ inputs })
    inputs.fill(NaN)
    const at = await linearizing
    const u = Float32Array.from(normals(40 * 3, 3))
    const given = u.slice()
    const v = await vs[0].clone()
    const results = [at.vjp(given), at.jvp(v)] as const
    given.fill(7)
    v.dispose()
    expect(flat(await results[0])).toEqual(flat(await model.vjp(batch, u)))
    expect(await results[1]).toEqual(await model.jvp(batch, vs[0]))
    at.dispose()
  })

  it('holds what products read of a batch: the outputs of the ReLUs, not their inputs as well', async () => {
    const source = networks.mlp({ inputShape: [width], hidden: [400, 400], classes: 3, seed: 1 })
    const wide = Model.fromNetwork(source, { device: 'cpu' }) // a GPU takes more rows at once
    const [one, two] = [await wide.linearize(rowsOf(256)), await wide.linearize(rowsOf(512))]
    const activations = 4 * 256 * (400 + 400)
    expect(two.bytes - one.bytes).toBeGreaterThan(activations)
    expect(two.bytes - one.bytes).toBeLessThan(1.05 * activations)
    const weights = wide.parameters.reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0)
    expect(one.bytes).toBeGreaterThan(activations + weights)
    one.dispose()
    two.dispose()
    expect([one.bytes, two.bytes]).toEqual([0, 0])
    wide.dispose()
  })

  it('is disposed by using and by await using', async () => {
    const batch = rowsOf(4)
    let outer: Linearization
    {
      using at = await model.linearize(batch)
      outer = at
    }
    expect(outer.disposed).toBe(true)
    {
      await using at = await model.linearize(batch)
      outer = at
    }
    expect(outer.disposed).toBe(true)
    outer.dispose()
  })

  it('reports progress, and ends with the reason of a signal', async () => {
    const batch = rowsOf(600)
    const seen: string[] = []
    const at = await model.linearize(batch, { onProgress: ({ phase }) => seen.push(phase) })
    const controller = new AbortController()
    const onProgress = ({ phase }: { phase: string }) => {
      seen.push(phase)
      controller.abort(new Error('enough'))
    }
    await expect(at.jvp(vs[0], { signal: controller.signal, onProgress })).rejects.toThrow('enough')
    await expect(at.ggnProduct(vs, { signal: controller.signal })).rejects.toThrow('enough')
    await expect(model.linearize(batch, { signal: controller.signal })).rejects.toThrow('enough')
    expect(new Set(seen)).toEqual(new Set(['linearize', 'jvp']))
    // It works on after an abort.
    expect(off(await at.jvp(vs[0]), await model.jvp(batch, vs[0]))).toBeLessThanOrEqual(1e-6)
    at.dispose()
  })

  it('refuses memory that is too small, for one batch and for many', async () => {
    const one = await model.linearize(rowsOf(256))
    const many = rowsOf(256 * 40)
    for (const [data, memory] of [
      [rowsOf(256), 1],
      [rowsOf(256), one.bytes - 1],
      [many, one.bytes],
    ] as const) {
      await expect(model.linearize(data, { memory })).rejects.toMatchObject({
        code: 'ERR_OUT_OF_MEMORY',
        message: expect.stringMatching(/expected at least \d+ bytes for 'memory' \(.*batch.*\), got \d+/) as string,
      })
    }
    const again = await model.linearize(rowsOf(256), { memory: one.bytes })
    again.dispose()
    one.dispose()
  })

  it('refuses data, tangents and cotangents that do not fit', async () => {
    const unheard = model.linearize(rowsOf(4), { batchSize: 2 } as never)
    await expect(unheard).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const batch = rowsOf(5)
    await expect(model.linearize({ inputs: new Float32Array(0) })).rejects.toMatchObject({ code: 'ERR_SHAPE' })
    await expect(model.linearize({ inputs: new Float32Array(width).fill(NaN) })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(model.linearize(batch, { memroy: 5 } as object)).rejects.toThrow(/memory/)
    await expect(model.linearize(batch, { memory: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    const at = await model.linearize(batch)
    const stranger = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [4], classes: 3, seed: 1 }))
    const v = stranger.vector()
    const infinite = model.vector({ [model.parameters[0].name]: new Float32Array(9 * width).fill(3e38) })
    await infinite.scale(10)
    for (const wrong of [v, infinite, [vs[0], v], [], 'v' as never]) {
      await expect(at.jvp(wrong as ParameterVector)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
      await expect(at.ggnProduct(wrong as ParameterVector)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    await expect(at.ggnProduct(vs[0], { loss: 'mse' as never })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(at.vjp(new Float32Array(14))).rejects.toMatchObject({ code: 'ERR_SHAPE' })
    await expect(at.vjp([new Float32Array(15), new Float32Array(16)])).rejects.toMatchObject({ code: 'ERR_SHAPE' })
    await expect(at.vjp(new Float32Array(15).fill(NaN))).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(at.vjp([])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    // All of which left it as it was.
    expect(await at.jvp(vs[0])).toEqual(await model.jvp(batch, vs[0]))
    at.dispose()
    for (const call of [() => at.jvp(vs[0]), () => at.vjp(new Float32Array(15)), () => at.ggnProduct(vs[0])]) {
      await expect(call()).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    }
    v.dispose()
    stranger.dispose()
    await expect(stranger.linearize(batch)).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
  })
})
