// Ten clients in ten processes make a shared network forget a class by pruning, beside fine-tuning alone and retraining.
//
//     npx tsx examples/federated/main.ts [--small]
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Table from 'cli-table3'
import { channelStatistics, fit, Model, networks, scrub, type Dataset } from '../../lib/index.js'
import { Clients } from './server.js'
import { allRows, clients, sizes, target, testRows, type Size } from './share.js'

const size: Size = process.argv.includes('--small') ? 'small' : 'full'
const { width, epochs, rounds } = sizes[size]
const line = (text: string) => void process.stdout.write(`${text}\n`)
const percent = (share: number) => `${(100 * share).toFixed(1)} %`

interface Row {
  name: string
  retained: number
  target: number
  seconds: number
}

/** Accuracy on test rows of the class and of the others. */
async function measured(name: string, model: Model, rows: Dataset, seconds: number): Promise<Row> {
  const [of, others] = [rows.where({ class: target }), rows.where(({ label }) => label !== target)]
  const [gone, kept] = [await model.measure(of), await model.measure(others)]
  return { name, retained: kept.accuracy, target: gone.accuracy, seconds }
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; seconds: number }> {
  const start = performance.now()
  const result = await work()
  return { result, seconds: (performance.now() - start) / 1000 }
}

const network = () => networks.convnet({ inputShape: [1, 28, 28], width, seed: 1 })
const training = { epochs, batchSize: 64, learningRate: 0.02, seed: 1 }

async function run(folder: string, connect: (to: Clients) => void): Promise<void> {
  const [all, test] = [await allRows(size), await testRows(size)]
  const table: Row[] = []
  const model = Model.fromNetwork(network(), { device: 'cpu' })
  // A network that was trained long ago; here in one place, to be quick.
  const base = await timed(() => fit(model, all, training))
  table.push(await measured('before', model, test, base.seconds))
  const basePath = join(folder, 'base.onnx')
  await model.exportOnnx(basePath)

  const server = new Clients(size, folder)
  connect(server)
  const gathered = await timed(() => server.statistics(basePath))
  const loaded = await Model.load(basePath, { device: 'cpu' })
  const central = await channelStatistics(loaded, all)
  const same = JSON.stringify(central) === JSON.stringify(gathered.result)
  line(`${clients} clients' statistics, ${JSON.stringify(gathered.result).length} bytes added up, are the central ones`)
  line(`to the last bit: ${same}`)

  const pruned = await timed(() =>
    scrub(loaded, { method: 'prune', class: target, statistics: gathered.result, rate: 0.1 }),
  )
  const { removed, layers } = pruned.result.passes[0]
  line(`${removed} channels removed (${layers.map((each) => `${each.removed} of ${each.channels}`).join(', ')})`)
  const { before, after } = pruned.result.cost.flops
  line(`FLOPs of a prediction: ${percent(after / before)} of before`)
  table.push(await measured('pruned', loaded, test, gathered.seconds + pruned.seconds))
  const prunedPath = join(folder, 'pruned.onnx')
  await loaded.exportOnnx(prunedPath)
  const tuned = await timed(async () => {
    const weights = await server.train(prunedPath, rounds)
    const served = await Model.load(prunedPath, { device: 'cpu' })
    await served.loadWeights(weights)
    return served
  })
  table.push(
    await measured(`pruned, ${rounds} rounds`, tuned.result, test, gathered.seconds + pruned.seconds + tuned.seconds),
  )

  const control = await timed(() => server.train(basePath, rounds))
  await model.loadWeights(control.result)
  table.push(await measured(`no pruning, ${rounds} rounds`, model, test, control.seconds))
  const retrained = Model.fromNetwork(network(), { device: 'cpu' })
  const again = await timed(() =>
    fit(
      retrained,
      all.where(({ label }) => label !== target),
      training,
    ),
  )
  table.push(await measured('retrained without the class', retrained, test, again.seconds))
  print(table)
}

function print(rows: readonly Row[]): void {
  const table = new Table({
    head: ['', 'other classes', `class ${target}`, 'seconds'],
    style: { head: [], border: [] },
  })
  for (const { name, retained, target: gone, seconds } of rows) {
    table.push([name, percent(retained), percent(gone), seconds.toFixed(1)])
  }
  line(table.toString())
  line('No method here has a certificate; the retrained row is what the others are held to.')
}

const folder = await mkdtemp(join(tmpdir(), 'palimpsest-federated-'))
let server: Clients | undefined
try {
  await run(folder, (to) => (server = to))
} finally {
  server?.end()
  await rm(folder, { recursive: true })
}
