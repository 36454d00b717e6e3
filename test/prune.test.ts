// scrub() with method 'prune': statistics and their merge, scores, the choice, removal, misuse.
import { create } from '@bufbuild/protobuf'
import { afterAll, describe, expect, it } from 'vitest'
import {
  channelStatistics,
  Dataset,
  federatedAverage,
  mergeStatistics,
  Model,
  networks,
  scrub,
  type ChannelStatistics,
  type FederatedUpdate,
  type PruneOptions,
} from '../lib/index.js'
import { StringStringEntryProtoSchema } from '../lib/onnx/onnx_pb.js'
import { readModel, writeModel } from '../lib/onnx/wire.js'
import { channelMap } from '../lib/scrub/channels.js'
import { channelScores, chooseChannels, type ChoiceOptions } from '../lib/scrub/channel_scores.js'
import { scoredLayers } from '../lib/scrub/channel_statistics.js'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runOnnx } from './onnxruntime.js'
import { normals } from './random.js'

const shape = [2, 6, 6]
const width = 72
const classes = 4
const made: Model[] = []
afterAll(() => made.forEach((model) => model.dispose()))

function newModel(seed = 1): Model {
  const b = new networks.NetworkBuilder(shape, { seed })
  const x = b.relu(b.batchNorm(b.conv(b.input, 'a', { channels: 12, kernel: 3, padding: 1 }), 'an'))
  const y = b.relu(b.batchNorm(b.conv(x, 'b', { channels: 16, kernel: 3, padding: 1, bias: false }), 'bn'))
  const model = Model.fromNetwork(b.build(b.linear(b.flatten(b.maxPool(y, 2)), 'fc', { features: classes })), {
    device: 'cpu',
  })
  made.push(model)
  return model
}

/** Rows of four classes: a patch that is brighter in a class's own corner and channel. */
function rows(count: number, seed: number, labelOf = (i: number) => i % classes): Dataset {
  const inputs = normals(count * width, seed).map((value) => 0.5 * value)
  const labels = Array.from({ length: count }, (_, i) => labelOf(i))
  labels.forEach((label, i) => {
    for (let h = 0; h < 3; h++) {
      for (let w = 0; w < 3; w++) {
        inputs[i * width + (label % 2) * 36 + (h + 3 * (label >> 1)) * 6 + w] += 1.5
      }
    }
  })
  return Dataset.fromArrays({ inputs, labels, shape, classes })
}
const data = rows(200, 5)

async function bits(model: Model): Promise<string> {
  const tensors = new Map([...(await model.tensors()), ...(await model.statistics())])
  return JSON.stringify([...tensors].map(([name, { data: values }]) => [name, [...values]]))
}

describe('channelStatistics()', () => {
  it('sums what each channel gives each class, computed by hand', async () => {
    const b = new networks.NetworkBuilder([1, 2, 2], { seed: 1 })
    const y = b.conv(b.input, 'c', { channels: 2, kernel: 1 })
    const source = b.build(b.globalAveragePool(b.conv(b.relu(y), 'd', { channels: 3, kernel: 1 })))
    source.parameters.set('c.weight', { shape: [2, 1, 1, 1], data: Float32Array.of(1, -2) })
    source.parameters.set('c.bias', { shape: [2], data: Float32Array.of(0.5, 1) })
    const model = Model.fromNetwork(source, { device: 'cpu' })
    const inputs = Float32Array.of(1, -1, 0, 2, 3, 3, -5, 0, 1, 1, 1, 1)
    const report = await channelStatistics(model, { inputs, labels: Int32Array.of(2, 0, 2) }, { precision: 'float64' })
    model.dispose()
    expect(report.counts).toEqual([1, 0, 2])
    expect(report.layers.map(({ name, channels }) => [name, channels])).toEqual([
      ['c.weight', 2],
      ['d.weight', 3],
    ])
    // Class 2: rows 1, -1, 0, 2 and 1, 1, 1, 1; class 0: 3, 3, -5, 0.
    const expected = [(3.5 + 3.5 + 0.5) / 4, (11 + 1) / 4, 0, 0, (1.5 + 0.5 + 2.5) / 4 + 1.5, (3 + 1) / 4]
    report.layers[0].sums.forEach((sum, i) => expect(sum).toBeCloseTo(expected[i], 14))
  })

  it.each(['float32', 'float64'] as const)(
    'reads a convolution with its bias, whatever pools come after it: %s',
    async (precision) => {
      const build = (pools: boolean) => {
        const b = new networks.NetworkBuilder(shape, { seed: 3 })
        const x = b.relu(b.conv(b.input, 'a', { channels: 6, kernel: 3, padding: 1 }))
        const y = b.conv(pools ? b.maxPool(x, 2) : x, 'b', { channels: 4, kernel: 1 })
        return b.build(b.linear(b.flatten(pools ? b.maxPool(y, 2) : y), 'fc', { features: classes }))
      }
      const [one, other] = [true, false].map((pools) => Model.fromNetwork(build(pools), { device: 'cpu' }))
      made.push(one, other)
      for (const model of [one, other]) {
        const weights = await model.weights()
        await weights.set(
          'a.bias',
          Float32Array.from({ length: 6 }, (_, c) => 0.4 * (c - 3)),
        )
        await model.setWeights(weights)
      }
      const [a, b] = [
        await channelStatistics(one, data, { precision }),
        await channelStatistics(other, data, { precision }),
      ]
      expect(a.layers[0]).toEqual(b.layers[0])
      // The first row by hand, from the same weights.
      const row = data.subset([0])
      const [first] = (await channelStatistics(one, row, { precision })).layers
      const weights = await one.weights()
      const [w, bias] = [weights.get('a.weight'), weights.get('a.bias')]
      const [c, h, width_] = shape
      const pixels = Float32Array.from(row.row(0).input as Float32Array)
      for (let k = 0; k < 6; k++) {
        let sum = 0
        for (let y = 0; y < h; y++) {
          for (let x = 0; x < width_; x++) {
            let value = bias[k]
            for (let i = 0; i < c; i++) {
              for (let dy = 0; dy < 3; dy++) {
                for (let dx = 0; dx < 3; dx++) {
                  const [at, from] = [y + dy - 1, x + dx - 1]
                  if (at < 0 || at >= h || from < 0 || from >= width_) continue
                  value += w[((k * c + i) * 3 + dy) * 3 + dx] * pixels[(i * h + at) * width_ + from]
                }
              }
            }
            sum += Math.max(value, 0)
          }
        }
        const label = row.labels[0]
        expect(first.sums[label * 6 + k]).toBeCloseTo(sum / (h * width_), 5)
      }
    },
  )

  it('reads responses after the normalisation where asked', async () => {
    const model = newModel()
    const own = await channelStatistics(model, data)
    const normal = await channelStatistics(model, data, { responses: 'normalization' })
    expect(normal.responses).toBe('normalization')
    // A fresh batch normalisation divides by sqrt(1 + epsilon) alone.
    normal.layers.forEach(({ sums }, l) =>
      sums.forEach((sum, i) => expect(sum).toBeCloseTo(own.layers[l].sums[i] / Math.sqrt(1 + 1e-5), 3)),
    )
    expect(normal.layers[0].sums).not.toEqual(own.layers[0].sums)
  })

  it('is the same for any shares and orders of the rows: bit for bit in float32, to 1e-12 in float64', async () => {
    const model = newModel()
    const order = Array.from({ length: 200 }, (_, i) => (i * 77) % 200)
    // Shares of different sizes; one has rows of one class only, so lacks the others.
    const cuts = [0, 3, 20, 90, 91, 170, 200]
    const shares = cuts.slice(1).map((end, i) => order.slice(cuts[i], end))
    for (const precision of ['float32', 'float64'] as const) {
      const whole = await channelStatistics(model, data, { precision })
      const parts: ChannelStatistics[] = []
      for (const share of shares) {
        const sent = JSON.stringify(await channelStatistics(model, data.subset(share), { precision }))
        parts.push(JSON.parse(sent) as ChannelStatistics)
      }
      expect(parts[3].counts.filter((count) => count === 0)).toHaveLength(3)
      for (const list of [parts, parts.toReversed()]) {
        const merged = mergeStatistics(list)
        if (precision === 'float32') expect(merged).toEqual(whole)
        expect(merged.counts).toEqual(whole.counts)
        merged.layers.forEach(({ sums }, l) =>
          sums.forEach((sum, i) => {
            const expected = whole.layers[l].sums[i]
            expect(Math.abs(sum - expected)).toBeLessThanOrEqual(1e-12 * Math.abs(expected))
          }),
        )
      }
      expect(mergeStatistics(parts.slice(1))).not.toEqual(whole)
    }
  })

  it('refuses what does not fit', async () => {
    const model = newModel()
    const mlp = Model.fromNetwork(networks.mlp({ inputShape: shape, classes, hidden: [3] }), { device: 'cpu' })
    await expect(channelStatistics(mlp, data)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' })
    mlp.dispose()
    await expect(channelStatistics(mlp, data)).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect(channelStatistics(model, { inputs: new Float32Array(width) })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await expect(channelStatistics(model, data, { response: 'x' } as never)).rejects.toThrow(/'responses'/)
    const reason = new Error('enough')
    await expect(channelStatistics(model, data, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const onProgress = () => controller.abort(reason)
    await expect(channelStatistics(model, data, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    const good = await channelStatistics(model, data)
    const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }) as Error
    const merge =
      (...list: unknown[]) =>
      () =>
        mergeStatistics(list as ChannelStatistics[])
    expect(merge()).toThrow(invalid)
    expect(merge(good, { ...good, architecture: 'other' })).toThrow(/architecture/)
    expect(merge(good, { ...good, precision: 'float64' })).toThrow(/precision/)
    expect(merge(good, { ...good, responses: 'normalization' })).toThrow(/responses/)
    expect(merge({ ...good, counts: [1, -1, 0, 0] })).toThrow(/counts/)
    expect(merge({ ...good, layers: [{ ...good.layers[0], sums: [NaN] }] })).toThrow(/sums/)
    expect(merge(good, { ...good, layers: good.layers.slice(1) })).toThrow(invalid)
    const [first] = good.layers
    expect(merge({ ...good, layers: [{ ...first, sums: first.sums.map((sum) => -sum) }] })).toThrow(/at least 0/)
    expect(merge(good, 'good')).toThrow(/format/)
  })
})

describe('channelScores()', () => {
  /** Means [K, C] as sums of two rows a class. */
  const layer = (means: number[][]) => ({
    name: 'l',
    channels: means[0].length,
    sums: means.flat().map((mean) => 2 * mean),
    remainders: means.flat().map(() => 0),
  })
  const twos = (count: number) => new Array<number>(count).fill(2)

  it('is tf idf of a table of three classes and four channels', () => {
    // Channels: of class 0 alone, of all alike, of classes 0 and 1, of class 2 alone.
    const means = [
      [4, 1, 3, 0],
      [0, 1, 3, 0],
      [1, 1, 0, 6],
    ]
    const scores = channelScores(layer(means), twos(3), 0, 0)
    const [once, all] = [Math.log(3 / 2), Math.log(3 / 4)]
    const expected = [(4 / 8) * once, (1 / 8) * all, (3 / 8) * Math.log(3 / 3), 0]
    scores.forEach((score, c) => expect(score).toBeCloseTo(expected[c], 14))
    const wide = channelScores(layer(means), twos(3), 0, 2)
    expect(wide[0]).toBeCloseTo(expected[0] * (1 + Math.log(2)), 14)
  })

  it('gives 0 to a dead channel and a silent layer, and knows equal responses whatever their rounding', () => {
    expect([...channelScores(layer([[0, 0], [1, 2], [3, 4]]), twos(3), 0, 0)]).toEqual([0, 0]) // prettier-ignore
    // The mean of three times 0.1 is above 0.1 in float64.
    expect((0.1 + 0.1 + 0.1) / 3).toBeGreaterThan(0.1)
    const [equal, dead] = channelScores(layer([[0.1, 0], [0.1, 0], [0.1, 0]]), twos(3), 0, 0) // prettier-ignore
    expect(equal).toBeCloseTo(Math.log(3 / 4), 14)
    expect(dead).toBe(0)
  })

  it('leaves classes without rows out of K and of the mean', () => {
    const means = [[4, 1], [1, 1], [1, 3]] // prettier-ignore
    const more = [...means, [0, 0]]
    expect(channelScores(layer(more), [...twos(3), 0], 0, 0)).toEqual(channelScores(layer(means), twos(3), 0, 0))
  })
})

describe('chooseChannels()', () => {
  const map = channelMap(newModel().description)
  const options: ChoiceOptions = { rate: 0.25, order: 'most', channels: 'inner', floor: 1, cap: 0.5, multipleOf: 1 }
  const scores = map.layers.map(({ slots }, l) => Float64Array.from(slots, (_, c) => (l === 0 ? 10 + c : c / 2)))

  it('takes exactly floor(N R), the best first, within cap and floor', () => {
    const taken = chooseChannels(map, map.layers, scores, options)
    expect(taken).toMatchObject({ candidates: 28, removed: [6, 1] })
    expect(taken.roots.has(map.slots.root(map.layers[0].slots[11]))).toBe(true)
    expect(taken.roots.has(map.slots.root(map.layers[0].slots[5]))).toBe(false)
    expect(chooseChannels(map, map.layers, scores, { ...options, order: 'least' }).removed).toEqual([0, 7])
    expect(chooseChannels(map, map.layers, scores, { ...options, cap: 0.9, floor: 10 }).removed).toEqual([2, 5])
  })

  it('takes the whole number that N R is but for rounding', () => {
    const b = new networks.NetworkBuilder(shape)
    const x = b.conv(b.conv(b.input, 'a', { channels: 60, kernel: 1 }), 'b', { channels: 40, kernel: 1 })
    const wide = channelMap(b.build(b.linear(b.flatten(x), 'fc', { features: classes })).network)
    const own = wide.layers.map(({ slots }) => new Float64Array(slots.length))
    for (const rate of [0.29, 0.57, 0.58]) {
      expect(100 * rate).not.toBe(Math.round(100 * rate))
      const { candidates, removed } = chooseChannels(wide, wide.layers, own, { ...options, cap: 0.9, rate })
      expect([candidates, removed[0] + removed[1]]).toEqual([100, Math.round(100 * rate)])
    }
  })

  it('breaks ties by position', () => {
    const equal = map.layers.map(({ slots }) => new Float64Array(slots.length))
    const taken = chooseChannels(map, map.layers, equal, { ...options, cap: 0.9 })
    expect(taken.removed).toEqual([7, 0])
    expect(taken.roots.has(map.slots.root(map.layers[0].slots[6]))).toBe(true)
  })

  it('leaves multiples, and refuses rates that would empty a layer or take nothing', () => {
    expect(chooseChannels(map, map.layers, scores, { ...options, rate: 0.45, multipleOf: 4 }).removed).toEqual([4, 4])
    const refused = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }) as Error
    for (const wrong of [{ rate: 0.9 }, { rate: 0.01 }, { multipleOf: 64 }]) {
      expect(() => chooseChannels(map, map.layers, scores, { ...options, ...wrong })).toThrow(refused)
    }
  })
})

describe('chooseChannels() where channels hang together', () => {
  const { network } = networks.resnet20({ width: 4, seed: 1 })
  const map = channelMap(network)
  const layers = scoredLayers(network, map)
  const options: ChoiceOptions = { rate: 0.05, order: 'most', channels: 'all', floor: 1, cap: 0.5, multipleOf: 1 }
  /** Layer and channel of all that hang together with a channel of the stem. */
  const group = (channel: number) => {
    const root = map.slots.root(layers[0].slots[channel])
    return layers.flatMap(({ slots }, l) => [...slots.keys()].filter((c) => map.slots.root(slots[c]) === root).map((c) => [l, c])) // prettier-ignore
  }

  it('takes a residual group as one, by the mean of its scores', () => {
    // Option-A shortcuts carry a channel of the stem through all three stages, to places further on.
    expect(group(2).map(([l, c]) => `${layers[l].name} ${c}`)).toEqual([
      'conv1.weight 2',
      ...[0, 1, 2].map((i) => `layer1.${i}.conv2.weight 2`),
      ...[0, 1, 2].map((i) => `layer2.${i}.conv2.weight 4`),
      ...[0, 1, 2].map((i) => `layer3.${i}.conv2.weight 8`),
    ])
    const scores = layers.map(({ slots }) => new Float64Array(slots.length))
    // Channel 2 has mean 5, channel 0 one high score, and an inner channel lies between the two means.
    group(2).forEach(([l, c], i) => (scores[l][c] = i % 2 === 0 ? 2 : 8))
    scores[0][0] = 40
    const inner = layers.findIndex(({ name }) => name === 'layer1.0.conv1.weight')
    scores[inner][1] = 4.9
    const { candidates } = chooseChannels(map, layers, scores, options)
    const one = chooseChannels(map, layers, scores, { ...options, rate: 1.01 / candidates })
    expect([...one.roots]).toEqual([map.slots.root(layers[0].slots[2])])
    expect(one.removed).toEqual(layers.map((_, l) => Number(group(2).some(([own]) => own === l))))
    const two = chooseChannels(map, layers, scores, { ...options, rate: 2.01 / candidates })
    expect([...two.roots].at(-1)).toBe(map.slots.root(layers[inner].slots[1]))
  })

  it('takes no group where inner channels are in question', () => {
    const streams = group(0).map(([l]) => l)
    const scores = layers.map(({ slots }, l) => new Float64Array(slots.length).fill(streams.includes(l) ? 10 : 1))
    const taken = chooseChannels(map, layers, scores, { ...options, channels: 'inner', rate: 0.3 })
    expect(taken.candidates).toBe(3 * (4 + 8 + 16))
    expect(taken.removed.reduce((a, b) => a + b, 0)).toBe(Math.floor(0.3 * taken.candidates))
    for (const l of streams) expect(taken.removed[l]).toBe(0)
  })

  it('leaves every member of a group a multiple', () => {
    const scores = layers.map(({ slots }) => Float64Array.from(slots, (_, c) => c))
    const taken = chooseChannels(map, layers, scores, { ...options, rate: 0.4, multipleOf: 4 })
    expect(taken.roots.size).toBeGreaterThan(0)
    taken.removed.forEach((removed, l) => expect(removed && (layers[l].slots.length - removed) % 4).toBe(0))
  })
})

describe("scrub() with method 'prune'", () => {
  const fineTune = { steps: 6, batchSize: 32, learningRate: 0.02 }
  const options = (more: Partial<PruneOptions> = {}): PruneOptions => ({
    method: 'prune',
    class: 2,
    data,
    rate: 0.2,
    fineTune,
    ...more,
  })
  const inputs = normals(5 * width, 9)

  it('takes channels out of the network and tells which', async () => {
    const model = newModel()
    const before = model.parameters
    const report = await scrub(model, options())
    expect(report).toMatchObject({ method: 'prune', passes: [{ class: 2, candidates: 28, removed: 5 }] })
    const [{ layers }] = report.passes
    expect(layers.reduce((sum, { removed }) => sum + removed, 0)).toBe(5)
    expect(model.parameters.find(({ name }) => name === 'a.weight')!.shape).toEqual([12 - layers[0].removed, 2, 3, 3])
    expect(report.cost.flops.after).toBeLessThan(report.cost.flops.before)
    const count = (list: typeof before) => list.reduce((sum, each) => sum + each.shape.reduce((a, b) => a * b, 1), 0)
    expect(report.cost.parameters).toEqual({ before: count(before), after: count(model.parameters) })
    expect(report.sampleVisits).toBe(200 + 150 + 32)
    expect(report.fit!.rows).toBe(150)
    expect(report.bound.certified).toBe(false)
    expect(model.history).toEqual([{ verb: 'scrub', method: 'prune' }])
    expect(structuredClone(report)).toEqual(report)
  })

  it('gives the outputs of the masked network, before and after fine-tuning, and of its ONNX file', async () => {
    for (const tuning of [false, fineTune] as const) {
      const [removed, masked] = [newModel(), newModel()]
      const dead = newModel()
      const report = await scrub(removed, options({ fineTune: tuning }))
      const other = await scrub(masked, options({ fineTune: tuning, remove: false }))
      expect(other.passes).toEqual(report.passes)
      expect(masked.parameters).toEqual(dead.parameters)
      const [a, b] = [await removed.evaluate({ inputs }), await masked.evaluate({ inputs })]
      a.forEach((value, i) => expect(Math.abs(value - b[i])).toBeLessThan(1e-5))
      const untouched = await dead.evaluate({ inputs })
      expect(Math.max(...a.map((value, i) => Math.abs(value - untouched[i])))).toBeGreaterThan(1e-2)
      // Dead channels: filter, bias, scale and shift are zero, and so is what reads them.
      const tensors = await masked.tensors()
      const scale = tensors.get('an.weight')!.data
      const zeros = [...scale.keys()].filter((c) => scale[c] === 0)
      expect(zeros).toHaveLength(report.passes[0].layers[0].removed)
      for (const c of zeros) {
        expect(tensors.get('an.bias')!.data[c]).toBe(0)
        expect(tensors.get('a.bias')!.data[c]).toBe(0)
        expect([...tensors.get('a.weight')!.data.subarray(c * 18, c * 18 + 18)].every((w) => w === 0)).toBe(true)
      }
      const file = await runOnnx(await removed.exportOnnx(), inputs, shape)
      file.data.forEach((value, i) => expect(Math.abs(value - a[i])).toBeLessThan(1e-5))
    }
  })

  it('masks filters that are constants of the network as it removes them', async () => {
    const file = await newModel().exportOnnx()
    const [removed, masked] = [0, 1].map(() =>
      Model.load(file, { device: 'cpu', parameters: ['fc.weight', 'fc.bias'] }),
    )
    const [a, b] = await Promise.all([removed, masked])
    made.push(a, b)
    const report = await scrub(a, options({ fineTune: false }))
    const other = await scrub(b, options({ fineTune: false, remove: false }))
    expect(report.passes[0].layers[0].removed).toBeGreaterThan(0)
    expect(other.passes).toEqual(report.passes)
    const [x, y] = [await a.evaluate({ inputs }), await b.evaluate({ inputs })]
    x.forEach((value, i) => expect(Math.abs(value - y[i])).toBeLessThan(1e-5))
  })

  it('keeps what an ONNX file says of itself, its names and its final function', async () => {
    const original = await Model.load(new URL('fixtures/resnet.onnx', import.meta.url), { device: 'cpu' })
    made.push(original)
    const proto = readModel(await original.exportOnnx(), 2 ** 30)
    proto.metadataProps.push(create(StringStringEntryProtoSchema, { key: 'owner', value: 'me' }))
    proto.docString = 'a description'
    const model = await Model.load(writeModel(proto), { device: 'cpu' })
    made.push(model)
    const size = model.inputShape.reduce((a, b) => a * b, 1)
    const labels = Array.from({ length: 40 }, (_, i) => i % model.classes)
    const own = Dataset.fromArrays({
      inputs: normals(40 * size, 2),
      labels,
      shape: model.inputShape,
      classes: model.classes,
    })
    await scrub(model, { method: 'prune', class: 0, data: own, rate: 0.2, channels: 'all', fineTune: false })
    const bytes = await model.exportOnnx()
    const pruned = readModel(bytes, 2 ** 30)
    expect(pruned.metadataProps.map(({ key, value }) => [key, value])).toContainEqual(['owner', 'me'])
    expect(pruned.docString).toBe('a description')
    expect(pruned.producerName).toBe(proto.producerName)
    expect(pruned.graph!.input[0].name).toBe(proto.graph!.input[0].name)
    expect(pruned.graph!.output[0].name).toBe(proto.graph!.output[0].name)
    const again = await Model.load(bytes, { device: 'cpu' })
    made.push(again)
    expect(again.endsIn).toBe(model.endsIn)
    const x = normals(2 * size, 4)
    const [a, b] = [await model.evaluate({ inputs: x }), await again.evaluate({ inputs: x })]
    a.forEach((value, i) => expect(Math.abs(value - b[i])).toBeLessThan(1e-5))
  })

  it('leaves multiples of 16, in the ONNX file too', async () => {
    const wide = (channels: number) => {
      const b = new networks.NetworkBuilder(shape, { seed: 4 })
      const x = b.relu(b.batchNorm(b.conv(b.input, 'a', { channels, kernel: 3, padding: 1 }), 'an'))
      const y = b.relu(b.conv(b.conv(x, 'd', { channels, kernel: 3, padding: 1, groups: channels }), 'p', { channels: 48, kernel: 1 })) // prettier-ignore
      return b.build(b.linear(b.flatten(b.maxPool(y, 2)), 'fc', { features: classes }))
    }
    const [model, masked] = [0, 1].map(() => Model.fromNetwork(wide(32), { device: 'cpu' }))
    made.push(model, masked)
    const half = options({ rate: 0.45, cap: 0.7, multipleOf: 16, channels: 'all', fineTune: false })
    const { passes, cost } = await scrub(model, half)
    await scrub(masked, { ...half, remove: false })
    expect(passes[0].removed).toBeGreaterThanOrEqual(16)
    for (const { channels, removed } of passes[0].layers) expect((channels - removed) % 16).toBe(0)
    expect(cost.flops.after).toBeLessThan(cost.flops.before)
    const expected = await masked.evaluate({ inputs })
    const file = await runOnnx(await model.exportOnnx(), inputs, shape)
    file.data.forEach((value, i) => expect(Math.abs(value - expected[i])).toBeLessThan(1e-5))
  })

  it('takes merged statistics in place of rows, and prunes the same channels', async () => {
    const [central, federated] = [newModel(), newModel()]
    const parts = [
      data.subset(Array.from({ length: 70 }, (_, i) => i)),
      data.subset(Array.from({ length: 130 }, (_, i) => 70 + i)),
    ]
    const statistics = mergeStatistics(await Promise.all(parts.map((part) => channelStatistics(federated, part))))
    const a = await scrub(central, options({ fineTune: false }))
    const { data: _, ...rest } = options({ fineTune: false })
    const b = await scrub(federated, { ...rest, statistics })
    expect(b.passes).toEqual(a.passes)
    expect([a.options.responses, b.options.responses]).toEqual(['convolution', 'convolution'])
    expect(await bits(federated)).toBe(await bits(central))
    expect(b.sampleVisits).toBe(0)
  })

  it('does several classes one after another', async () => {
    const model = newModel()
    const report = await scrub(model, options({ class: [2, 0] }))
    expect(report.passes.map((pass) => [pass.class, pass.candidates, pass.removed])).toEqual([
      [2, 28, 5],
      [0, 23, 4],
    ])
    expect(report.fit!.rows).toBe(100)
    const masked = newModel()
    await scrub(masked, options({ class: [2, 0], remove: false }))
    const [a, b] = [await model.evaluate({ inputs }), await masked.evaluate({ inputs })]
    a.forEach((value, i) => expect(Math.abs(value - b[i])).toBeLessThan(1e-5))
  })

  it('refuses bad input, and leaves the model bit for bit; on abort too', async () => {
    const model = newModel()
    const before = await bits(model)
    const statistics = await channelStatistics(model, data)
    const smaller = newModel()
    await scrub(smaller, options({ fineTune: false }))
    const other = await channelStatistics(smaller, data)
    const without = await channelStatistics(model, data.where({ class: [0, 1, 3] }))
    const two = await channelStatistics(model, data.where({ class: [2, 3] }))
    const wrong: [Record<string, unknown>, RegExp][] = [
      [{ class: 4 }, /classes from 0 to 3.*4/],
      [{ class: [] }, /class/],
      [{ class: [1, 1] }, /different classes/],
      [{ class: undefined }, /class/],
      [{ data: undefined }, /neither/],
      [{ statistics }, /both/],
      [{ data: undefined, statistics: other }, /architecture/],
      [{ data: undefined, statistics: without }, /a row or more/],
      [{ data: undefined, statistics: two }, /three classes/],
      [{ data: undefined, statistics, class: [1, 2] }, /one class/],
      [{ rate: 0.9 }, /empties/],
      [{ rate: 0 }, /rate/],
      [{ rate: 0.001 }, /rate/],
      [{ multipleOf: 0 }, /multipleOf/],
      [{ coe: 100 }, /below e/],
      // What the first class leaves is narrower.
      [{ coe: 2.7 * 12, class: [2, 0], rate: 0.4, fineTune: false }, /below e x [0-9]+, the narrowest layer/],
      [{ data: undefined, statistics, responses: 'convolution' }, /'responses'/],
      [{ rates: 0.1 }, /'rate'/],
      [{ order: 'first' }, /'most' or 'least'/],
      [{ fineTune: { epoch: 1 } }, /epochs/],
      [{ data: data.where({ class: 2 }) }, /three classes|besides/],
    ]
    for (const [more, message] of wrong) {
      const attempt = scrub(model, { ...options(), ...more } as PruneOptions)
      await expect(attempt, JSON.stringify(Object.keys(more))).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(message) as string,
      })
    }
    const mlp = Model.fromNetwork(networks.mlp({ inputShape: shape, classes, hidden: [3] }), { device: 'cpu' })
    made.push(mlp)
    await expect(scrub(mlp, options())).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' })
    const reason = new Error('enough')
    for (const phase of ['channelStatistics', 'fit']) {
      const controller = new AbortController()
      const onProgress = (progress: { phase: string }) => progress.phase === phase && controller.abort(reason)
      await expect(scrub(model, options({ signal: controller.signal, onProgress }))).rejects.toBe(reason)
    }
    await expect(scrub(model, options({ signal: AbortSignal.abort(reason) }))).rejects.toBe(reason)
    expect(await bits(model)).toBe(before)
    expect(model.history).toEqual([])
  })
})

describe('federatedAverage()', () => {
  it('is the mean weighted by rows, running statistics too', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'palimpsest-average-'))
    try {
      const models = [newModel(1), newModel(2)]
      const updates: FederatedUpdate[] = []
      for (const [i, model] of models.entries()) {
        await model.save(join(folder, `${i}.safetensors`))
        updates.push({ weights: await readFile(join(folder, `${i}.safetensors`)), rows: i === 0 ? 30 : 10 })
      }
      const averaged = newModel(3)
      await averaged.loadWeights(federatedAverage(updates))
      const [a, b, c] = await Promise.all([...models, averaged].map((model) => model.tensors()))
      for (const [name, { data: values }] of c) {
        const mean = a.get(name)!.data.map((x, i) => Math.fround((30 * x + 10 * b.get(name)!.data[i]) / 40))
        expect([...values]).toEqual([...mean])
      }
      expect((await averaged.statistics()).get('an.running_var')!.data).toEqual(new Float32Array(12).fill(1))
      const refused = (list: unknown, message: RegExp) =>
        expect(() => federatedAverage(list as typeof updates)).toThrow(message)
      refused([], /list of one or more/)
      refused([{ ...updates[0], rows: 0 }], /rows/)
      refused([{ weights: new Uint8Array(3), rows: 1 }], /safetensors/)
      const pruned = newModel(1)
      await scrub(pruned, { method: 'prune', class: 2, data, rate: 0.2, fineTune: false })
      await pruned.save(join(folder, 'pruned.safetensors'))
      refused([updates[0], { weights: await readFile(join(folder, 'pruned.safetensors')), rows: 1 }], /shapes/)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
