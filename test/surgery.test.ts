// Removal of channels: on every kind of network the smaller one gives what the whole one with zeros gives.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Model, networks } from '../lib/index.js'
import type { NetworkSource } from '../lib/model.js'
import type { NetworkDescription } from '../lib/network.js'
import { importOnnx } from '../lib/onnx/index.js'
import { channelMap, type ChannelMap } from '../lib/scrub/channels.js'
import { Removal, removeChannels, withZeros } from '../lib/scrub/surgery.js'
import { runOnnx } from './onnxruntime.js'
import { normals, uniform } from './random.js'

const file = (name: string) => async (): Promise<NetworkSource> =>
  importOnnx(readFileSync(new URL(`fixtures/${name}.onnx`, import.meta.url)))
const built = (source: NetworkSource) => async (): Promise<NetworkSource> => source

/** A sigmoid, whose zero is not zero, and a depthwise convolution that is added to what it reads. */
function joined(): NetworkSource {
  const b = new networks.NetworkBuilder([2, 6, 6], { seed: 3 })
  const x = b.relu(b.batchNorm(b.conv(b.input, 'a', { channels: 8, kernel: 3, padding: 1, bias: false }), 'an'))
  const y = b.activation(b.conv(x, 'b', { channels: 6, kernel: 3, padding: 1 }), 'Sigmoid')
  const depthwise = b.conv(y, 'd', { channels: 6, kernel: 3, padding: 1, groups: 6 })
  const z = b.relu(b.conv(b.add(depthwise, y), 'c', { channels: 8, kernel: 3, padding: 1 }))
  return b.build(b.linear(b.flatten(b.maxPool(z, 2)), 'fc', { features: 4 }))
}

const cases: [string, () => Promise<NetworkSource>][] = [
  ['lenet', built(networks.lenet({ seed: 1 }))],
  ['convnet', built(networks.convnet({ width: 8, seed: 1 }))],
  ['vgg11', built(networks.vgg11({ width: 8, seed: 1 }))],
  ['resnet20', built(networks.resnet20({ width: 8, seed: 1 }))],
  ['resnet18', built(networks.resnet18({ width: 4, seed: 1 }))],
  ['a sigmoid and a depthwise convolution', built(joined())],
  ...['lenet', 'lqf', 'vgg', 'resnet', 'mobilenet'].map((name): [string, () => Promise<NetworkSource>] => [
    `${name}.onnx`,
    file(name),
  ]),
  ...['dense.dy20o', 'inception.dy20', 'inception.ts17f', 'mobile.ts17', 'mobile.dy20o'].map(
    (name): [string, () => Promise<NetworkSource>] => [`exporters/${name}.onnx`, file(`exporters/${name}`)],
  ),
]

/** Roots of about a third of the channels that can go, at least one of each convolution left. */
function someRoots({ slots, layers }: ChannelMap, seed: number, inner: boolean): Set<number> {
  const next = uniform(seed)
  const roots = new Set<number>()
  const writers = new Map<number, number>()
  for (const { slots: own, depthwise } of layers) {
    if (!depthwise) for (const slot of own) writers.set(slots.root(slot), (writers.get(slots.root(slot)) ?? 0) + 1)
  }
  const keeps = new Set(layers.map(({ slots: own }) => slots.root(own[own.length - 1])))
  for (const { slots: own } of layers) {
    for (const slot of own) {
      const root = slots.root(slot)
      const group = (writers.get(root) ?? 0) !== 1 || slots.isJoined(root)
      if (!slots.stays(slot) && !keeps.has(root) && !(inner && group) && next() < 0.35) roots.add(root)
    }
  }
  return roots
}

/** Random weights and running statistics, so that no channel is like another. */
function shaken({ network, parameters }: NetworkSource): NetworkSource {
  let seed = 50
  const moved = new Map(
    [...parameters].map(([name, { shape, data }]) => {
      const noise = normals(data.length, seed++)
      return [name, { shape, data: data.map((value, i) => value + 0.1 * noise[i]) }]
    }),
  )
  const leaves: NetworkDescription['leaves'] = network.leaves.map((leaf) => {
    if (leaf.kind !== 'constant' || leaf.shape.length !== 1 || leaf.name === undefined) return leaf
    const noise = uniform(seed++)
    return { ...leaf, data: leaf.data.map((value) => value + 0.2 * noise()) }
  })
  return { network: { ...network, leaves }, parameters: moved }
}

async function masked(source: NetworkSource, removal: Removal, pruned: NetworkSource): Promise<NetworkSource> {
  return { network: source.network, parameters: await withZeros(source.network, removal, pruned.parameters) }
}

async function logits(source: NetworkSource, inputs: Float32Array): Promise<number[]> {
  const model = Model.fromNetwork(source, { device: 'cpu' })
  const values = await model.evaluate({ inputs }, { precision: 'float64' })
  model.dispose()
  return [...values]
}

describe.each(cases)('channels of %s', (_, load) => {
  it.each([true, false])('go, inner ones only: %s', async (inner) => {
    const source = shaken(await load())
    const map = channelMap(source.network)
    const roots = someRoots(map, 7, inner)
    if (!inner) expect(roots.size).toBeGreaterThan(0)
    const removal = new Removal(map, roots)
    const pruned = await removeChannels(source, removal)
    const width = source.network.inputShape.reduce((a, b) => a * b, 1)
    const inputs = normals(3 * width, 11)
    const whole = await logits(await masked(source, removal, pruned), inputs)
    const smaller = await logits(pruned, inputs)
    const size = Math.hypot(...whole)
    whole.forEach((value, i) => expect(Math.abs(smaller[i] - value)).toBeLessThan(1e-10 * size))
    if (roots.size === 0) return
    const before = await logits(source, inputs)
    expect(Math.hypot(...before.map((value, i) => value - whole[i]))).toBeGreaterThan(1e-6 * size)
    const count = ({ parameters }: NetworkSource) =>
      [...parameters.values()].reduce((sum, { data }) => sum + data.length, 0)
    expect(count(pruned)).toBeLessThan(count(source))
    const model = Model.fromNetwork(pruned, { device: 'cpu' })
    const exported = await runOnnx(await model.exportOnnx(), inputs, source.network.inputShape)
    const narrow = await model.evaluate({ inputs })
    model.dispose()
    exported.data.forEach((value, i) => expect(Math.abs(value - narrow[i])).toBeLessThan(1e-5 * (1 + size)))
  })
})

describe('channelMap()', () => {
  it('knows inner channels from those of residual groups', () => {
    const { slots, layers } = channelMap(networks.resnet20({ width: 4 }).network)
    const writers = new Map<number, string[]>()
    for (const { name, slots: own } of layers) {
      const root = slots.root(own[0])
      writers.set(root, [...(writers.get(root) ?? []), name])
    }
    const groups = [...writers.values()]
    expect(groups.filter(({ length }) => length === 1)).toHaveLength(9)
    expect(groups.some((group) => group.includes('conv1.weight') && group.includes('layer1.2.conv2.weight'))).toBe(true)
  })

  it('keeps what the logits and the input need, and channels of grouped convolutions', () => {
    const b = new networks.NetworkBuilder([4, 5, 5])
    const x = b.conv(b.input, 'grouped', { channels: 8, kernel: 3, groups: 2 })
    const y = b.conv(b.relu(x), 'last', { channels: 3, kernel: 3 })
    const { slots, layers } = channelMap(b.build(b.globalAveragePool(y)).network)
    expect(layers.map(({ name }) => name)).toEqual(['last.weight'])
    expect([...layers[0].slots].every((slot) => slots.stays(slot))).toBe(true)
  })

  it('counts FLOPs and bytes as a network that was built smaller does', async () => {
    const make = (channels: number, features: number) => {
      const b = new networks.NetworkBuilder([3, 8, 8], { seed: 2 })
      const x = b.relu(b.batchNorm(b.conv(b.input, 'a', { channels, kernel: 3, padding: 1 }), 'n'))
      const y = b.relu(b.conv(x, 'b', { channels: features, kernel: 3, stride: 2, padding: 1 }))
      return b.build(b.linear(b.flatten(y), 'fc', { features: 3 }))
    }
    const source = make(9, 7)
    const map = channelMap(source.network)
    const roots = [...map.layers[0].slots.slice(0, 3), ...map.layers[1].slots.slice(1, 3)]
    const pruned = await removeChannels(source, new Removal(map, new Set(roots.map((slot) => map.slots.root(slot)))))
    const cost = async (of: NetworkSource) => {
      const model = Model.fromNetwork(of, { device: 'cpu' })
      using lease = await model.engine.programs.lease({ quantity: 'evaluate', batch: 4 })
      const { flops, bytes } = lease.program
      model.dispose()
      return { flops, bytes }
    }
    expect(await cost(pruned)).toEqual(await cost(make(6, 5)))
    expect(await cost(pruned)).not.toEqual(await cost(source))
    expect(pruned.network.nodes).toEqual(make(6, 5).network.nodes)
  })
})
