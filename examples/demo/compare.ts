// The demo's comparison: original, forgotten and retrained models on the same rows, and how far apart they are.
import type { Dataset, ForgetReport, TangentFitReport, TangentModel } from '../../lib/index.js'
import { percent, table } from './screen.js'

export interface Parts {
  forgotten: Dataset
  retained: Dataset
  test: Dataset
}

/** What a model answers on each part, and its weights. */
export interface Snapshot {
  outputs: Record<keyof Parts, Float32Array>
  accuracy: Record<keyof Parts, number>
  weights: Awaited<ReturnType<TangentModel['weights']>>
}

/** Share of rows whose largest output is the label's. */
export function accuracyOf(outputs: Float32Array, labels: Int32Array): number {
  const k = outputs.length / labels.length
  let right = 0
  for (let i = 0; i < labels.length; i++) {
    const row = outputs.subarray(i * k, (i + 1) * k)
    right += Number(row.indexOf(row.reduce((a, b) => Math.max(a, b))) === labels[i])
  }
  return right / labels.length
}

export async function snapshot(model: TangentModel, parts: Parts): Promise<Snapshot> {
  const outputs = {
    forgotten: await model.evaluate(parts.forgotten),
    retained: await model.evaluate(parts.retained),
    test: await model.evaluate(parts.test),
  }
  const accuracy = {
    forgotten: accuracyOf(outputs.forgotten, parts.forgotten.labels),
    retained: accuracyOf(outputs.retained, parts.retained.labels),
    test: accuracyOf(outputs.test, parts.test.labels),
  }
  return { outputs, accuracy, weights: await model.weights() }
}

/** Root of the mean square of the difference. */
export function rootMeanSquare(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2
  return Math.sqrt(sum / a.length)
}

/** |a - b| of two models' weights. */
export async function weightDistance(a: Snapshot, b: Snapshot): Promise<number> {
  const difference = await a.weights.clone()
  await difference.axpy(-1, b.weights)
  const distance = await difference.norm()
  difference.dispose()
  return distance
}

export interface Comparison {
  original: Snapshot
  forgotten: Snapshot
  retrained: Snapshot
  forgetReport: ForgetReport
  retrainReport: TangentFitReport
}

/** Distances to the retrained model. */
export interface Distances {
  weights: number
  testOutputs: number
  forgottenOutputs: number
}

export async function distancesTo(retrained: Snapshot, model: Snapshot): Promise<Distances> {
  return {
    weights: await weightDistance(model, retrained),
    testOutputs: rootMeanSquare(model.outputs.test, retrained.outputs.test),
    forgottenOutputs: rootMeanSquare(model.outputs.forgotten, retrained.outputs.forgotten),
  }
}

const shown = (value: number | null | undefined): string => (value == null ? '-' : value.toPrecision(3))

/** The table of a request: original / forgotten / retrained exactly. */
export async function printComparison({ original, forgotten, retrained, ...reports }: Comparison): Promise<void> {
  const models = [original, forgotten, retrained]
  const distances = await Promise.all(models.map((model) => distancesTo(retrained, model)))
  const accuracy = (part: keyof Parts) => models.map((model) => percent(model.accuracy[part]))
  const far = (of: keyof Distances) => distances.map((distance, i) => (i === 2 ? '0' : shown(distance[of])))
  const { forgetReport, retrainReport } = reports
  const { guaranteed } = forgetReport.bound
  const passes = (report: ForgetReport | TangentFitReport) =>
    `${report.passes.float32.toFixed(0)} + ${report.passes.float64.toFixed(1)}`
  table(
    ['', 'original', 'forgotten', 'retrained exactly'],
    [
      [`accuracy, forgotten rows (${forgetReport.forgotten})`, ...accuracy('forgotten')],
      [`accuracy, retained rows (${forgetReport.retained})`, ...accuracy('retained')],
      [`accuracy, test rows`, ...accuracy('test')],
      ['distance of weights to retrained', ...far('weights')],
      ['distance of outputs, test rows', ...far('testOutputs')],
      ['distance of outputs, forgotten rows', ...far('forgottenOutputs')],
      ['guaranteed nats', '-', shown(guaranteed?.nats), '0'],
      [`guaranteed epsilon (delta ${guaranteed?.delta})`, '-', shown(guaranteed?.epsilon), '0'],
      ['passes, float32 + float64', '-', passes(forgetReport), passes(retrainReport)],
      ['seconds', '-', forgetReport.seconds.toFixed(1), retrainReport.seconds.toFixed(1)],
    ],
  )
}
