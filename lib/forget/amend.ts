// The amendment after a direct update: a little training on rows that stay.
import type { Dataset } from '../dataset.js'
import type { FitTensors } from '../fit/checkpoint.js'
import { readFitOptions, type SgdOptions } from '../fit/options.js'
import { SgdRun, type RunSeries } from '../fit/run.js'
import type { Model } from '../model.js'
import type { PassOptions } from '../model/passes.js'
import type { DirectSettings, Manifest } from '../record/format.js'
import { keyWords, orderOf, type PlacedRow } from '../record/rows.js'
import type { SliceRun } from './logged_run.js'

export interface Amending {
  model: Model
  data: Dataset
  manifest: Manifest
  /** Of the run that is amended. */
  options: SgdOptions
  run: SliceRun
  /** Rows that stay, by slice, and which slices lost rows. */
  slices: readonly (readonly PlacedRow[])[]
  touched: readonly boolean[]
  passes: PassOptions
}

export interface Amended {
  visits: number
}

/** Passes at most. */
export const mostPasses = 3
/** The loss has settled where a pass lowers it by less than this share. */
const settled = 0.02
/** Batches of a pass at least: in small shards a quarter of the rows would be a few steps. By measurement. */
const leastBatches = 8
/** Share of the run's rate. By measurement, as a tenth leaves shards that lost many rows behind retraining. */
const rateShare = 0.2

/**
 * Rows of the amendment on slices: those that stay of the slices that lost rows, a quarter of all that stay at most, or a
 * few batches, chosen by their keys' order in an epoch that training never had.
 */
export function amendedRows({
  manifest,
  run,
  slices,
  touched,
}: Omit<Amending, 'model' | 'data' | 'options' | 'passes'>) {
  const rows = slices.flatMap((list, i) => (touched[i] ? list : []))
  const words = rows.map(({ key }) => keyWords(key))
  const most = Math.max(leastBatches * (manifest.fit.batchSize ?? 128), Math.ceil(run.rows.length / 4))
  return [...orderOf(words, manifest.seed, run.epochsBefore + run.epochs).subarray(0, most)].map((i) => rows[i])
}

/** Fine-tunes the weights in place; momentum begins at zero, and is left as the fine-tuning leaves it. */
export async function amendOf(amend: DirectSettings['amend'], given: Amending, tensors: FitTensors): Promise<Amended> {
  if (amend === 'none') return { visits: 0 }
  const { model, run } = given
  await model.replace(tensors.weights, new Map())
  let visits = 0
  if (typeof amend === 'number') visits = (await fitRows(given, run.rows, { steps: amend }, 0)).visits
  else {
    const rows = amendedRows(given)
    let last = Infinity
    for (let pass = 0; pass < mostPasses && rows.length > 0; pass++) {
      const { loss, visits: each } = await fitRows(given, rows, { epochs: 1 }, pass)
      visits += each
      if (loss > (1 - settled) * last) break
      last = loss
    }
  }
  await tensors.weights.copyFrom(await model.engine.weights('float32'))
  await tensors.velocity.fill(0)
  return { visits }
}

/** Rows that a pass, or so many steps, visit. */
export function amendedVisits(amend: DirectSettings['amend'], rows: number, batch: number): number {
  if (typeof amend !== 'number') return amend === 'none' ? 0 : rows
  const whole = Math.ceil(rows / batch)
  return Math.floor(amend / whole) * rows + Math.min((amend % whole) * batch, rows)
}

async function fitRows(
  { model, data, manifest, options, run, passes }: Amending,
  rows: readonly PlacedRow[],
  length: { steps: number } | { epochs: number },
  pass: number,
): Promise<{ loss: number; visits: number }> {
  const epochsBefore = run.epochsBefore + run.epochs + pass
  const words = rows.map(({ key }) => keyWords(key))
  const series: RunSeries = {
    order: (epoch) => orderOf(words, manifest.seed, epochsBefore + epoch),
    draws: Uint32Array.from(words, (each) => each[0]),
    epochsBefore,
    data: '',
  }
  const { signal } = passes
  const schedule = { type: 'constant', warmup: 0 }
  const learningRate = rateShare * options.learningRate
  const how = { ...manifest.fit, seed: manifest.seed, ...length, schedule, learningRate, ...(signal && { signal }) }
  const part = data.subset(rows.map(({ position }) => position))
  const fit = await SgdRun.prepare(model, part, readFitOptions(how), series)
  try {
    await fit.fit()
    await fit.release()
    const visits = amendedVisits('steps' in length ? length.steps : 'slices', rows.length, options.batchSize)
    return { loss: fit.report().loss, visits }
  } finally {
    fit.dispose()
    part.dispose()
  }
}
