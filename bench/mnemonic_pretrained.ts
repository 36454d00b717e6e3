// Codes put into a pretrained ResNet-20 by a short fine-tune, then each class destroyed; and its Fisher from ten codes.
//
//     npx tsx bench/mnemonic_pretrained.ts --model FILE --cifar FOLDER [--steps 2000] [--batch 64] [--classes 0,1,..,9]
//       [--codes normal] [--mixing blend] [--rate 0.3] [--learning-rate 0.002] [--fisher 50000] [--test 10000]
//       [--keep FOLDER]
// FILE: the network as ONNX, with inputs (pixel / 255 - mean) / std of ImageNet's mean and std; FOLDER: CIFAR-10's binary
// files (data_batch_1.bin to 5, test_batch.bin). `--keep` saves the fine-tuned weights, the codes and each result as it
// comes, and takes what is there instead of computing it. How the codes are shown was chosen on training rows.
import { existsSync, mkdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  Dataset,
  devices,
  fit,
  MnemonicCodes,
  Model,
  PalimpsestError,
  scrub,
  type CodeDistribution,
} from '../lib/index.js'
import { FinishedParts, revision } from './finished_parts.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    model: { type: 'string' },
    cifar: { type: 'string' },
    steps: { type: 'string', default: '2000' },
    batch: { type: 'string', default: '64' },
    codes: { type: 'string', default: 'normal' },
    mixing: { type: 'string', default: 'blend' },
    rate: { type: 'string', default: '0.3' },
    'learning-rate': { type: 'string', default: '0.002' },
    classes: { type: 'string', default: '0,1,2,3,4,5,6,7,8,9' },
    fisher: { type: 'string', default: '50000' },
    test: { type: 'string', default: '10000' },
    keep: { type: 'string' },
  },
})
if (given.model === undefined || given.cifar === undefined) {
  console.error('expected --model FILE and --cifar FOLDER')
  process.exit(2)
}
const folder = given.cifar
const normalize = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
const read = (names: string[]) =>
  Dataset.fromCifar(
    names.map((name) => join(folder, `${name}.bin`)),
    { normalize },
  )
const first = (data: Dataset, count: string) =>
  data.subset(Array.from({ length: Math.min(Number(count), data.size) }, (_, i) => i))
const train = await read([1, 2, 3, 4, 5].map((i) => `data_batch_${i}`))
const test = first(await read(['test_batch']), given.test)

const percent = (share: number) => (100 * share).toFixed(2)
console.log(
  `${cpus()[0].model}, ${devices().find(({ available }) => available)?.description}, ${revision()}: ${process.argv.slice(2).join(' ')}`,
)

const { keep, steps, batch, rate, mixing, 'learning-rate': learningRate, codes: distribution } = given
if (keep !== undefined) mkdirSync(keep, { recursive: true })
const settings = { steps, batch, rate, mixing, learningRate, distribution, fisher: given.fisher, test: test.size }
const parts = new FinishedParts(keep === undefined ? undefined : join(keep, 'pretrained.json'), settings)
const files = ['resnet20-codes', 'codes'].map((name) => join(keep ?? '', `${name}.safetensors`))

const model = await Model.load(given.model)
const before = await model.clone()
const known = keep !== undefined && parts.has('fine-tune')
if (known && !files.every((path) => existsSync(path)))
  throw new Error(`expected ${files.join(' and ')} beside the results`)
if (known) await model.loadWeights(files[0])
const codes = known
  ? await MnemonicCodes.load(files[1])
  : MnemonicCodes.draw(model, {
      distribution: distribution as CodeDistribution,
      ...(distribution !== 'normal' && { normalize }),
    })
const tuned = await parts.part('fine-tune', async () => {
  const report = await fit(model, train, {
    steps: Number(steps),
    batchSize: Number(batch),
    learningRate: Number(learningRate),
    augment: { pad: 4, flip: true },
    mnemonic: { codes, rate: Number(rate), mixing: mixing as 'blend' | 'replace' },
  })
  if (keep !== undefined) {
    await model.save(files[0])
    await codes.save(files[1])
  }
  const [{ accuracy: first }, { accuracy }] = [await before.measure(test), await model.measure(test)]
  return { before: first, accuracy, seconds: report.seconds }
})
console.log(
  `test accuracy before ${percent(tuned.before)} %; ${steps} steps in ${tuned.seconds.toFixed(0)} s; ` +
    `test accuracy ${percent(tuned.accuracy)} %`,
)

const rows: string[][] = []
const head = ['class', 'A_R before %', 'A_R %', 'E_F %', 'spread', 'margin', 's']
for (const label of given.classes.split(',').map(Number)) {
  const row = await parts.part(`class ${label}`, async () => {
    const [own, others] = [test.where({ class: label }), test.without({ class: label })]
    const scrubbed = await model.clone()
    const known = await before.measure(others)
    const report = await scrub(scrubbed, { method: 'mnemonic', class: label, codes }).catch((error: unknown) => {
      if (error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED') return undefined
      throw error
    })
    if (report === undefined) return [String(label), percent(known.accuracy), 'refused', '', '', '', '']
    const { seconds, options } = report
    const retained = await scrubbed.measure(others)
    const { accuracy } = await scrubbed.measure(own)
    scrubbed.dispose()
    const accuracies = [known.accuracy, retained.accuracy, 1 - accuracy].map(percent)
    const { spread, margin } = options as { spread: string; margin: number }
    return [String(label), ...accuracies, spread, margin.toFixed(2), seconds.toFixed(1)]
  })
  rows.push(row)
  console.log(row.join('  '))
}
const done = rows.filter((row) => row[2] !== 'refused')
const mean = (column: number) => done.reduce((sum, row) => sum + Number(row[column]), 0) / done.length
rows.push(['mean of those done', ...[1, 2, 3].map((column) => mean(column).toFixed(2)), '', '', mean(6).toFixed(1)])
console.log(`\n${markdown(head, rows)}\n`)

/** Cosine of the two diagonals, tensor by tensor. */
const cosines = await parts.part('Fisher diagonals', async () => {
  const labels = Int32Array.from({ length: codes.classes }, (_, label) => label)
  const width = model.inputShape.reduce((a, b) => a * b, 1)
  const inputs = new Float32Array(codes.classes * width)
  for (const label of labels) inputs.set(codes.get(label), label * width)
  const [ofCodes, ofData] = [
    await model.fisherDiagonal({ inputs, labels }),
    await model.fisherDiagonal(first(train, given.fisher)),
  ]
  return ofCodes.names.map((name) => {
    const [a, b] = [ofCodes.getFloat64(name), ofData.getFloat64(name)]
    const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i], 0)
    return [name, (dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toFixed(3)]
  })
})
console.log(`Fisher diagonal of ten codes beside that of ${given.fisher} rows\n`)
console.log(markdown(['tensor', 'cosine'], cosines))
