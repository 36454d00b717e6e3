// The ways to a network without a class that bench/prune.ts compares, for one seed; each is kept as soon as it is done.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Dataset, FitOptions, FitReport, NetworkSource, PruneOptions } from '../lib/index.js'
import { fit, Model, scrub } from '../lib/index.js'
import type { FinishedParts } from './finished_parts.js'

export interface Experiment {
  key: string
  name: string
  network: (seed: number) => NetworkSource
  train: Dataset
  test: Dataset
  /** The class that goes. */
  target: number
  prune: Pick<PruneOptions, 'rate' | 'coe' | 'responses'>
  epochs: number
  tuning: number
  fit: Omit<FitOptions, 'signal' | 'onProgress'>
  /** Rows and steps of relearning. */
  relearn: { rows: number; steps: number }
}

export const armNames = ['base', 'fine-tuned', 'pruned', 'retrained'] as const

/** One way to a model without the class, for one seed. */
export interface Arm {
  arm: (typeof armNames)[number]
  seed: number
  /** Accuracy on test rows of the other classes, and of the class. */
  retained: number
  target: number
  /** The class's accuracy after relearning. */
  relearned: number
  sampleVisits: number
  /** Of the work alone, without the measurements. */
  seconds: number
  /** Retained accuracy after each epoch, with the visits and seconds up to it. */
  curve: { visits: number; seconds: number; accuracy: number }[]
}

/** What an arm's work reports. */
type Work = Pick<Arm, 'sampleVisits' | 'seconds' | 'curve'>

export const firstRows = (data: Dataset, count: number) =>
  data.subset(Array.from({ length: Math.min(count, data.size) }, (_, i) => i))

function curveOf({ epochs }: FitReport, rows: number, visits = 0, seconds = 0): Arm['curve'] {
  return epochs.map((epoch) => {
    visits += rows
    seconds += epoch.seconds
    return { visits, seconds, accuracy: epoch.evaluation?.accuracy ?? NaN }
  })
}

/** The class's accuracy after a few steps on rows of all classes: how much of it comes back. */
async function relearned(model: Model, { train, test, target, relearn, fit: how }: Experiment): Promise<number> {
  const copy = await model.clone()
  await fit(copy, firstRows(train, relearn.rows), { ...how, steps: relearn.steps, learningRate: 0.01, seed: 7 })
  const { accuracy } = await copy.measure(test.where({ class: target }))
  copy.dispose()
  return accuracy
}

/** @param keep - folder for the checkpoints of long fits, which a later call goes on from; none where left out */
export async function runSeed(
  experiment: Experiment,
  seed: number,
  parts: FinishedParts,
  keep?: string,
): Promise<Arm[]> {
  const { key, train, test, target, fit: how, epochs, tuning, prune } = experiment
  const without = (data: Dataset) => data.where(({ label }) => label !== target)
  const [retainSet, kept, gone] = [without(train), without(test), test.where({ class: target })]
  const evaluation = { evaluation: kept }
  const named = (arm: Arm['arm']) => `${key}, seed ${seed}, ${arm}`
  const arm = (name: Arm['arm'], make: () => Promise<Model>, work: (model: Model) => Promise<Work>): Promise<Arm> =>
    parts.part(named(name), async () => {
      const model = await make()
      const done = await work(model)
      const [{ accuracy: retained }, { accuracy }] = [await model.measure(kept), await model.measure(gone)]
      const back = await relearned(model, experiment)
      model.dispose()
      return { arm: name, seed, retained, target: accuracy, relearned: back, ...done }
    })
  const fresh = () => Promise.resolve(Model.fromNetwork(experiment.network(seed), { device: 'auto' }))
  const scratch = async (model: Model, rows: Dataset, file: string): Promise<Work> => {
    const checkpoint = keep === undefined ? undefined : join(keep, `${key}-${seed}-${file}.safetensors`)
    const files = checkpoint && { checkpoint, ...(existsSync(checkpoint) && { resume: checkpoint }) }
    const report = await fit(model, rows, { ...how, epochs, seed, ...evaluation, ...files })
    return { sampleVisits: epochs * rows.size, seconds: report.seconds, curve: curveOf(report, rows.size) }
  }
  const tune = { ...how, epochs: tuning, seed, ...evaluation }

  const base = await fresh()
  const copy = () => base.clone()
  // A base that is finished is fitted again where no file kept it and what starts from it is missing: to the same bits.
  const wanted = armNames.some((name) => name !== 'retrained' && !parts.has(named(name)))
  const based = wanted ? await scratch(base, train, 'base') : undefined
  const arms = [await arm('base', copy, () => Promise.resolve(based as Work))]
  arms.push(
    await arm('fine-tuned', copy, async (model) => {
      const report = await scrub(model, { method: 'fineTune', retainSet, fit: tune })
      return { sampleVisits: report.sampleVisits, seconds: report.seconds, curve: curveOf(report.fit, retainSet.size) }
    }),
  )
  arms.push(
    await arm('pruned', copy, async (model) => {
      const report = await scrub(model, { method: 'prune', class: target, data: train, ...prune, fineTune: tune })
      const own = report.seconds - (report.fit?.seconds ?? 0)
      const curve = report.fit ? curveOf(report.fit, retainSet.size, train.size, own) : []
      return { sampleVisits: report.sampleVisits, seconds: report.seconds, curve }
    }),
  )
  base.dispose()
  arms.push(await arm('retrained', fresh, (model) => scratch(model, retainSet, 'retrained')))
  return arms
}
