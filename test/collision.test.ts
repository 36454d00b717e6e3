// gradientCollision(): the loss against its definition, its gradient against finite differences in float64.
import { describe, expect, it } from 'vitest'
import { Dataset, gradientCollision, Model, networks, type CollisionForm, type NetworkSource } from '../lib/index.js'
import { normals, uniform } from './random.js'

const grid = 2 ** -14

/** The weights as multiples of 2^-14, so that small multiples of it added to them are exact in float32. */
async function onGrid(source: NetworkSource): Promise<Model> {
  const model = Model.fromNetwork(source, { device: 'cpu' })
  const weights = await model.weights()
  for (const name of weights.names) {
    await weights.set(
      name,
      weights.get(name).map((w) => Math.round(w / grid) * grid),
    )
  }
  await model.setWeights(weights)
  return model
}

const shape = [2, 6, 6]
function batches(classes: number, count: number, rows: number) {
  const width = shape.reduce((a, b) => a * b, 1)
  return Array.from({ length: count }, (_, i) => ({
    inputs: normals(rows * width, 10 + i),
    labels: Int32Array.from({ length: rows }, (_, r) => (r * (i + 1)) % classes),
  }))
}

/** Pooling by maximum and ReLU have kinks: these two networks have neither. */
const smooth: Record<string, () => NetworkSource> = {
  perceptron: () => networks.mlp({ inputShape: shape, classes: 4, hidden: [9, 7], activation: 'Tanh', seed: 3 }),
  convolutions: () => {
    const b = new networks.NetworkBuilder(shape, { seed: 4 })
    let x = b.activation(
      b.batchNorm(b.conv(b.input, 'conv1', { channels: 5, kernel: 3, padding: 1 }), 'norm1'),
      'Sigmoid',
    )
    x = b.activation(b.conv(x, 'conv2', { channels: 4, kernel: 3, stride: 2 }), 'Softplus')
    return b.build(b.linear(b.flatten(x), 'fc', { features: 3 }))
  },
}

async function valueAt(
  model: Model,
  at: Map<string, Float32Array>,
  form: CollisionForm,
  data: ReturnType<typeof batches>,
) {
  const weights = model.vector(Object.fromEntries(at))
  await model.setWeights(weights)
  weights.dispose()
  const { value, gradient } = await gradientCollision(model, data, { form, precision: 'float64' })
  gradient.dispose()
  return value
}

describe('gradientCollision', () => {
  const cases = Object.keys(smooth).flatMap((name) => (['dot', 'cosine'] as const).map((form) => [name, form] as const))

  it.each(cases)('of %s, %s: its gradient is that of finite differences to 1e-8', async (name, form) => {
    const model = await onGrid(smooth[name]())
    const data = batches(model.classes, 4, 6)
    const weights = await model.weights()
    const { gradient, batches: used } = await gradientCollision(model, data, { form, precision: 'float64' })
    expect(used).toBe(4)
    const length = await gradient.norm()
    expect(length).toBeGreaterThan(1e-3)
    for (let trial = 0; trial < 4; trial++) {
      const next = uniform(50 + trial)
      const moves = new Map(
        weights.names.map((each) => [each, weights.get(each).map(() => Math.floor(next() * 3) - 1)]),
      )
      /** Central difference along the direction at a step of so many times the grid. */
      const difference = async (times: number): Promise<number> => {
        const shifted = (sign: number) =>
          new Map(
            weights.names.map((each) => {
              const move = moves.get(each) as Float32Array
              return [each, weights.get(each).map((w, i) => w + sign * times * grid * move[i])]
            }),
          )
        const [up, down] = [await valueAt(model, shifted(1), form, data), await valueAt(model, shifted(-1), form, data)]
        return (up - down) / (2 * times * grid)
      }
      // Richardson: the errors in h^2 and h^4 fall out.
      const [a, b, c] = [await difference(2), await difference(4), await difference(8)]
      const numeric = (64 * a - 20 * b + c) / 45
      let exact = 0
      let size = 0
      for (const each of weights.names) {
        const move = moves.get(each) as Float32Array
        gradient.getFloat64(each).forEach((g, i) => {
          exact += g * move[i]
          size += move[i] ** 2
        })
      }
      expect(Math.abs(numeric - exact)).toBeLessThan(1e-8 * length * Math.sqrt(size))
    }
  })

  it.each(['dot', 'cosine'] as const)('is the mean over pairs of products of gradients: %s', async (form) => {
    const model = await onGrid(smooth.perceptron())
    const data = batches(4, 3, 5)
    const gradients = await Promise.all(data.map((batch) => model.gradient(batch, { precision: 'float64' })))
    let sum = 0
    for (const a of gradients) {
      for (const b of gradients) {
        if (a === b) continue
        sum += (await a.dot(b)) / (form === 'dot' ? 1 : (await a.norm()) * (await b.norm()))
      }
    }
    const { value, length } = await gradientCollision(model, data, { form, precision: 'float64' })
    expect(value).toBeCloseTo(sum / 6, 12)
    const squares = await Promise.all(gradients.map((g) => g.dot(g)))
    expect(length).toBeCloseTo(Math.sqrt(squares.reduce((a, b) => a + b, 0) / 3), 12)
    const datasets = data.map(({ inputs, labels }) => Dataset.fromArrays({ inputs, labels, shape, classes: 4 }))
    const again = await gradientCollision(model, datasets, { form, precision: 'float64' })
    expect(again.value).toBe(value)
  })

  it('keeps to the parameters it is given, and leaves out batches without a gradient', async () => {
    const model = await onGrid(smooth.perceptron())
    const data = batches(4, 3, 5)
    const parameters = ['fc1.weight', 'fc2.bias']
    const { gradient } = await gradientCollision(model, data, { parameters })
    for (const name of gradient.names) {
      expect(gradient.get(name).some((g) => g !== 0)).toBe(parameters.includes(name))
    }
    const lengths = await Promise.all(data.map(async (batch) => (await model.gradient(batch)).norm()))
    const least = (Math.min(...lengths) + [...lengths].sort((a, b) => a - b)[1]) / 2
    expect((await gradientCollision(model, data, { least })).batches).toBe(2)
    await expect(gradientCollision(model, data, { least: 2 * Math.max(...lengths) })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/two batches or more with a gradient longer than/) as string,
    })
  })

  it('refuses what it cannot use', async () => {
    const model = await onGrid(smooth.perceptron())
    const data = batches(4, 2, 5)
    const refused = (promise: Promise<unknown>, code: string, message: RegExp) =>
      expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
    await refused(gradientCollision(model, data.slice(1)), 'ERR_INVALID_ARGUMENT', /two batches or more for 'batches'/)
    await refused(gradientCollision(model, data, { form: 'cos' as never }), 'ERR_INVALID_ARGUMENT', /'cosine' or 'dot'/)
    await refused(gradientCollision(model, data, { lest: 1 } as never), 'ERR_INVALID_ARGUMENT', /nearest is/)
    const wrong = [data[0], { inputs: normals(10, 1), labels: new Int32Array(1) }]
    await refused(gradientCollision(model, wrong), 'ERR_SHAPE', /inputs of N x 72/)
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(gradientCollision(model, data, { signal })).rejects.toThrow('enough')
    model.dispose()
    await refused(gradientCollision(model, data), 'ERR_DISPOSED', /disposed/)
  })
})
