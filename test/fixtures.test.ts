// Every fixture network, every product, beside PyTorch's values; batches beside datasets, one micro-batch beside many.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Dataset, Model, ParameterVector, type ArrayBatch, type DType, type FloatArray } from '../lib/index.js'
import { holdData, type Held } from '../lib/model/held_data.js'
import { evaluate, lossProduct, measureLoss, type Engine } from '../lib/model/products.js'
import { readTypedSafetensors } from '../lib/safetensors.js'
import { normals, uniform } from './random.js'

const nets = ['mlp', 'lenet', 'lqf', 'vgg', 'resnet', 'mobilenet', 'vit', 'tied'] as const
const path = (name: string, ending: string) => fileURLToPath(new URL(`fixtures/${name}.${ending}`, import.meta.url))

interface Reference {
  batch: Required<ArrayBatch>
  /** [N, K] arrays. */
  rows: (key: string) => Float32Array
  /** One array a parameter. */
  vector: (key: string) => Record<string, Float32Array>
}

function readReference(name: string): Reference {
  const { tensors } = readTypedSafetensors(readFileSync(path(name, 'safetensors')))
  const floats = (key: string) => tensors.get(key)?.data as Float32Array
  const labels = Int32Array.from(tensors.get('y')?.data as BigInt64Array, Number)
  return {
    batch: { inputs: floats('x'), labels },
    rows: floats,
    vector: (key) =>
      Object.fromEntries(
        [...tensors].flatMap(([full, { data }]) =>
          full.startsWith(`${key}/`) ? [[full.slice(key.length + 1), data as Float32Array]] : [],
        ),
      ),
  }
}

const inner = (a: FloatArray, b: FloatArray): number => [...a].reduce((sum, value, i) => sum + value * b[i], 0)
const squares = (a: FloatArray): number => inner(a, a)

/** ||got - wanted||, in float64. */
function distance(got: FloatArray, wanted: FloatArray): number {
  expect(got.length).toBe(wanted.length)
  let sum = 0
  for (let i = 0; i < got.length; i++) sum += (got[i] - wanted[i]) ** 2
  return Math.sqrt(sum)
}

/** The largest ||difference|| / max(||reference||, 1e-3 ||whole|| sqrt(p/P)) over the parameters. */
function worst(got: ParameterVector, wanted: Record<string, FloatArray>): number {
  expect(Object.keys(wanted).sort()).toEqual([...got.names].sort())
  const whole = Math.sqrt(Object.values(wanted).reduce((sum, a) => sum + squares(a), 0))
  expect(whole).toBeGreaterThan(0)
  const ratios = Object.entries(wanted).map(([name, reference]) => {
    const least = 1e-3 * whole * Math.sqrt(reference.length / got.size)
    return distance(got.getFloat64(name), reference) / Math.max(Math.sqrt(squares(reference)), least)
  })
  return Math.max(...ratios)
}

const valuesOf = (v: ParameterVector): Record<string, Float64Array> =>
  Object.fromEntries(v.names.map((name) => [name, v.getFloat64(name)]))

describe.each(nets)('%s', (name) => {
  let model: Model
  let reference: Reference
  let v: ParameterVector
  let whole: Dataset
  beforeAll(async () => {
    reference = readReference(name)
    model = await Model.load(path(name, 'onnx'), { device: 'cpu' })
    v = model.vector(reference.vector('tangent'))
    const { inputs, labels } = reference.batch
    whole = Dataset.fromArrays({ inputs, labels, shape: model.inputShape, classes: model.classes })
  })
  afterAll(() => {
    v.dispose()
    whole.dispose()
    model.dispose()
  })

  /** Every quantity of the reference file, by its name there. */
  const products: Record<
    string,
    (data: ArrayBatch | Dataset, precision: DType) => Promise<FloatArray | ParameterVector>
  > = {
    logits: (data, precision) => model.evaluate(data, { precision }),
    jvp: (data, precision) => model.jvp(data, v, { precision }),
    vjp: (data, precision) => model.vjp(data, reference.rows('cotangent'), { precision }),
    grad: (data, precision) => model.gradient(data, { loss: 'crossEntropy', precision }),
    ggnvp_ce: (data, precision) => model.ggnProduct(data, v, { loss: 'crossEntropy', precision }),
    ggnvp_mse: (data, precision) => model.ggnProduct(data, v, { loss: 'squaredError', precision }),
    hvp_ce: (data, precision) => model.hessianProduct(data, v, { loss: 'crossEntropy', precision }),
    fisher_empirical: (data, precision) => model.fisherDiagonal(data, { type: 'empirical', precision }),
    fisher_exact: (data, precision) => model.fisherDiagonal(data, { type: 'exact', precision }),
  }

  it.each(Object.keys(products))("%s agrees with PyTorch's, in float32 and in float64", async (quantity) => {
    for (const [precision, bar] of [
      ['float32', 1e-5],
      // The reference's numbers are rounded to float32, as are the constants in the ONNX files (epsilon, 1/sqrt(2)).
      ['float64', 1e-7],
    ] as const) {
      const got = await products[quantity](reference.batch, precision)
      if (got instanceof ParameterVector) {
        expect(got.dtype).toBe(precision)
        expect(worst(got, reference.vector(quantity))).toBeLessThanOrEqual(bar)
      } else {
        expect(got).toBeInstanceOf(precision === 'float64' ? Float64Array : Float32Array)
        const wanted = reference.rows(quantity)
        expect(distance(got, wanted)).toBeLessThanOrEqual(bar * Math.sqrt(squares(wanted)))
      }
    }
  })

  it.each(Object.keys(products))('%s of a Dataset is bit for bit that of a batch', async (quantity) => {
    const [one, other] = [
      await products[quantity](whole, 'float32'),
      await products[quantity](reference.batch, 'float32'),
    ]
    if (one instanceof ParameterVector && other instanceof ParameterVector)
      expect(valuesOf(one)).toEqual(valuesOf(other))
    else expect(one).toEqual(other)
  })
})

/** The model's engine with its weights moved by t v, in float64. */
async function moved(model: Model, v: ParameterVector, t: number): Promise<Engine> {
  const w = await model.weights('float64')
  await w.axpy(t, v)
  return { ...model.engine, weights: async () => w.native }
}

describe.each(['mlp', 'lqf', 'mobilenet', 'vit', 'tied'])('derivatives of %s in float64', (name) => {
  const precision = 'float64'
  let model: Model
  let batch: Required<ArrayBatch>
  let held: Held
  let v: ParameterVector
  beforeAll(async () => {
    const reference = readReference(name)
    batch = reference.batch
    model = await Model.load(path(name, 'onnx'))
    held = holdData(batch, model.engine, true)
    v = model.vector(reference.vector('tangent'), { dtype: 'float64' })
    await v.scale(1 / (await v.norm()))
  })

  // Piecewise linear networks: a step this short crosses no kink of the fixtures.
  const t = 2 ** -15
  const difference = async (of: (engine: Engine) => Promise<FloatArray>): Promise<Float64Array> => {
    const [above, below] = [await of(await moved(model, v, t)), await of(await moved(model, v, -t))]
    return Float64Array.from(above, (value, i) => (value - below[i]) / (2 * t))
  }
  const flat = (u: ParameterVector) => Float64Array.from(u.names.flatMap((each) => [...u.getFloat64(each)]))
  const near = (got: FloatArray, wanted: FloatArray) =>
    expect(distance(got, wanted)).toBeLessThanOrEqual(1e-7 * Math.sqrt(squares(wanted)))

  it('jvp, gradient and hessianProduct are limits of central differences', async () => {
    near(await difference((engine) => evaluate(engine, held, { precision })), await model.jvp(batch, v, { precision }))
    const slope = await difference(async (engine) => [(await measureLoss(engine, held, { precision })).loss] as never)
    const gradient = await model.gradient(batch, { precision })
    near(slope, Float64Array.of(await gradient.dot(v)))
    near(
      await difference(async (engine) =>
        flat(new ParameterVector(await lossProduct(engine, 'gradient', held, undefined, { precision }))),
      ),
      flat(await model.hessianProduct(batch, v, { precision })),
    )
  })

  it('vjp is the adjoint of jvp; both curvatures are symmetric', async () => {
    const close = (a: number, b: number, scale: number) => expect(Math.abs(a - b)).toBeLessThanOrEqual(1e-12 * scale)
    const u = Float64Array.from(normals(batch.labels.length * model.classes, 5))
    const jv = await model.jvp(batch, v, { precision })
    const ju = await model.vjp(batch, u, { precision })
    close(inner(u, jv), await ju.dot(v), Math.sqrt(squares(u) * squares(jv)) + (await ju.norm()))
    expect(Math.sqrt(squares(jv))).toBeGreaterThan(0)

    const other = await model.gradient(batch, { precision })
    for (const product of ['ggnProduct', 'hessianProduct'] as const) {
      const hv = await model[product](batch, v, { precision })
      const ho = await model[product](batch, other, { precision })
      close(await hv.dot(other), await ho.dot(v), (await hv.norm()) * (await other.norm()) + (await ho.norm()))
    }
  })
})

describe('rows in more than one micro-batch', () => {
  // 256 + 256 + 88: the last one is padded and masked.
  const rows = 600
  const cuts = [0, 256, 512, 600]
  it.each(['mlp', 'tied'])('%s: every product is the mean of those over the pieces', async (name) => {
    const model = await Model.load(path(name, 'onnx'))
    const width = model.inputShape.reduce((a, b) => a * b, 1)
    const next = uniform(3)
    const inputs = normals(rows * width, 2)
    const labels = Int32Array.from({ length: rows }, () => Math.floor(next() * model.classes))
    const whole = Dataset.fromArrays({ inputs, labels, shape: model.inputShape, classes: model.classes })
    const v = model.vector(readReference(name).vector('tangent'))
    const options = { precision: 'float64' } as const
    const products: ((data: ArrayBatch | Dataset) => Promise<ParameterVector>)[] = [
      (data) => model.gradient(data, options),
      (data) => model.gradient(data, { ...options, loss: 'squaredError', targetScale: 3 }),
      (data) => model.ggnProduct(data, v, options),
      (data) => model.hessianProduct(data, v, options),
      (data) => model.fisherDiagonal(data, options),
      (data) => model.fisherDiagonal(data, { ...options, type: 'exact' }),
    ]
    const piece = (i: number) => ({
      inputs: inputs.subarray(cuts[i] * width, cuts[i + 1] * width),
      labels: labels.subarray(cuts[i], cuts[i + 1]),
    })
    for (const product of products) {
      const mean = model.vector({}, { dtype: 'float64' })
      for (let i = 0; i < 3; i++) await mean.axpy((cuts[i + 1] - cuts[i]) / rows, await product(piece(i)))
      const size = await mean.norm()
      expect(size).toBeGreaterThan(0)
      for (const data of [whole, { inputs, labels }]) {
        const got = await product(data)
        await got.axpy(-1, mean)
        expect(await got.norm()).toBeLessThanOrEqual(1e-13 * size)
      }
    }
    const cotangent = normals(rows * model.classes, 7)
    const sum = model.vector({}, { dtype: 'float64' })
    for (let i = 0; i < 3; i++) {
      const part = cotangent.subarray(cuts[i] * model.classes, cuts[i + 1] * model.classes)
      await sum.axpy(1, await model.vjp(piece(i), part, options))
    }
    const size = await sum.norm()
    const got = await model.vjp(whole, cotangent, options)
    await got.axpy(-1, sum)
    expect(await got.norm()).toBeLessThanOrEqual(1e-13 * size)

    for (const rowsOf of [
      (data: ArrayBatch | Dataset) => model.evaluate(data, options),
      (data: ArrayBatch | Dataset) => model.jvp(data, v, options),
    ]) {
      const pieces = await Promise.all([0, 1, 2].map((i) => rowsOf(piece(i))))
      const wanted = Float64Array.from(pieces.flatMap((part) => [...part]))
      expect(distance(await rowsOf(whole), wanted)).toBeLessThanOrEqual(1e-14 * Math.sqrt(squares(wanted)))
    }
    const { loss, accuracy } = await model.measure(whole)
    const logits = await model.evaluate(whole, options)
    let mean = 0
    let right = 0
    for (let i = 0; i < rows; i++) {
      const z = [...logits.subarray(i * model.classes, (i + 1) * model.classes)]
      const most = Math.max(...z)
      mean += (most + Math.log(z.reduce((s, value) => s + Math.exp(value - most), 0)) - z[labels[i]]) / rows
      right += Number(z.indexOf(most) === labels[i])
    }
    expect(loss).toBeCloseTo(mean, 4)
    expect(accuracy).toBeCloseTo(right / rows, 10)
  })
})

describe("fisherDiagonal({ type: 'mc' })", () => {
  it('comes to the exact one as samples grow, repeats for a seed and differs between seeds', async () => {
    const model = await Model.load(path('mlp', 'onnx'))
    const { batch } = readReference('mlp')
    const exact = await model.fisherDiagonal(batch, { type: 'exact', precision: 'float64' })
    const size = await exact.norm()
    const errorOf = async (samples: number, seed: number) => {
      const drawn = await model.fisherDiagonal(batch, { type: 'mc', samples, seed, precision: 'float64' })
      await drawn.axpy(-1, exact)
      return (await drawn.norm()) / size
    }
    const few = await Promise.all([1, 2, 3, 4].map((seed) => errorOf(32, seed)))
    const many = await errorOf(2048, 5)
    const mean = few.reduce((a, b) => a + b, 0) / few.length
    // Standard errors fall by 8.
    expect(many).toBeLessThan(mean / 3)
    expect(many).toBeLessThan(0.1)
    expect(new Set(few).size).toBe(4)
    expect(await errorOf(32, 1)).toBe(few[0])
  })
})
