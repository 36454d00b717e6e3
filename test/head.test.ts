// withHead(): the same weights under a fresh last layer, for builders' networks and ONNX files.
import { describe, expect, it } from 'vitest'
import { Dataset, fit, Model, networks } from '../lib/index.js'
import { normals } from './random.js'

const shape = [1, 8, 8]
const inputs = normals(5 * 64, 1)

describe('withHead', () => {
  it('keeps every other weight and statistic, and draws the layer from its seed', async () => {
    const b = new networks.NetworkBuilder(shape, { seed: 2 })
    const x = b.relu(b.batchNorm(b.conv(b.input, 'conv', { channels: 3, kernel: 3 }), 'norm'))
    const model = Model.fromNetwork(b.build(b.linear(b.flatten(x), 'fc', { features: 4 })), { device: 'cpu' })
    const labels = Int32Array.of(0, 1, 2, 3, 0)
    await fit(model, Dataset.fromArrays({ inputs, labels, shape }), { steps: 2, batchSize: 5 })
    const [other, again, third] = await Promise.all([
      model.withHead(7),
      model.withHead(7),
      model.withHead(7, { seed: 1 }),
    ])
    expect(other.classes).toBe(7)
    expect(model.classes).toBe(4)
    expect(await other.evaluate({ inputs })).toHaveLength(35)
    const [own, theirs, same, drawn] = await Promise.all([model, other, again, third].map((each) => each.weights()))
    for (const name of own.names.filter((each) => !each.startsWith('fc'))) {
      expect(theirs.get(name)).toEqual(own.get(name))
    }
    expect(theirs.shape('fc.weight')).toEqual([7, 108])
    expect(theirs.get('fc.bias')).toEqual(new Float32Array(7))
    expect(same.get('fc.weight')).toEqual(theirs.get('fc.weight'))
    expect(drawn.get('fc.weight')).not.toEqual(theirs.get('fc.weight'))
    const scale = Math.sqrt(theirs.get('fc.weight').reduce((sum, w) => sum + w * w, 0) / (7 * 108))
    expect(scale).toBeGreaterThan(0.8 / Math.sqrt(108))
    expect(scale).toBeLessThan(1.2 / Math.sqrt(108))
    // With the old layer's rows in it, the new one gives the old logits: running statistics came along.
    const rows = new Float32Array(7 * 108)
    rows.set(own.get('fc.weight'))
    const bias = new Float32Array(7)
    bias.set(own.get('fc.bias'))
    await theirs.set('fc.weight', rows)
    await theirs.set('fc.bias', bias)
    await other.setWeights(theirs)
    const [before, after] = [await model.evaluate({ inputs }), await other.evaluate({ inputs })]
    for (let i = 0; i < 5; i++) {
      for (let k = 0; k < 4; k++) expect(after[i * 7 + k]).toBeCloseTo(before[i * 4 + k], 5)
    }
  })

  it('takes what came from an ONNX file, and gives one', async () => {
    const built = Model.fromNetwork(networks.mlp({ inputShape: shape, classes: 3, hidden: [6], seed: 1 }), {
      device: 'cpu',
    })
    const model = await Model.load(await built.exportOnnx(), { device: 'cpu' })
    const other = await model.withHead(2, { seed: 5 })
    const back = await Model.load(await other.exportOnnx(), { device: 'cpu' })
    expect(back.classes).toBe(2)
    expect(await back.evaluate({ inputs })).toEqual(await other.evaluate({ inputs }))
  })

  it('refuses networks without a last linear layer, and what is no number of classes', async () => {
    const b = new networks.NetworkBuilder(shape, { seed: 2 })
    const y = b.relu(b.linear(b.flatten(b.input), 'fc', { features: 4 }))
    const model = Model.fromNetwork(b.build(y), { device: 'cpu' })
    await expect(model.withHead(3)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: 'expected a network that ends in a linear layer for withHead(), got one where the last layer is Relu',
    })
    for (const classes of [0, 1.5, '3']) {
      await expect(model.withHead(classes as number)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
    await expect(model.withHead(3, { sed: 1 } as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    model.dispose()
    await expect(model.withHead(3)).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
  })
})
