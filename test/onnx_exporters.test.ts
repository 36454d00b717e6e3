// Files of both PyTorch exporters (made by fixtures/exporters/make.py): logits, parameters, and the way back.
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { product } from '../lib/networks/dims.js'
import { exportNetwork, exportOnnx, importOnnx, type OnnxModel } from '../lib/onnx/index.js'
import { readSafetensors } from '../lib/safetensors.js'
import { interpret } from './interpreter.js'
import { runOnnx } from './onnxruntime.js'

const folder = new URL('fixtures/exporters/', import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith('.onnx') && !name.startsWith('recurrent'))

/** What PyTorch computed, in the form that the file ends in, and its parameters' shapes. */
function reference(file: string): { x: Float32Array; logits: Float32Array; shapes: Record<string, number[]> } {
  const { tensors, metadata } = readSafetensors(readFileSync(new URL(`${file.split('.')[0]}.safetensors`, folder)))
  const shapes = JSON.parse(metadata.parameters) as Record<string, number[]>
  return { x: tensors.get('x')!.data, logits: tensors.get('logits')!.data, shapes }
}

/** The file's own ending applied to logits. */
function ended(model: OnnxModel, logits: ArrayLike<number>): number[] {
  const k = model.network.classes
  return Array.from(logits, (z, i) => {
    if (model.endsIn === null) return z
    const row = Array.from({ length: k }, (_, j) => logits[i - (i % k) + j])
    const log = z - Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0))
    return model.endsIn === 'Softmax' ? Math.exp(log) : log
  })
}

function expectClose(got: ArrayLike<number>, expected: Float32Array, tolerance: number): void {
  expect(got.length).toBe(expected.length)
  const largest = Math.max(...expected.map(Math.abs))
  const error = Math.max(...expected.map((v, i) => Math.abs(v - got[i])))
  expect(error).toBeLessThan(tolerance * Math.max(1, largest))
}

describe.each(files)('%s', (file) => {
  it('imports with the logits of PyTorch', async () => {
    const model = await importOnnx(new URL(file, folder))
    const { x, logits } = reference(file)
    expectClose(ended(model, interpret(model.network, model.parameters, x).data), logits, 1e-5)
    expect(model.endsIn).toBe(
      file.startsWith('softmax') ? 'Softmax' : file.startsWith('log_softmax') ? 'LogSoftmax' : null,
    )
  })

  it('comes back byte for byte with its own weights, and with others runs as they say', async () => {
    const model = await importOnnx(new URL(file, folder))
    const { x, logits } = reference(file)
    const same = exportOnnx(model, model.parameters)
    if (!file.includes('x.onnx')) expect(Buffer.compare(same, readFileSync(new URL(file, folder)))).toBe(0)
    expectClose((await runOnnx(same, x, model.network.inputShape)).data, logits, 1e-5)

    const halved = new Map(
      [...model.parameters].map(([name, { shape, data }]) => [name, { shape, data: data.map((v) => v / 2 + 0.01) }]),
    )
    const changed = await runOnnx(exportOnnx(model, halved), x, model.network.inputShape)
    expectClose(ended(model, interpret(model.network, halved, x).data), changed.data, 1e-5)
    const moved = Math.max(...changed.data.map((v, i) => Math.abs(v - logits[i])))
    expect(moved).toBeGreaterThan(1e-3)
  })

  it('is written as a network of its own', async () => {
    const model = await importOnnx(new URL(file, folder))
    const { x, logits } = reference(file)
    const { data } = await runOnnx(exportNetwork(model.network, model.parameters), x, model.network.inputShape)
    expectClose(ended(model, data), logits, 1e-5)
  })
})

describe('parameters of unfolded files', () => {
  const plain = files.filter((name) => /\.(ts1[37]s?|dy20)\.onnx$/.test(name))

  it.each(plain)('%s has those of PyTorch, each once', async (file) => {
    const model = await importOnnx(new URL(file, folder))
    const { shapes } = reference(file)
    // The TorchScript exporter transposes the weights of linear layers over tokens and names them anew.
    const sizes = (list: Iterable<readonly number[]>): number[] => [...list].map(product).sort((a, b) => a - b)
    expect(sizes([...model.parameters.values()].map((t) => t.shape))).toEqual(sizes(Object.values(shapes)))
    for (const [name, { shape }] of model.parameters) {
      if (name in shapes) expect(shape).toEqual(shapes[name])
      else expect(name).toMatch(/^onnx::MatMul_/)
    }
  })
})

describe('what a file holds besides', () => {
  it('is listed with a reason', async () => {
    const reasons = async (file: string): Promise<Map<string, string>> => {
      const { leftOut } = await importOnnx(new URL(file, folder))
      return new Map(leftOut.map(({ name, reason }) => [name, reason]))
    }
    const norms = await reasons('norms.dy20o.onnx')
    expect(norms.get('9.running_mean')).toBe('running statistics of a batch normalisation')
    expect(
      [...norms.values()].filter((reason) => reason.includes('stands for an absent scale')).length,
    ).toBeGreaterThan(0)
    const normalised = await reasons('normalised.dy20o.onnx')
    expect(normalised.get('mean')).toMatch(/reaches no convolution/)
    expect(normalised.get('std')).toMatch(/reaches no convolution/)
  })

  it('can be made a parameter, and parameters can be left out', async () => {
    const file = new URL('normalised.dy20o.onnx', folder)
    const { x, logits } = reference('normalised.dy20o.onnx')
    for (const parameters of [['mean', 'head.weight'], (name: string) => name === 'mean' || name === 'head.weight']) {
      const model = await importOnnx(file, { parameters })
      expect([...model.parameters.keys()].sort()).toEqual(['head.weight', 'mean'])
      expect(model.leftOut.find(({ name }) => name === 'conv.weight')!.reason).toMatch(/option `parameters`/)
      expectClose(interpret(model.network, model.parameters, x).data, logits, 1e-5)
    }
    await expect(importOnnx(file, { parameters: ['haed.weight'] })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/got "haed.weight"; did you mean "head.weight"/) as string,
    })
    const statistics = { parameters: ['9.running_mean'] }
    await expect(importOnnx(new URL('norms.dy20o.onnx', folder), statistics)).rejects.toThrow(/running statistics/)
  })

  it('a recurrent network is refused by name', async () => {
    for (const variant of ['ts17f', 'dy20o']) {
      const model = importOnnx(new URL(`recurrent.${variant}.onnx`, folder))
      await expect(model).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED_OPERATOR',
        message: expect.stringMatching(/\(GRU\)/) as string,
      })
    }
  })
})
