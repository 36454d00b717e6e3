// Networks built in TypeScript: names, initial weights, and their ONNX export beside the reference interpreter.
import { describe, expect, it } from 'vitest'
import { PalimpsestError } from '../lib/errors.js'
import type { TensorMap } from '../lib/network.js'
import {
  convnet,
  lenet,
  mlp,
  NetworkBuilder,
  resnet18,
  resnet20,
  resnet50,
  vgg11,
  vit,
  type BuiltNetwork,
} from '../lib/networks/index.js'
import { philox } from '../lib/philox.js'
import { exportNetwork, importOnnx } from '../lib/onnx/index.js'
import { interpret } from './interpreter.js'
import { runOnnx } from './onnxruntime.js'
import { normals } from './random.js'

const count = (parameters: TensorMap): number =>
  [...parameters.values()].reduce((sum, { data }) => sum + data.length, 0)

/** Parameter counts are those of the same modules in PyTorch. */
const sizes: [string, () => BuiltNetwork, number][] = [
  ['mlp', mlp, 784 * 1024 + 1024 + 1024 * 1024 + 1024 + 10240 + 10],
  ['lenet', lenet, 61706],
  ['convnet', convnet, 591274],
  ['resnet20', resnet20, 269722],
  ['resnet18', resnet18, 11173962],
  ['resnet50', resnet50, 25557032],
  ['vgg11', vgg11, 9231114],
  ['vit', vit, 4 * (2 * 128 + 12480 + 4160 + 8320 + 8256) + 3136 + 4096 + 128 + 650],
]

describe('networks that come with the library', () => {
  it.each(sizes)('%s has its number of parameters', (_, make, parameters) => {
    expect(count(make().parameters)).toBe(parameters)
  })

  it.each([
    ['mlp', () => mlp({ hidden: [20, 12], inputShape: [5, 4], classes: 3, seed: 1 })],
    ['lenet', () => lenet({ seed: 2 })],
    ['convnet', () => convnet({ width: 4, inputShape: [3, 12, 12], classes: 4, seed: 3 })],
    ['resnet20', () => resnet20({ width: 4, inputShape: [3, 9, 12], classes: 4, seed: 4 })],
    ['resnet18', () => resnet18({ width: 4, inputShape: [3, 10, 10], classes: 4, seed: 5 })],
    ['resnet50', () => resnet50({ width: 2, inputShape: [3, 33, 38], classes: 4, seed: 8 })],
    ['vgg11', () => vgg11({ width: 4, classes: 4, seed: 6 })],
    ['vit', () => vit({ inputShape: [3, 12, 8], dim: 12, heads: 3, depth: 2, classes: 5, seed: 7 })],
  ] as [string, () => BuiltNetwork][])(
    '%s runs in onnxruntime and comes back through the importer',
    async (_, make) => {
      const { network, parameters } = make()
      const inputs = normals(2 * network.inputShape.reduce((a, b) => a * b, 1), 11)
      const expected = interpret(network, parameters, inputs)
      const spread = Math.max(...expected.data) - Math.min(...expected.data)
      expect(spread).toBeGreaterThan(0.1)
      const bytes = exportNetwork(network, parameters)
      const got = await runOnnx(bytes, inputs, network.inputShape)
      expected.data.forEach((v, i) => expect(Math.abs(v - got.data[i])).toBeLessThan(1e-5 * Math.max(1, spread)))

      const again = await importOnnx(bytes)
      expect(new Map(again.parameters)).toEqual(parameters)
      const once = interpret(again.network, again.parameters, inputs)
      expected.data.forEach((v, i) => expect(Math.abs(v - once.data[i])).toBeLessThan(1e-6 * Math.max(1, spread)))
    },
  )

  it('names running statistics as PyTorch does, and exports those that are given', () => {
    const { network, parameters } = resnet20({ width: 2, seed: 1 })
    const statistics = network.leaves.flatMap((leaf) => (leaf.kind === 'constant' && leaf.name ? [leaf.name] : []))
    expect(statistics).toHaveLength(2 * 19)
    expect(statistics).toContain('layer2.0.bn1.running_mean')
    const changed: TensorMap = new Map([
      ...parameters,
      ['bn1.running_var', { shape: [2], data: Float32Array.of(3, 4) }],
    ])
    expect(exportNetwork(network, changed)).not.toEqual(exportNetwork(network, parameters))
  })
})

describe('initial weights', () => {
  it('follow Kaiming: standard deviation gain / sqrt(fan in), one sequence a seed', () => {
    const { parameters } = mlp({ seed: 5 })
    const deviation = (data: Float32Array): number => Math.sqrt(data.reduce((s, v) => s + v * v, 0) / data.length)
    expect(deviation(parameters.get('fc1.weight')!.data) / Math.sqrt(2 / 784)).toBeCloseTo(1, 2)
    expect(deviation(parameters.get('fc3.weight')!.data) / Math.sqrt(1 / 1024)).toBeCloseTo(1, 1)
    expect(parameters.get('fc1.bias')!.data.every((v) => v === 0)).toBe(true)
    const again = mlp({ seed: 5 }).parameters.get('fc2.weight')!.data
    expect(Buffer.compare(Buffer.from(again.buffer), Buffer.from(parameters.get('fc2.weight')!.data.buffer))).toBe(0)
    const other = mlp({ seed: 6 }).parameters.get('fc1.weight')!.data
    expect(other[0]).not.toBe(parameters.get('fc1.weight')!.data[0])
  })

  it('come from Philox4x32-10, whose published values hold', () => {
    const random = (counter: number[], key: [number, number]): string => {
      const words = Uint32Array.from(counter)
      philox(words, ...key)
      return [...words].map((w) => w.toString(16).padStart(8, '0')).join(' ')
    }
    const all = 0xffffffff
    expect(random([0, 0, 0, 0], [0, 0])).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8')
    expect(random([all, all, all, all], [all, all])).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd')
    const pi = random([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])
    expect(pi).toBe('d16cfe09 94fdcceb 5001e420 24126ea1')
  })
})

describe('the builder', () => {
  it('refuses names twice, shapes without classes and bad options', () => {
    const b = new NetworkBuilder([4])
    b.linear(b.input, 'fc', { features: 3 })
    expect(() => b.linear(b.input, 'fc', { features: 3 })).toThrow(/expected every name once, got "fc.weight" twice/)
    expect(() => b.build(b.reshape(b.input, [-1, 2, 2]))).toThrow(/expected logits of shape \[N, K\], got \[N, 2, 2\]/)
    expect(() => mlp({ classes: 0 })).toThrow(/expected a whole number of at least 1 for 'classes', got 0/)
    expect(() => vit({ heads: 5 })).toThrow(/heads: expected a divisor of dim 64, got 5/)
    expect(() => lenet({ seed: -1 })).toThrow(/for 'seed', got -1/)
    expect(() => new NetworkBuilder([])).toThrow(/inputShape/)
  })

  it('refuses with a code what is no option of the network, or none of its kind', () => {
    const networks: Record<string, (options: never) => unknown> = {
      mlp,
      lenet,
      convnet,
      resnet20,
      resnet18,
      resnet50,
      vgg11,
      vit,
    }
    const code = (call: () => unknown): string => {
      try {
        call()
      } catch (error) {
        return error instanceof PalimpsestError ? error.code : String(error)
      }
      return 'none'
    }
    for (const [name, network] of Object.entries(networks)) {
      for (const wrong of [null, [], { clases: 3 }, { inputShape: 'ab' }, { inputShape: [3, NaN] }, { seed: '1' }]) {
        expect(
          code(() => network(wrong as never)),
          `${name} ${JSON.stringify(wrong)}`,
        ).toBe('ERR_INVALID_ARGUMENT')
      }
    }
    expect(code(() => mlp({ hidden: 5 as never }))).toBe('ERR_INVALID_ARGUMENT')
    expect(code(() => mlp({ hidden: [1e12] }))).toBe('ERR_OUT_OF_MEMORY')
    expect(code(() => lenet({ inputShape: [784] }))).toBe('ERR_INVALID_ARGUMENT')
    expect(code(() => vit({ inputShape: [3, 30, 32] }))).toBe('ERR_INVALID_ARGUMENT')
    expect(() => mlp({ hiden: [3] } as never)).toThrow(/the nearest is 'hidden'/)
  })
})
