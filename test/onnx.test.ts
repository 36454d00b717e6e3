// Import of the fixture networks: values against PyTorch's, and which tensors become parameters.
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { importOnnx } from '../lib/onnx/index.js'
import { readSafetensors } from '../lib/safetensors.js'
import { interpret } from './interpreter.js'

const fixture = (name: string): URL => new URL(`fixtures/${name}`, import.meta.url)
const fixtures = ['mlp', 'lenet', 'lqf', 'vgg', 'resnet', 'mobilenet', 'vit', 'tied']

describe.each(fixtures)('the fixture %s', (name) => {
  it('imports with the logits and parameters of PyTorch', async () => {
    const model = await importOnnx(fixture(`${name}.onnx`))
    const { tensors } = readSafetensors(await readFile(fixture(`${name}.safetensors`)))
    const logits = interpret(model.network, model.parameters, tensors.get('x')!.data)
    const expected = tensors.get('logits')!
    expect(logits.shape).toEqual(expected.shape)
    const largest = Math.max(...expected.data.map(Math.abs))
    expected.data.forEach((value, i) =>
      expect(Math.abs(logits.data[i] - value)).toBeLessThan(1e-5 * Math.max(1, largest)),
    )

    const tangents = [...tensors].flatMap(([key, { shape }]) =>
      key.startsWith('tangent/') ? [[key.slice(8), shape]] : [],
    )
    const shapes = [...model.parameters].map(([key, { shape }]) => [key, shape])
    expect(new Map(shapes as [string, number[]][])).toEqual(new Map(tangents as [string, number[]][]))
    expect(model.endsIn).toBeNull()
    expect(model.leftOut.every((left) => left.reason.includes('running statistics'))).toBe(true)
  })
})
