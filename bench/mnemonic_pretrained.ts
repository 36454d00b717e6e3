// Codes put into a pretrained ResNet-20 by a short fine-tune, then each class destroyed; and its Fisher from ten codes.
//
//     npx tsx bench/mnemonic_pretrained.ts --model FILE --cifar FOLDER [--steps 2000] [--batch 64] [--classes 0,1,..,9]
//       [--rate 0.1] [--fisher 50000] [--test 10000] [--keep FOLDER]
// FILE: the network as ONNX, with inputs (pixel / 255 - mean) / std of ImageNet's mean and std; FOLDER: CIFAR-10's binary
// files (data_batch_1.bin to 5, test_batch.bin). `--keep` saves the fine-tuned weights and the codes.
import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Dataset, devices, fit, MnemonicCodes, Model, scrub } from '../lib/index.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    model: { type: 'string' },
    cifar: { type: 'string' },
    steps: { type: 'string', default: '2000' },
    batch: { type: 'string', default: '64' },
    rate: { type: 'string', default: '0.1' },
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

const revision = execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
const percent = (share: number) => (100 * share).toFixed(2)
console.log(
  `${cpus()[0].model}, ${devices().find(({ available }) => available)?.description}, ${revision}: ${process.argv.slice(2).join(' ')}`,
)

const model = await Model.load(given.model)
const before = await model.clone()
console.log(`test accuracy before ${percent((await before.measure(test)).accuracy)} %`)
const codes = MnemonicCodes.draw(model)
const report = await fit(model, train, {
  steps: Number(given.steps),
  batchSize: Number(given.batch),
  learningRate: 1e-3,
  augment: { pad: 4, flip: true },
  mnemonic: { codes, rate: Number(given.rate) },
})
console.log(
  `${report.steps} steps in ${report.seconds.toFixed(0)} s; test accuracy ${percent((await model.measure(test)).accuracy)} %`,
)
if (given.keep !== undefined) {
  await model.save(join(given.keep, 'resnet20-codes.safetensors'))
  await codes.save(join(given.keep, 'codes.safetensors'))
}

const rows: string[][] = []
for (const label of given.classes.split(',').map(Number)) {
  const [own, others] = [test.where({ class: label }), test.without({ class: label })]
  const known = (await before.measure(others)).accuracy
  const scrubbed = await model.clone()
  const { seconds } = await scrub(scrubbed, { method: 'mnemonic', class: label, codes })
  const [retained, error] = [(await scrubbed.measure(others)).accuracy, 1 - (await scrubbed.measure(own)).accuracy]
  rows.push([String(label), percent(known), percent(retained), percent(error), seconds.toFixed(1)])
  console.log(rows.at(-1)?.join('  '))
  scrubbed.dispose()
}
console.log(`\n${markdown(['class', 'A_R before %', 'A_R %', 'E_F %', 's'], rows)}\n`)

/** Cosine of the two diagonals, tensor by tensor. */
const sample = first(train, given.fisher)
const labels = Int32Array.from({ length: codes.classes }, (_, label) => label)
const width = model.inputShape.reduce((a, b) => a * b, 1)
const inputs = new Float32Array(codes.classes * width)
for (const label of labels) inputs.set(codes.get(label), label * width)
const [ofCodes, ofData] = [await model.fisherDiagonal({ inputs, labels }), await model.fisherDiagonal(sample)]
const cosines = ofCodes.names.map((name) => {
  const [a, b] = [ofCodes.getFloat64(name), ofData.getFloat64(name)]
  const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i], 0)
  return [name, (dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toFixed(3)]
})
console.log(`Fisher diagonal of ten codes beside that of ${sample.size} rows\n`)
console.log(markdown(['tensor', 'cosine'], cosines))
