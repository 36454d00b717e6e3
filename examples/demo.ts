// The demo: real digits forgotten from a trained network, with a bound on what remains and the retrained model beside it.
//
//   npm run demo              about 90 s on two cores
//   npm run demo -- --small   the same story on a few hundred rows
//
// Everything repeats bit for bit on one machine, except the noise of a release, whose key comes from the operating system.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fit, forget, Model, TangentModel, type Dataset, type RowSelection } from '../lib/index.js'
import { accuracyOf, distancesTo, printComparison, snapshot, type Comparison, type Parts } from './demo/compare.js'
import { loadDigits, newClass, ownerOfNewClass, sizes, type Digits } from './demo/digits.js'
import { coreNetwork } from './demo/network.js'
import { checkExport } from './demo/onnx.js'
import { line, percent, seconds, step } from './demo/screen.js'

/** Three times the default: half the passes at less than a point of accuracy on these digits. */
const damping = 3

const size = sizes[process.argv.includes('--small') ? 'small' : 'full']
const failures: string[] = []

/** The demo ends with an error where what it shows is not so. */
function expect(holds: boolean, what: string): void {
  if (!holds) failures.push(what)
}

const passesOf = ({ passes }: { passes: { float32: number; float64: number } }) =>
  `${passes.float32.toFixed(0)} passes in float32, ${passes.float64.toFixed(1)} in float64`

async function trainCore({ publicData, testData }: Digits): Promise<Model> {
  // Small networks: a GPU is used where PALIMPSEST_DEVICE names one.
  const core = Model.fromNetwork(coreNetwork(1), { device: process.env.PALIMPSEST_DEVICE ? 'auto' : 'cpu' })
  const known = testData.without({ class: newClass })
  await step(
    `core: ${publicData.size} public rows, no digit ${newClass}`,
    ({ onProgress }) => fit(core, publicData, { epochs: size.coreEpochs, seed: 1, onProgress }),
    () => 'trained',
  )
  const { accuracy } = await core.measure(known)
  line(`  ${percent(accuracy)} on test rows of the nine digits that it knows`)
  return core
}

/** The user weights on top of the core, and two other ways to use the same rows. */
async function learnUserRows(core: Model, { publicData, userData, testData }: Digits): Promise<TangentModel> {
  const user = TangentModel.at(core, { layers: 'all', damping, publicData })
  await step(
    `tangent model, all layers: ${userData.size} rows of ${size.owners} owners`,
    ({ onProgress }) => fit(user, userData, { tolerance: 1e-2, onProgress }),
    passesOf,
  )
  const head = TangentModel.at(core, { layers: 'head' })
  await step(
    'for comparison, last layer alone',
    ({ onProgress }) => fit(head, userData, { onProgress }),
    () => 'in closed form',
  )
  const tuned = await core.clone()
  await step(
    'for comparison, ordinary fine-tuning',
    ({ onProgress }) => fit(tuned, userData, { epochs: size.fineTuningEpochs, seed: 2, onProgress }),
    () => 'cross-entropy, all weights, nothing can be certified',
  )
  const accuracies = {
    core: (await core.measure(testData)).accuracy,
    head: (await head.measure(testData)).accuracy,
    tangent: (await user.measure(testData)).accuracy,
    tuned: (await tuned.measure(testData)).accuracy,
  }
  line(`  accuracy on ${testData.size} test rows of all ten digits: core ${percent(accuracies.core)}, last layer`)
  line(
    `  ${percent(accuracies.head)}, tangent model ${percent(accuracies.tangent)}, fine-tuning ${percent(accuracies.tuned)}`,
  )
  expect(accuracies.tangent > accuracies.head, 'the tangent model is better than the last layer alone')
  expect(accuracies.tangent > accuracies.tuned - 0.02, 'the tangent model is within 2 points of fine-tuning')
  head.dispose()
  tuned.dispose()
  return user
}

/** One request: forget, and solve from zero without the rows for comparison. */
async function request(user: TangentModel, where: RowSelection, test: Dataset): Promise<Comparison> {
  const data = user.data as Dataset
  const parts: Parts = { forgotten: data.where(where), retained: data.without(where), test }
  const original = await snapshot(user, parts)
  const forgetReport = await step('  forget()', ({ onProgress }) => forget(user, { where, onProgress }), passesOf)
  const forgotten = await snapshot(user, parts)
  const reference = TangentModel.at(user.core, { layers: 'all', damping })
  const retrainReport = await step(
    '  the same model solved from zero without these rows',
    ({ onProgress }) => fit(reference, parts.retained, { tolerance: 1e-3, onProgress }),
    passesOf,
  )
  const retrained = await snapshot(reference, parts)
  reference.dispose()
  const comparison = { original, forgotten, retrained, forgetReport, retrainReport }
  await printComparison(comparison)
  await checkRequest(comparison)
  return comparison
}

/** What every request must show. */
async function checkRequest({ forgetReport, forgotten, retrained }: Comparison): Promise<void> {
  const { bound, noiseScale } = forgetReport
  const measured = bound.measured?.nats ?? Infinity
  const promised = bound.guaranteed?.nats ?? 0
  expect(bound.certified && bound.verdict === 'holds', 'the certificate holds')
  expect(measured <= promised, 'the certified nats of the request are within the target')
  const length = noiseScale * Math.sqrt(forgotten.weights.size)
  const { weights } = await distancesTo(retrained, forgotten)
  line(`  The forgotten weights differ from the retrained ones by ${weights.toPrecision(3)}: that is the noise, of`)
  line(
    `  standard deviation ${noiseScale} on each of ${forgotten.weights.size} weights, length ${length.toPrecision(3)}.`,
  )
  line(`  Without it: at most ${bound.measured?.distance.toPrecision(2)} (certified, for the operator's eyes only).`)
  expect(Math.abs(weights / length - 1) < 0.02, 'what separates the forgotten from the retrained weights is the noise')
  const apart = Math.abs(forgotten.accuracy.test - retrained.accuracy.test)
  expect(apart < size.noiseCost, 'the forgotten model is as accurate as the retrained one')
}

async function tellBothRequests(user: TangentModel, { testData }: Digits): Promise<void> {
  line(`\nRequest 1: ${ownerOfNewClass}, who brought every ${newClass}, leaves. Anybody sees the effect.`)
  const first = await request(user, { owner: ownerOfNewClass }, testData)
  expect(first.original.accuracy.forgotten > 0.8, `the original model knows the digit ${newClass}`)
  expect(first.forgotten.accuracy.forgotten < 0.05, `the forgotten model does not know the digit ${newClass}`)

  line(`\nRequest 2: user-1, one owner of ${size.owners}, leaves. No accuracy shows it; the certificate does.`)
  await request(user, { owner: 'user-1' }, testData)
  const total = user.ledger.filter(({ kind }) => kind === 'forget').length
  line(`  ${total} releases so far; old and new model together would still reveal the rows: delete the old one.`)
}

async function exportModel(user: TangentModel, { testData }: Digits): Promise<void> {
  line('\nThe forgotten model as one plain ONNX graph, in onnxruntime:')
  const folder = await mkdtemp(join(tmpdir(), 'palimpsest-demo-'))
  try {
    const path = join(folder, 'served.onnx')
    const rows = testData.subset(Array.from({ length: Math.min(500, testData.size) }, (_, i) => i))
    await user.exportOnnx(path)
    const { bytes, outputs, difference, agreeing } = await checkExport(path, rows, await user.evaluate(rows))
    line(
      `  ${(bytes / 2 ** 20).toFixed(1)} MiB, ${percent(accuracyOf(outputs, rows.labels))} on ${rows.size} test rows,`,
    )
    line(`  outputs within ${difference.toExponential(1)} of evaluate() on ${percent(agreeing)} of them; elsewhere an`)
    line('  activation lies within rounding of a kink, where both slopes are derivatives')
    expect(agreeing >= 0.99, 'onnxruntime agrees with evaluate()')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const digits = await loadDigits(size)
const core = await trainCore(digits)
const user = await learnUserRows(core, digits)
await tellBothRequests(user, digits)
await exportModel(user, digits)

for (const what of failures) console.error(`expected that ${what}`)
line(
  `\n${failures.length === 0 ? 'Everything is as it should be.' : `${failures.length} expectations failed.`} ${seconds().toFixed(0)} s`,
)
process.exitCode = failures.length === 0 ? 0 : 1
