// TangentModel: options, heads, fit, and every verb in every state that it should not be called in.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  bound,
  Dataset,
  fit,
  forget,
  forgetAll,
  Model,
  networks,
  PalimpsestError,
  TangentModel,
  type NetworkSource,
} from '../lib/index.js'
import { readSafetensors, writeSafetensors } from '../lib/safetensors.js'
import { guaranteeOf } from '../lib/tangent/ledger.js'
import { normals } from './random.js'
import { distanceOf, normOf, retrain, userWeights } from './retrained.js'
import { classes, datasetOf, fitted, layerChoices, makeCore, makeRows, rowCount, width } from './tangent_models.js'

const rows = makeRows()
const inputs = normals(20 * width, 8)

/** All that a verb may change. */
async function snapshot(model: TangentModel) {
  return {
    weights: await userWeights(model),
    outputs: await model.evaluate({ inputs }),
    ledger: model.ledger,
    digests: await model.data?.digests(),
    bound: bound(model),
  }
}

async function refused(call: () => unknown, code: string, message = /^expected .+, got .+/s): Promise<PalimpsestError> {
  const error: unknown = await Promise.resolve()
    .then(call)
    .then(
      () => 'nothing was thrown',
      (thrown: unknown) => thrown,
    )
  expect(error).toBeInstanceOf(PalimpsestError)
  const { code: got, message: text } = error as PalimpsestError
  expect({ code: got, text }).toMatchObject({ code })
  expect(text).toMatch(message)
  return error as PalimpsestError
}

describe('TangentModel.at', () => {
  const core = makeCore()
  it('has defaults that are said, and keeps what it was given', () => {
    const model = TangentModel.at(core)
    expect(model).toMatchObject({
      layers: 'all',
      damping: 1,
      targetScale: 15,
      classes,
      inputShape: [width],
      device: 'cpu',
    })
    expect(model.parameters).toEqual(['fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'])
    expect(TangentModel.at(core, { layers: 'head' }).parameters).toEqual(['fc2.weight', 'fc2.bias'])
    const names = ['fc2.bias', 'fc1.weight']
    const some = TangentModel.at(core, { layers: names })
    names.pop()
    expect(some.parameters).toEqual(['fc1.weight', 'fc2.bias'])
    expect(some.layers).toHaveLength(2)
  })

  it.each([
    [{ damping: -1 }, /a number above 0 for 'damping', got -1/],
    [{ damping: 0 }, /'damping'/],
    [{ damping: NaN }, /'damping', got NaN/],
    [{ damping: '1' }, /'damping', got '1'/],
    [{ targetScale: Infinity }, /'targetScale', got Infinity/],
    [{ targetscale: 1 }, /the nearest is 'targetScale'/],
    [{ layers: [] }, /'layers'/],
    [{ layers: 'heads' }, /'all', 'head' or a list of parameter names for 'layers', got 'heads'/],
    [{ layers: ['fc3.weight'] }, /names of parameters \(fc1\.weight.* for 'layers', got 'fc3\.weight'/],
    [{ layers: ['fc1.bias', 'fc1.bias'] }, /each name once/],
    [{ publicData: {} }, /a Dataset for 'publicData'/],
    [7, /a plain object/],
  ])('refuses %j', async (options, message) => {
    await refused(() => TangentModel.at(core, options as never), 'ERR_INVALID_ARGUMENT', message)
  })

  it('refuses public rows of another shape, what is no model, and a disposed core', async () => {
    const other = Dataset.fromArrays({ inputs: new Float32Array(4), labels: [0], shape: [4], classes })
    await refused(() => TangentModel.at(core, { publicData: other }), 'ERR_SHAPE')
    await refused(() => TangentModel.at({} as Model), 'ERR_INVALID_ARGUMENT')
    const gone = makeCore()
    gone.dispose()
    await refused(() => TangentModel.at(gone), 'ERR_DISPOSED')
  })

  it('gives the core bit for bit before it is fitted', async () => {
    for (const [, layers] of layerChoices) {
      const model = TangentModel.at(core, { layers })
      expect(await model.evaluate({ inputs })).toEqual(await core.evaluate({ inputs }))
      expect(model.data).toBeUndefined()
      expect(model.ledger).toEqual([])
    }
  })
})

describe("layers: 'head'", () => {
  const leaf = (id: number, name: string, shape: number[]) => ({ kind: 'parameter', id, name, shape }) as const
  const parameters = (shapes: Record<string, number[]>) =>
    new Map(
      Object.entries(shapes).map(([name, shape], i) => [
        name,
        {
          shape,
          data: normals(
            shape.reduce((a, b) => a * b, 1),
            20 + i,
          ),
        },
      ]),
    )
  const input = { kind: 'input', id: 0 } as const
  const source = (nodes: NetworkSource['network']['nodes'], shapes: Record<string, number[]>): NetworkSource => ({
    network: {
      inputShape: [width],
      classes,
      leaves: [input, ...Object.entries(shapes).map(([name, shape], i) => leaf(i + 1, name, shape))],
      nodes,
      output: nodes[nodes.length - 1].outputs[0],
    },
    parameters: parameters(shapes),
  })
  const node = (op: string, ins: number[], out: number, attributes = {}) => ({
    op,
    inputs: ins,
    outputs: [out],
    attributes,
  })

  it.each([
    ['a single layer', source([node('MatMul', [0, 1], 9, { transB: true })], { w: [classes, width] })],
    ['inputs first', source([node('Tanh', [0], 8), node('MatMul', [8, 1], 9)], { w: [width, classes] })],
    [
      'a weight that is transposed, and a bias in front',
      source(
        [
          node('Transpose', [1], 7, { perm: [1, 0] }),
          node('MatMul', [0, 7], 8),
          node('Reshape', [2], 10, { dims: [1, classes] }),
          node('Add', [10, 8], 9),
        ],
        { w: [classes, width], b: [classes] },
      ),
    ],
  ])('is found in %s, and solved as exact retraining would', async (_, made) => {
    const model = TangentModel.at(Model.fromNetwork(made), { layers: 'head' })
    await fit(model, datasetOf(rows))
    const report = await forget(model, { where: { owner: 'o2' }, noise: 'none' })
    const kept = [...rows.labels.keys()].filter((i) => rows.owners[i] !== 'o2')
    const { weights } = await retrain(model, datasetOf(rows, kept))
    const distance = distanceOf(await userWeights(model), weights)
    expect(distance / normOf(weights)).toBeLessThan(1e-6)
    expect(report.bound.measured!.distance).toBeGreaterThanOrEqual(distance)
    expect(report.bound.measured!.distance).toBeLessThan(1.05 * distance)
  })

  it.each([
    ['a nonlinear end', source([node('MatMul', [0, 1], 8), node('Tanh', [8], 9)], { w: [width, classes] })],
    [
      'a weight with two uses',
      source(
        [
          node('MatMul', [0, 1], 7, { transB: true }),
          node('MatMul', [7, 1], 8),
          node('MatMul', [8, 1], 9, { transB: true }),
        ],
        { w: [classes, width] },
      ),
    ],
    [
      'a bias with two uses',
      source([node('MatMul', [0, 1], 7), node('Add', [7, 2], 8), node('MatMul', [8, 3], 9), node('Add', [9, 2], 10)], {
        w: [width, classes],
        b: [classes],
        v: [classes, classes],
      }),
    ],
    [
      'one number for all outputs',
      source([node('MatMul', [0, 1], 8), node('Add', [8, 2], 9)], { w: [width, classes], b: [1] }),
    ],
    ['a scaled product', source([node('MatMul', [0, 1], 9, { alpha: 0.5 })], { w: [width, classes] })],
  ])('is refused where the network ends in %s', async (_, made) => {
    await refused(() => TangentModel.at(Model.fromNetwork(made), { layers: 'head' }), 'ERR_UNSUPPORTED')
  })
})

describe.each(layerChoices)('fit() with layers: %s', (_, layers) => {
  it('comes to the exact minimiser within its tolerance, and says how near', async () => {
    const core = makeCore()
    for (const tolerance of [1e-2, 1e-5]) {
      const model = TangentModel.at(core, { layers })
      const report = await fit(model, datasetOf(rows), { tolerance })
      const { weights } = await retrain(model, datasetOf(rows))
      const w = await userWeights(model)
      const distance = distanceOf(w, weights)
      expect(report.distance).toBeGreaterThanOrEqual(distance)
      expect(report.distance / normOf(w)).toBeLessThanOrEqual(tolerance)
      expect(report).toMatchObject({ verb: 'fit', rows: rowCount, device: 'cpu', options: { tolerance } })
      expect(w.every((value) => Math.fround(value) === value)).toBe(true)
      expect((await model.measure(datasetOf(rows))).accuracy).toBeGreaterThan(0.6)
    }
  })

  it('repeats its bits, and is refused for rows that do not fit, the model as before', async () => {
    const [one, other] = [await fitted(layers), await fitted(layers)]
    expect(await userWeights(one)).toEqual(await userWeights(other))
    const before = await snapshot(one)
    const { labels } = rows
    const nine = Dataset.fromArrays({ inputs: rows.inputs, labels, shape: [width], classes: 9 })
    await refused(() => fit(one, nine), 'ERR_SHAPE')
    const flat = Dataset.fromArrays({ inputs: rows.inputs, labels, shape: [2, 3], classes })
    await refused(() => fit(one, flat), 'ERR_SHAPE')
    await refused(() => fit(one, datasetOf(rows).subset([])), 'ERR_INVALID_ARGUMENT')
    await refused(() => fit(one, {} as Dataset), 'ERR_INVALID_ARGUMENT')
    await refused(
      () => fit(one, datasetOf(rows), { tolerence: 1 } as never),
      'ERR_INVALID_ARGUMENT',
      /nearest is 'tolerance'/,
    )
    await refused(() => fit(one, datasetOf(rows), { tolerance: -1 }), 'ERR_INVALID_ARGUMENT')
    const gone = datasetOf(rows)
    gone.dispose()
    await refused(() => fit(one, gone), 'ERR_DISPOSED')
    expect(await snapshot(one)).toEqual(before)
    expect(() => Dataset.fromArrays({ inputs: rows.inputs, labels: labels.map(() => -1), shape: [width] })).toThrow(
      PalimpsestError,
    )
  })

  it('may lose its dataset afterwards: the rows are kept until the model is disposed', async () => {
    const data = datasetOf(rows)
    const model = TangentModel.at(makeCore(), { layers })
    await fit(model, data)
    data.dispose()
    expect((await forget(model, { where: { owner: 'o1' }, noise: 'none' })).forgotten).toBe(6)
    const before = await snapshot(model)
    model.data!.dispose()
    await refused(() => forget(model, { where: { owner: 'o2' }, noise: 'none' }), 'ERR_DISPOSED')
    expect(await userWeights(model)).toEqual(before.weights)
    await fit(model, datasetOf(rows))
    expect(model.data!.size).toBe(rowCount)
  })
})

it('fit() says that it did not converge, with a report, and leaves the model as before', async () => {
  const model = await fitted()
  const before = await snapshot(model)
  const error = await refused(
    () => fit(model, datasetOf(rows), { tolerance: 1e-6, maxIterations: 2 }),
    'ERR_NOT_CONVERGED',
  )
  const { iterations, distance, wanted } = error.report as Record<string, number>
  expect(iterations).toBe(2)
  expect(wanted).toBeGreaterThan(0)
  expect(distance).toBeGreaterThan(wanted)
  const stalled = await refused(() => fit(model, datasetOf(rows), { tolerance: 1e-12 }), 'ERR_NOT_CONVERGED')
  expect((stalled.report as { iterations: number }).iterations).toBeLessThan(500)
  expect(await snapshot(model)).toEqual(before)
})

it('a closed form, and a control that was given one, are held to their tolerance too', async () => {
  const model = await fitted('head')
  const before = await snapshot(model)
  const where = { owner: 'o2' }
  // The weights that are served are float32: no 1e-12 of them can be had.
  const calls = [
    () => fit(model, datasetOf(rows), { tolerance: 1e-12 }),
    () => forget(model, { where, noise: 'none', tolerance: 1e-12 }),
    () => forget(model, { where, solver: 'refit', tolerance: 1e-12 }),
    () => forget(model, { where, noise: 'none', solver: 'sgd', tolerance: 1e-6 }),
  ]
  for (const call of calls) {
    const error = await refused(call, 'ERR_NOT_CONVERGED')
    const { distance, wanted } = error.report as Record<string, number>
    expect(wanted).toBeGreaterThan(0)
    expect(distance).toBeGreaterThan(wanted)
    expect(await snapshot(model)).toEqual(before)
  }
  const report = await forget(model, { where, noise: 'none', tolerance: 1e-5 })
  expect(report.bound.measured!.distance).toBeGreaterThan(0)
})

/** Requests that are refused whatever the model, with code and message. */
const badRequests: [string, object, string, RegExp?][] = [
  ['neither where nor rows', {}, 'ERR_INVALID_ARGUMENT', /exactly one of 'where' and 'rows'/],
  ['both where and rows', { where: { owner: 'o1' }, rows: datasetOf(rows, [1]) }, 'ERR_INVALID_ARGUMENT', /got 'both'/],
  ['an owner nobody is', { where: { owner: 'nobody' } }, 'ERR_INVALID_ARGUMENT', /one fitted row or more/],
  ['an empty list', { where: [] }, 'ERR_INVALID_ARGUMENT', /one fitted row or more/],
  ['no row of a predicate', { where: () => false }, 'ERR_INVALID_ARGUMENT', /one fitted row or more/],
  ['all rows', { where: () => true }, 'ERR_INVALID_ARGUMENT', /forgetAll\(\) forgets every row.*all 60 rows/],
  ['a class there is not', { where: { class: 5 } }, 'ERR_INVALID_ARGUMENT'],
  ['a position there is not', { where: { indices: [60] } }, 'ERR_INVALID_ARGUMENT'],
  ['keys there are not', { where: { id: 'x' } }, 'ERR_INVALID_ARGUMENT'],
  ['an unknown key of a selection', { where: { owners: 'o1' } }, 'ERR_INVALID_ARGUMENT', /nearest is 'owner'/],
  ['a selection that is none', { where: 7 }, 'ERR_INVALID_ARGUMENT'],
  ['rows that were never fitted', { rows: datasetOf(makeRows(2, 77)) }, 'ERR_NOT_FITTED'],
  ['rows that are no Dataset', { rows: [1] }, 'ERR_INVALID_ARGUMENT'],
  ['an unknown key', { where: { owner: 'o1' }, tolerence: 1 }, 'ERR_INVALID_ARGUMENT', /nearest is 'tolerance'/],
  ['noise that is not a number', { where: { owner: 'o1' }, noise: NaN }, 'ERR_INVALID_ARGUMENT', /'noise', got NaN/],
  ['negative noise', { where: { owner: 'o1' }, noise: -1 }, 'ERR_INVALID_ARGUMENT'],
  ['noise too small for the grid', { where: { owner: 'o1' }, noise: 1e-300 }, 'ERR_INVALID_ARGUMENT'],
  ['noise beyond float32', { where: { owner: 'o1' }, noise: 1e39 }, 'ERR_INVALID_ARGUMENT'],
  [
    'a target without noise',
    { where: { owner: 'o1' }, noise: 'none', target: { nats: 1 } },
    'ERR_INVALID_ARGUMENT',
    /'target'/,
  ],
  ['a tolerance with noise', { where: { owner: 'o1' }, tolerance: 1e-3 }, 'ERR_INVALID_ARGUMENT', /'tolerance'/],
  ['nats of zero', { where: { owner: 'o1' }, target: { nats: 0 } }, 'ERR_INVALID_ARGUMENT', /\{ nats \} above 0/],
  ['epsilon without delta', { where: { owner: 'o1' }, target: { epsilon: 1 } }, 'ERR_INVALID_ARGUMENT'],
  ['a target in both', { where: { owner: 'o1' }, target: { nats: 1, delta: 0.1 } }, 'ERR_INVALID_ARGUMENT'],
  [
    'two deltas',
    { where: { owner: 'o1' }, target: { epsilon: 1, delta: 1e-6 }, delta: 1e-5 },
    'ERR_INVALID_ARGUMENT',
    /'delta'/,
  ],
  [
    'a target below the grid',
    { where: { owner: 'o1' }, target: { nats: 1e-16 } },
    'ERR_INVALID_ARGUMENT',
    /at least .* nats/,
  ],
  ['an unknown solver', { where: { owner: 'o1' }, solver: 'cg' }, 'ERR_INVALID_ARGUMENT'],
  ['no iterations', { where: { owner: 'o1' }, maxIterations: 0 }, 'ERR_INVALID_ARGUMENT'],
  ['a signal that is none', { where: { owner: 'o1' }, signal: 1 }, 'ERR_INVALID_ARGUMENT'],
  ['no object', [], 'ERR_INVALID_ARGUMENT'],
]

describe.each(layerChoices)('states of a model with layers: %s', (_, layers) => {
  const where = { owner: 'o4' }
  const verbs: Record<string, (model: TangentModel, options?: object) => Promise<unknown>> = {
    fit: (model, options) => fit(model, datasetOf(rows), options),
    forget: (model, options) => forget(model, { where, noise: 'none', ...options }),
    'forget with noise': (model, options) => forget(model, { where, ...options }),
    refit: (model, options) => forget(model, { where, solver: 'refit', ...options }),
    sgd: (model, options) => forget(model, { where, solver: 'sgd', noise: 'none', ...options }),
    forgetAll: (model) => forgetAll(model),
    evaluate: (model, options) => model.evaluate(datasetOf(rows), options),
    measure: (model, options) => model.measure(datasetOf(rows), options),
    weights: (model) => model.weights(),
    exportOnnx: (model) => model.exportOnnx(),
    bound: (model) => Promise.resolve().then(() => bound(model)),
    data: (model) => Promise.resolve().then(() => model.data),
    ledger: (model) => Promise.resolve().then(() => model.ledger),
  }
  const long = ['fit', 'forget', 'forget with noise', 'refit', 'sgd', 'evaluate', 'measure']

  it.each(Object.keys(verbs))('%s: refused on a disposed model or core, and on a core that changed', async (verb) => {
    const model = await fitted(layers)
    model.dispose()
    model.dispose()
    await refused(() => verbs[verb](model), 'ERR_DISPOSED')
    const orphan = await fitted(layers)
    orphan.core.dispose()
    await refused(() => verbs[verb](orphan), 'ERR_DISPOSED')
    orphan.dispose()
    const changed = await fitted(layers)
    await changed.core.setWeights(await changed.core.weights())
    await refused(() => verbs[verb](changed), 'ERR_INVALID_ARGUMENT', /the core as it was linearised/)
    changed.dispose()
  })

  it.each(long)('%s: aborted beforehand, at any step, or by a callback that throws', async (verb) => {
    const model = await fitted(layers)
    const before = await snapshot(model)
    const reason = new Error('not today')
    await expect(verbs[verb](model, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(await snapshot(model)).toEqual(before)
    let ended = false
    for (let step = 1; !ended && step < 40; step = Math.ceil(step * 1.7)) {
      for (const how of ['abort', 'throw']) {
        const controller = new AbortController()
        let seen = 0
        const onProgress = () => {
          if (++seen !== step) return
          if (how === 'throw') throw reason
          controller.abort(reason)
        }
        const twin = await fitted(layers)
        await verbs[verb](twin, { signal: controller.signal, onProgress }).then(
          // Aborted by the very last step, or never: then it is done.
          () => (ended = true),
          async (error: unknown) => {
            expect(error).toBe(reason)
            expect(await snapshot(twin)).toEqual(before)
          },
        )
        twin.dispose()
      }
    }
    await verbs[verb](model)
  })

  it('two verbs at once are refused, and the first goes on', async () => {
    const model = await fitted(layers)
    const first = forget(model, { where, noise: 'none' })
    for (const verb of ['fit', 'forget', 'refit', 'forgetAll']) {
      await refused(() => verbs[verb](model), 'ERR_INVALID_ARGUMENT', /two at once/)
    }
    expect((await first).forgotten).toBe(6)
    expect(model.data!.size).toBe(rowCount - 6)
    await verbs.forgetAll(model)
  })

  it('evaluations go on with the weights they began with', async () => {
    const model = await fitted(layers)
    const many = normals(4000 * width, 5)
    const before = await model.evaluate({ inputs: many })
    const running = model.evaluate({ inputs: many })
    await forget(model, { where, noise: 0.5 })
    expect(await running).toEqual(before)
    expect(await model.evaluate({ inputs: many })).not.toEqual(before)
  })

  it('a core that changes, or a model that is disposed, in the middle: an error, and no half state', async () => {
    const model = await fitted(layers)
    const weights = await model.core.weights()
    const running = forget(model, { where, noise: 'none' })
    await model.core.setWeights(weights)
    await refused(() => running, 'ERR_INVALID_ARGUMENT', /the core as it was linearised/)
    const other = await fitted(layers)
    const second = forget(other, { where, noise: 'none' })
    other.dispose()
    await refused(() => second, 'ERR_DISPOSED')
    const third = await fitted(layers)
    const orphaned = forget(third, { where, noise: 'none' })
    third.core.dispose()
    await refused(() => orphaned, 'ERR_DISPOSED')
  })

  it.each(badRequests)('forget() refuses %s, and the model is as before', async (__, options, code, message) => {
    const model = await fitted(layers)
    const before = await snapshot(model)
    await refused(() => forget(model, options), code, message)
    expect(await snapshot(model)).toEqual(before)
    model.dispose()
  })

  it('forget() refuses noise of its own making where nothing says how large, and shapes without a factor', async () => {
    const model = TangentModel.at(makeCore(), { layers })
    await refused(() => forget(model, { where }), 'ERR_NOT_FITTED')
    await fit(model, datasetOf(rows))
    const before = await snapshot(model)
    await refused(() => forget(model, { where }), 'ERR_INVALID_ARGUMENT', /made with publicData/)
    if (layers !== 'head') {
      await refused(
        () => forget(model, { where, noise: 1, noiseShape: 'curvature' }),
        'ERR_UNSUPPORTED',
        /exact factor/,
      )
    }
    await refused(
      () => forget(model, { where, noiseShape: 'curvature', noise: 'none' }),
      'ERR_UNSUPPORTED',
      /exact factor/,
    )
    const broken = new Error('of the predicate')
    const throwing = () => {
      throw broken
    }
    await expect(forget(model, { where: throwing, noise: 'none' })).rejects.toBe(broken)
    expect(await snapshot(model)).toEqual(before)
    expect((await forget(model, { where, solver: 'refit' })).solver).toBe('refit')
  })

  it('is saved as it was released and nothing else, and goes on after it was loaded', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
    try {
      const model = await fitted(layers)
      const { bound: found } = await forget(model, { where, noise: 0.25 })
      const file = path.join(folder, 'user.safetensors')
      await model.save(file)
      expect(readdirSync(folder)).toEqual(['user.safetensors'])
      const loaded = await TangentModel.load(file, model.core, { data: datasetOf(rows) })
      expect(await userWeights(loaded)).toEqual(await userWeights(model))
      expect(await loaded.evaluate({ inputs })).toEqual(await model.evaluate({ inputs }))
      expect(loaded.ledger).toEqual(model.ledger)
      expect(bound(loaded)).toEqual(bound(model))
      const text = JSON.stringify([loaded.ledger, bound(loaded)])
      for (const value of Object.values(found.measured!)) expect(text).not.toContain(String(value))
      const [a, b] = [
        await forget(model, { where: { owner: 'o5' }, noise: 'none' }),
        await forget(loaded, { where: { owner: 'o5' }, noise: 'none' }),
      ]
      expect(b.forgotten).toBe(a.forgotten)
      expect(normOf(await userWeights(loaded))).toBeCloseTo(normOf(await userWeights(model)), 3)
      await refused(() => TangentModel.load(file, makeCore(9)), 'ERR_INVALID_ARGUMENT', /core/)
      const lost = datasetOf(rows, [1, 2, 3])
      await refused(() => TangentModel.load(file, model.core, { data: lost }), 'ERR_NOT_FITTED', /expected the rows/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

const release = (change: object) => ({
  number: 1,
  kind: 'forget',
  noiseScale: 1,
  noiseShape: 'isotropic',
  targetDistance: 0.1,
  delta: 1e-6,
  guaranteed: guaranteeOf(0.1, 1e-6),
  ...change,
})

describe('files of a TangentModel', () => {
  it('are those of one graph, and of rows that are prepared as they were', async () => {
    const core = (activation: 'Relu' | 'LeakyRelu') =>
      Model.fromNetwork(networks.mlp({ inputShape: [4], classes: 3, hidden: [5], activation, seed: 1 }))
    const arrays = { inputs: Uint8Array.from({ length: 48 }, (_, i) => (i * 37) % 256), shape: [4], classes: 3 }
    const labels = Int32Array.from({ length: 12 }, (_, i) => i % 3)
    const dataOf = (scale: number) => Dataset.fromArrays({ ...arrays, labels, normalize: { scale } })
    const model = TangentModel.at(core('Relu'))
    await fit(model, dataOf(1 / 255))
    const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
    try {
      const file = path.join(folder, 'user.safetensors')
      await model.save(file)
      await refused(() => TangentModel.load(file, core('LeakyRelu')), 'ERR_INVALID_ARGUMENT', /'core'/)
      const other = { data: dataOf(1 / 128) }
      await refused(
        () => TangentModel.load(file, core('Relu'), other),
        'ERR_INVALID_ARGUMENT',
        /normalised by the same/,
      )
      // Without rows it is saved again with what it said of them.
      const bare = await TangentModel.load(file, core('Relu'))
      await bare.save(file)
      await refused(
        () => TangentModel.load(file, core('Relu'), other),
        'ERR_INVALID_ARGUMENT',
        /normalised by the same/,
      )
      await TangentModel.load(file, core('Relu'), { data: dataOf(1 / 255) })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('do not guess which of two equal rows of different owners was fitted', async () => {
    const core = makeCore()
    const { inputs: values, labels } = rows
    const twice = (owners: string[]) => {
      const order = [0, 0, ...Array.from({ length: 20 }, (_, i) => i + 1)]
      const all = order.flatMap((row) => [...values.subarray(row * width, (row + 1) * width)])
      const named = [...owners, ...order.slice(2).map((row) => `o${row % 3}`)]
      const shape = core.inputShape
      return Dataset.fromArrays({ inputs: Float32Array.from(all), labels: order.map((row) => labels[row]), shape, classes, owners: named }) // prettier-ignore
    }
    const model = TangentModel.at(core)
    await fit(model, twice(['a', 'b']))
    await forget(model, { where: { owner: 'a' }, noise: 'none' })
    const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
    try {
      const file = path.join(folder, 'user.safetensors')
      await model.save(file)
      await refused(() => TangentModel.load(file, core, { data: twice(['a', 'b']) }), 'ERR_NOT_FITTED', /equal rows/)
      const loaded = await TangentModel.load(file, core, { data: twice(['a', 'b']).without({ owner: 'a' }) })
      expect((await forget(loaded, { where: { owner: 'b' }, noise: 'none' })).forgotten).toBe(1)
      await TangentModel.load(file, core, { data: twice(['a', 'a']) })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it.each([
    ['no header', undefined],
    ['text', 'text'],
    ['null', 'null'],
    ['another format', { format: 'x' }],
    ['a version to come', { version: 3 }],
    ['a version before', { version: 1 }],
    ['rows that are no digests', { rows: [1] }],
    ['a ledger of something else', { ledger: [{ number: 1 }] }],
    ['a core that is not named', { core: 7 }],
    ['another core', { core: 'f'.repeat(64) }],
    ['other layers than its weights', { layers: ['fc1.bias'] }],
    ['layers there are not', { layers: ['fc7.bias'] }],
    ['damping below zero', { damping: -1 }],
    ['rows prepared in a way that is not named', { preparation: 1 }],
    ['a guarantee without a distance', { ledger: [release({ targetDistance: null })] }],
    [
      'another guarantee than its distance',
      { ledger: [release({ guaranteed: { ...guaranteeOf(0.1, 1e-6), nats: 1e-9 } })] },
    ],
    ['half a guarantee', { ledger: [release({ guaranteed: { delta: 1e-6, exact: true } })] }],
  ] as [string, object | string | undefined][])('with %s are refused', async (_, change) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
    try {
      const model = await fitted()
      const file = path.join(folder, 'user.safetensors')
      await model.save(file)
      const { tensors, metadata } = readSafetensors(readFileSync(file))
      const header = JSON.parse(metadata.palimpsest) as object
      const text = typeof change === 'object' ? JSON.stringify({ ...header, ...change }) : change
      const bytes = writeSafetensors(tensors, text === undefined ? {} : { palimpsest: text })
      const error = await refused(
        () => TangentModel.load(bytes, model.core),
        /another core|layers there|damping/.test(_) ? 'ERR_INVALID_ARGUMENT' : 'ERR_MODEL_FORMAT',
      )
      expect(error.message).not.toContain('undefined')
      await refused(
        () => TangentModel.load(file, model.core, { dta: 1 } as never),
        'ERR_INVALID_ARGUMENT',
        /nearest is 'data'/,
      )
      await refused(() => TangentModel.load(path.join(folder, 'none'), model.core), 'ERR_IO', /could not read/)
      expect((await TangentModel.load(readFileSync(file), model.core)).ledger).toHaveLength(1)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

it('networks with batch normalisation and pooling are linearised at their running statistics', async () => {
  const core = Model.fromNetwork(networks.resnet20({ width: 2, inputShape: [1, 8, 8], classes: 3, seed: 2 }))
  const count = 24
  const data = Dataset.fromArrays({
    inputs: normals(count * 64, 3),
    labels: Int32Array.from({ length: count }, (_, i) => i % 3),
    shape: [1, 8, 8],
    classes: 3,
  })
  const names = core.parameters.map(({ name }) => name)
  const model = TangentModel.at(core, { layers: ['conv1.weight', 'bn1.bias', ...names.slice(-2)] })
  await fit(model, data)
  const { bound: found } = await forget(model, { where: { class: 2 }, noise: 'none' })
  const { weights } = await retrain(model, data.where({ class: [0, 1] }))
  const distance = distanceOf(await userWeights(model), weights)
  expect(distance / normOf(weights)).toBeLessThanOrEqual(1e-4)
  expect(found.measured!.distance).toBeGreaterThanOrEqual(distance)
})

it.each(['fit', 'loadWeights'])('the last layer alone is solved at the running statistics after %s()', async (how) => {
  const source = networks.resnet20({ width: 2, inputShape: [1, 8, 8], classes: 3, seed: 2 })
  const trained = Model.fromNetwork(source)
  const labels = Int32Array.from({ length: 24 }, (_, i) => i % 3)
  const shape = [1, 8, 8]
  const data = Dataset.fromArrays({ inputs: normals(24 * 64, 3).map((x) => 3 * x + 1), labels, shape, classes: 3 })
  await fit(trained, data, { steps: 3, batchSize: 12, batchNormMomentum: 0.5 })
  const folder = mkdtempSync(path.join(tmpdir(), 'palimpsest-'))
  try {
    const file = path.join(folder, 'core.safetensors')
    await trained.save(file)
    const loaded = Model.fromNetwork(source)
    await loaded.loadWeights(file)
    const core = how === 'fit' ? trained : loaded
    const names = core.parameters.map(({ name }) => name).slice(-2)
    const [head, all] = [TangentModel.at(core, { layers: 'head' }), TangentModel.at(core, { layers: names })]
    await fit(head, data)
    const { weights } = await retrain(all, data)
    const distance = distanceOf(await userWeights(head), weights)
    expect(distance / normOf(weights)).toBeLessThanOrEqual(1e-4)
    const { bound: found } = await forget(head, { where: { class: 2 }, noise: 'none' })
    const left = await retrain(all, data.where({ class: [0, 1] }))
    expect(found.measured!.distance).toBeGreaterThanOrEqual(distanceOf(await userWeights(head), left.weights) - 1e-12)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
