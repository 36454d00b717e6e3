// Export with new weights: types, places and unknown fields of the file stay.
import { toBinary } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { Dataset, fit, Model } from '../lib/index.js'
import type { TensorMap } from '../lib/network.js'
import { exportOnnx, importOnnx } from '../lib/onnx/index.js'
import { ModelProtoSchema, TensorProto_DataType as DataType, type TensorProto } from '../lib/onnx/onnx_pb.js'
import { readModel } from '../lib/onnx/wire.js'
import { attribute as at, floats, node, onnxModel, type ModelInit, type TensorInit } from './onnx_models.js'
import { runOnnx } from './onnxruntime.js'
import { normals } from './random.js'

const values = [0.5, -1.25, 3, 0.0625, 2, -7, 0.375, 1, -0.5, 4, 6.5, -2]
const next = values.map((v) => v / 4 + 1)

const head: ModelInit = { nodes: [node('MatMul', ['x', 'w'], ['y'])] }
const tensorOf = (bytes: Uint8Array): TensorProto => readModel(bytes, 1e9).graph!.initializer[0]
const weights = (data: Iterable<number>): TensorMap =>
  new Map([['w', { shape: [4, 3], data: Float32Array.from(data) }]])

function raw(dataType: DataType, bytes: ArrayBufferLike): TensorInit {
  return { name: 'w', dataType, dims: [4n, 3n], rawData: new Uint8Array(bytes) }
}

/** Bits of halves whose values need ten bits of fraction at most. */
function half(value: number): number {
  const exponent = Math.floor(Math.log2(Math.abs(value)))
  const fraction = (Math.abs(value) / 2 ** exponent - 1) * 1024
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction
}

function brain(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0] >>> 16
}

const stored: [string, TensorInit, (data: number[]) => TensorInit][] = [
  ['float in raw_data', floats('w', [4, 3], values), (d) => floats('w', [4, 3], d)],
  ['float in float_data', { ...raw(1, new ArrayBuffer(0)), floatData: values }, (d) => ({ name: 'w', floatData: d })],
  ['double in raw_data', raw(DataType.DOUBLE, Float64Array.from(values).buffer), (d) => raw(DataType.DOUBLE, Float64Array.from(d).buffer)],
  ['double in double_data', { name: 'w', dataType: DataType.DOUBLE, dims: [4n, 3n], doubleData: values }, (d) => ({ name: 'w', doubleData: d })],
  ['float16 in raw_data', raw(DataType.FLOAT16, Uint16Array.from(values, half).buffer), (d) => raw(DataType.FLOAT16, Uint16Array.from(d, half).buffer)],
  ['float16 in int32_data', { name: 'w', dataType: DataType.FLOAT16, dims: [4n, 3n], int32Data: values.map(half) }, (d) => ({ name: 'w', int32Data: d.map(half) })],
  ['bfloat16 in raw_data', raw(DataType.BFLOAT16, Uint16Array.from(values, brain).buffer), (d) => raw(DataType.BFLOAT16, Uint16Array.from(d, brain).buffer)],
] // prettier-ignore

describe('weights stored as', () => {
  it.each(stored)('%s are read, kept and written as such', async (name, tensor, expected) => {
    const init = { ...tensor }
    if (name === 'float in float_data') delete (init as { rawData?: unknown }).rawData
    const bytes = onnxModel({ ...head, initializers: [init] })
    const model = await importOnnx(bytes)
    expect([...model.parameters.get('w')!.data]).toEqual(values)
    expect(model.notes.length).toBe(name.startsWith('float in') ? 0 : 1)
    expect(Buffer.compare(exportOnnx(model, model.parameters), bytes)).toBe(0)

    const written = tensorOf(exportOnnx(model, weights(next)))
    expect(written.dataType).toBe(tensor.dataType)
    const wanted = expected(next)
    expect({ ...written }).toMatchObject(
      Object.fromEntries(Object.entries(wanted).filter(([key]) => key.endsWith('Data'))),
    )
  })

  it('doubles keep their digits where they are not changed', async () => {
    const thirds = Array.from({ length: 12 }, (_, i) => (i + 1) / 3)
    const tensor = raw(DataType.DOUBLE, Float64Array.from(thirds).buffer)
    const model = await importOnnx(onnxModel({ ...head, initializers: [tensor] }))
    const data = model.parameters.get('w')!.data.slice()
    data[4] = 9
    const written = tensorOf(exportOnnx(model, weights(data))).rawData
    expect([...new Float64Array(written.slice().buffer)]).toEqual(thirds.with(4, 9))
  })

  it('halves are rounded to the nearest, ties to even, and overflow is refused', async () => {
    const tensor = raw(DataType.FLOAT16, new Uint16Array(12).buffer)
    const model = await importOnnx(onnxModel({ ...head, initializers: [tensor] }))
    const tries = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -24, 2 ** -25, 3 * 2 ** -26, 65504, 65519, -(2 ** -14), 0.1, -0.3, 2047.5, 1e-9]
    const rounded = [1, 1 + 2 ** -9, 2 ** -24, 0, 2 ** -24, 65504, 65504, -(2 ** -14), 0.0999755859375, -0.300048828125, 2048, 0]
    const again = await importOnnx(exportOnnx(model, weights(tries)))
    expect([...again.parameters.get('w')!.data]).toEqual(rounded)
    expect(() => exportOnnx(model, weights(tries.with(0, 65520)))).toThrow(/weights "w": expected finite float16, got 65520/)
  }) // prettier-ignore
})

describe('constants', () => {
  it('of Constant nodes are parameters that are written into the node', async () => {
    const gain = node('Constant', [], ['gain'], [at.tensor('value', floats('', [3], [1, 2, 3]))])
    const shift = node('Constant', [], ['shift'], [{ name: 'value_floats', type: 6, floats: [1, 2, 3] }])
    const nodes = [
      gain,
      shift,
      node('MatMul', ['x', 'w'], ['h']),
      node('Mul', ['h', 'gain'], ['g']),
      node('Add', ['g', 'shift'], ['y']),
    ]
    const model = await importOnnx(onnxModel({ nodes, initializers: [floats('w', [4, 3], values)] }))
    expect([...model.parameters.keys()]).toEqual(['w', 'gain', 'shift'])
    const changed: TensorMap = new Map(model.parameters)
    changed.set('gain', { shape: [3], data: Float32Array.of(4, 5, 6) })
    changed.set('shift', { shape: [3], data: Float32Array.of(7, 8, 9) })
    const again = await importOnnx(exportOnnx(model, changed))
    expect(again.parameters).toEqual(changed)
    const got = await runOnnx(exportOnnx(model, changed), Float32Array.of(1, 0, 0, 0), [4])
    expect([...got.data]).toEqual([0.5 * 4 + 7, -1.25 * 5 + 8, 3 * 6 + 9])
  })
})

describe('the rest of the file', () => {
  it('stays: unknown fields, metadata, tensors that nothing names, running statistics unless given', async () => {
    const channels = (name: string, seed: number): TensorInit => floats(name, [3], normals(3, seed).map(Math.abs))
    const bytes = onnxModel({
      nodes: [node('MatMul', ['x', 'w'], ['h'], [], { docString: 'doc' }), node('BatchNormalization', ['h', 's', 'b', 'm', 'v'], ['y'])],
      initializers: [floats('w', [4, 3], values), channels('s', 1), channels('b', 2), channels('m', 3), channels('v', 4), floats('unused', [2], [1, 2])],
    }) // prettier-ignore
    // Fields 900 (bytes "ab") of the model and 15 with a group, which no schema has.
    const strange = Uint8Array.from([...bytes, 0xa2, 0x38, 0x02, 0x61, 0x62])
    const model = await importOnnx(strange)
    expect(Buffer.compare(exportOnnx(model, model.parameters), strange)).toBe(0)
    const statistics: TensorMap = new Map([['m', { shape: [3], data: Float32Array.of(9, 8, 7) }]])
    const changed = exportOnnx(model, statistics)
    expect(changed.length).toBe(strange.length)
    expect(changed.reduce((n, v, i) => n + Number(v !== strange[i]), 0)).toBeLessThanOrEqual(12)
    const names = (await importOnnx(changed)).network.leaves.flatMap((leaf) =>
      leaf.kind === 'constant' ? [[leaf.name, [...leaf.data]]] : [],
    )
    expect(names[0]).toEqual(['m', [9, 8, 7]])
    expect(toBinary(ModelProtoSchema, model.source)).toEqual(strange)
  })

  it('that has equal tensors once gets running statistics for each normalisation, and has them once while they are equal', async () => {
    const zeros = [0, 0, 0]
    const ones = [1, 1, 1]
    const bytes = onnxModel({
      nodes: [
        node('MatMul', ['x', 'w'], ['h']),
        node('BatchNormalization', ['h', 's', 'zero', 'zero', 'one'], ['a']),
        node('MatMul', ['a', 'u'], ['b']),
        node('BatchNormalization', ['b', 't', 'c', 'zero', 'one'], ['y']),
      ],
      initializers: [floats('w', [4, 3], values), floats('u', [3, 3], normals(9, 5)), floats('s', [3], [1, 2, 3]), floats('t', [3], [2, 1, 2]), floats('c', [3], normals(3, 6)), floats('zero', [3], zeros), floats('one', [3], ones), floats('one.2', [3], ones)],
    }) // prettier-ignore
    const model = await Model.load(bytes)
    expect(Buffer.compare(await model.exportOnnx(), bytes)).toBe(0)
    expect(model.parameters.map(({ name }) => name)).toContain('zero')
    expect([...(await model.statistics()).keys()].sort()).toEqual(['one', 'one.3', 'zero.2', 'zero.3'])

    const inputs = normals(64 * 4, 7).map((v) => 3 * v + 1)
    const data = Dataset.fromArrays({ inputs, labels: Array.from({ length: 64 }, (_, i) => i % 3), shape: [4] })
    await fit(model, data, { epochs: 3, batchSize: 16, batchNorm: 'training' })
    const distinct = new Set([...(await model.statistics()).values()].map((tensor) => tensor.data.join()))
    expect(distinct.size).toBe(4)
    expect((await model.weights()).get('zero')).not.toEqual(Float32Array.from(zeros))
    const exported = await model.exportOnnx()
    const wanted = await model.evaluate({ inputs })
    const { data: got } = await runOnnx(exported, inputs, [4])
    wanted.forEach((logit, i) => expect(Math.abs(logit - got[i])).toBeLessThan(1e-4))
    expect(await (await Model.load(exported)).evaluate({ inputs })).toEqual(wanted)
  })

  it('is not written with weights that it does not have', async () => {
    const model = await importOnnx(onnxModel({ ...head, initializers: [floats('w', [4, 3], values)] }))
    const one = { shape: [1], data: Float32Array.of(1) }
    expect(() => exportOnnx(model, new Map([['v', one]]))).toThrow(/names of tensors in the model, got "v"/)
    expect(() => exportOnnx(model, new Map([['w', one]]))).toThrow(
      /expected "w" of shape \[4, 3\], got \[1\] with 1 values/,
    )
    expect(() => exportOnnx(model, weights(values.with(0, NaN)))).toThrow(/expected finite float, got NaN/)
  })

  it('does not change when the bytes given to the import do', async () => {
    const bytes = onnxModel({ ...head, initializers: [floats('w', [4, 3], values)] })
    const copy = bytes.slice()
    const model = await importOnnx(bytes)
    bytes.fill(0)
    expect(Buffer.compare(exportOnnx(model, model.parameters), copy)).toBe(0)
  })
})
