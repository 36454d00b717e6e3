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

/** What an amendment goes by. */
export interface AmendmentScope {
  manifest: Manifest
  /** Of the run that is amended. */
  run: SliceRun
  /** Rows that stay, by slice, which slices lost rows, and how many they lost. */
  slices: readonly (readonly PlacedRow[])[]
  touched: readonly boolean[]
  lost: number
}

export interface Amending extends AmendmentScope {
  model: Model
  data: Dataset
  options: SgdOptions
  passes: PassOptions
}

/** Runs of SGD one after the other, over the same rows in other orders. */
export interface Amendment {
  rows: readonly PlacedRow[]
  /** Of each run; where more than one, each but the last is an epoch. */
  steps: readonly number[]
}

/** Epochs at most. */
const mostEpochs = 3
/** The loss has settled where an epoch lowers it by less than this share. */
const settled = 0.02
/**
 * Rows visited for each that was lost. By measurement: with three of them a tenth of the rows leaves more damage than
 * retraining does, and many more for few lost rows teach those that stay by heart.
 */
const visitsPerLost = 20
/** Share of the run's rate. By measurement, as a tenth leaves shards that lost many rows behind retraining. */
const rateShare = 0.2

/**
 * The amendment on slices: in proportion to what was lost, over rows that stay of the slices that lost some, in the orders
 * of epochs that training never had.
 */
export function amendmentOf(
  amend: DirectSettings['amend'],
  { manifest, run, slices, touched, lost }: AmendmentScope,
): Amendment {
  if (amend === 'none') return { rows: [], steps: [] }
  if (typeof amend === 'number') return { rows: run.rows, steps: [amend] }
  const rows = slices.flatMap((list, i) => (touched[i] ? list : []))
  const batch = batchOf(manifest)
  const epoch = Math.ceil(rows.length / batch)
  const wanted = Math.min(Math.ceil((visitsPerLost * lost) / batch), mostEpochs * epoch)
  const steps = Array.from({ length: Math.ceil(wanted / epoch) }, (_, i) => Math.min(epoch, wanted - i * epoch))
  return { rows, steps: rows.length > 0 ? steps : [] }
}

/** Which slices of a shard lose rows, and how many. */
export function lostOf(slices: readonly (readonly PlacedRow[])[], gone: ReadonlySet<PlacedRow>) {
  const lost = slices.map((rows) => rows.filter((row) => gone.has(row)).length)
  return { touched: lost.map((count) => count > 0), lost: lost.reduce((a, b) => a + b, 0) }
}

/** Fine-tunes the weights in place; momentum begins at zero, and is left as the fine-tuning leaves it. Returns visits. */
export async function amendBy(amend: DirectSettings['amend'], given: Amending, tensors: FitTensors): Promise<number> {
  const { rows, steps } = amendmentOf(amend, given)
  if (steps.length === 0) return 0
  const { model, manifest } = given
  await model.replace(tensors.weights, new Map())
  let visits = 0
  let last = Infinity
  for (const [i, count] of steps.entries()) {
    const loss = await fitRows(given, rows, count, i)
    visits += visitsOfSteps(count, rows.length, batchOf(manifest))
    if (loss > (1 - settled) * last) break
    last = loss
  }
  await tensors.weights.copyFrom(await model.engine.weights('float32'))
  await tensors.velocity.fill(0)
  return visits
}

/** Rows that an amendment visits, or the most where its loss may settle before. */
export const amendedVisits = ({ rows, steps }: Amendment, manifest: Manifest): number =>
  steps.reduce((sum, count) => sum + visitsOfSteps(count, rows.length, batchOf(manifest)), 0)

function visitsOfSteps(steps: number, rows: number, batch: number): number {
  const epoch = Math.ceil(rows / batch)
  return Math.floor(steps / epoch) * rows + Math.min((steps % epoch) * batch, rows)
}

const batchOf = ({ fit }: Manifest): number => fit.batchSize ?? 128

async function fitRows(
  { model, data, manifest, options, run, passes }: Amending,
  rows: readonly PlacedRow[],
  steps: number,
  turn: number,
): Promise<number> {
  const epochsBefore = run.epochsBefore + run.epochs + turn
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
  const how = { ...manifest.fit, seed: manifest.seed, steps, schedule, learningRate, ...(signal && { signal }) }
  const part = data.subset(rows.map(({ position }) => position))
  const fit = await SgdRun.prepare(model, part, readFitOptions(how), series)
  try {
    await fit.fit()
    await fit.release()
    return fit.report().loss
  } finally {
    fit.dispose()
    part.dispose()
  }
}
