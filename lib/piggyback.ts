// piggyback(): how fast a network learns a task again under a small budget, beside one from scratch and one unscrubbed.
import { shuffled } from './data/batches.js'
import { Dataset } from './dataset.js'
import { PalimpsestError } from './errors.js'
import { fitModel, type FitOptions } from './fit/sgd.js'
import { Model } from './model.js'
import { findLastLayer } from './model/last_layer.js'
import { checkData } from './model/held_data.js'
import { checkSignal, type Progress } from './model/passes.js'
import {
  abortSignal,
  callback,
  check,
  integer,
  invalid,
  is,
  number,
  object,
  optional,
  readOptions,
  withDefault,
  type Check,
  type OptionsOf,
} from './options.js'
import { streams } from './philox.js'
import { visits } from './scrub/fine_tune.js'

/** What an adversary may spend. */
export interface PiggybackBudget {
  /** Steps of SGD (default 100). */
  steps?: number
  /** Share of the rows, above 0 and at most 1 (default 0.01); at least one row a class. */
  share?: number
  /** The optimiser: options of fit(), with its defaults but batches of 64. */
  fit?: Omit<FitOptions, 'epochs' | 'steps' | 'signal' | 'onProgress' | 'checkpoint' | 'resume' | 'mnemonic' | 'seed'>
}

export interface PiggybackOptions {
  /** One or more. */
  budget: PiggybackBudget | readonly PiggybackBudget[]
  /** Rows of the same task on which the accuracy is measured. */
  testSet: Dataset
  /** The floor: a model that knows nothing, fresh weights of the same network. */
  floor?: Model
  /** The ceiling: the model before it was scrubbed. */
  ceiling?: Model
  /** Draws of rows, fresh last layer and order; the accuracies are means over them (default [0]). */
  seeds?: readonly number[]
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
}

export interface PiggybackResult {
  /** With its defaults filled in. */
  budget: { steps: number; share: number; fit: Record<string, unknown> }
  /** Rows that the share came to. */
  rows: number
  /** PL: test accuracy after the budget, mean over the seeds, and each. */
  accuracy: number
  accuracies: number[]
  floor: number | null
  ceiling: number | null
  /** (PL - floor) / (ceiling - floor): 0 as from scratch, 1 as unscrubbed. Null without both, or where they do not differ. */
  recovered: number | null
}

export interface PiggybackReport {
  verb: 'piggyback'
  results: PiggybackResult[]
  seeds: number[]
  sampleVisits: number
  seconds: number
  device: string
}

const dataset: Check<Dataset> = check('a Dataset', (v): v is Dataset => v instanceof Dataset)
const aModel: Check<Model> = check('a Model', (v): v is Model => v instanceof Model)
const budgetTable = {
  steps: withDefault(integer({ min: 1 }), 100),
  share: withDefault(number({ above: 0, max: 1 }), 0.01),
  fit: withDefault(
    check(
      'options of fit() without steps and seed, which stand beside it',
      (v): v is NonNullable<PiggybackBudget['fit']> => is.plainObject(v) && !('steps' in v) && !('seed' in v),
    ),
    {},
  ),
}
type Budget = OptionsOf<typeof budgetTable>
const oneBudget: Check<Budget> = object(budgetTable)
const budgets: Check<Budget[]> = {
  expected: 'a budget { steps, share, fit }, or a list of them',
  read(value, name) {
    if (!Array.isArray(value)) return [oneBudget.read(value, name)]
    if (value.length === 0) throw invalid(name, this.expected, value)
    return value.map((each, i) => oneBudget.read(each, `${name}[${i}]`))
  },
}
const table = {
  budget: budgets,
  testSet: dataset,
  floor: optional(aModel),
  ceiling: optional(aModel),
  seeds: withDefault(
    check(
      'a list of whole numbers',
      (v): v is readonly number[] =>
        Array.isArray(v) && v.length > 0 && v.every((each) => is.integer(each) && each >= 0),
    ),
    [0],
  ),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/**
 * Piggyback learning (Koh et al. 2023): what somebody gets who has the released model, a small share of the rows of a
 * task, and few steps. A copy of the model gets a fresh last layer and is fitted, all of it, to a share of the
 * rows of each class of `data`; its accuracy on `testSet` is PL. Low PL is little leaked
 * knowledge, under this budget: another optimiser or more steps may bring more back, so give several. `data` may be of the
 * source task or of a new one; its classes are those of the fresh layer. The models stay as they are.
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_SHAPE for rows that do not fit, ERR_UNSUPPORTED for a network that does not
 * end in a linear layer, those of fit(), and the reason of an aborted signal.
 */
export async function piggyback(model: Model, data: Dataset, options: PiggybackOptions): Promise<PiggybackReport> {
  const start = performance.now()
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  const { budget, testSet, floor, ceiling, seeds, signal, onProgress } = readOptions(options, table, 'piggyback()')
  checkSignal(signal)
  const models = { model, floor, ceiling }
  for (const each of Object.values(models)) if (each) checkModel(each, data, testSet)
  const total = budget.length * seeds.length * Object.values(models).filter(Boolean).length
  let [done, sampleVisits] = [0, 0]
  const results: PiggybackResult[] = []
  for (const own of budget) {
    const found: Record<string, number[]> = { model: [], floor: [], ceiling: [] }
    const settled = { settings: {} as Record<string, unknown>, rows: 0 }
    for (const seed of seeds) {
      const positions = sharedRows(data.labels, own.share, seed)
      const rows = data.subset(positions)
      try {
        for (const [name, each] of Object.entries(models)) {
          if (!each) continue
          checkSignal(signal)
          const { accuracy, settings, visits: seen } = await learn(each, rows, testSet, own, seed, signal)
          found[name].push(accuracy)
          sampleVisits += seen
          Object.assign(settled, { settings, rows: rows.size })
          onProgress?.({ phase: 'piggyback', done: ++done, total })
        }
      } finally {
        rows.dispose()
      }
    }
    const mean = (values: number[]) => (values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null)
    const [accuracy, low, high] = [mean(found.model) as number, mean(found.floor), mean(found.ceiling)]
    const apart = low !== null && high !== null && high !== low
    results.push({
      budget: { steps: own.steps, share: own.share, fit: settled.settings },
      rows: settled.rows,
      accuracy,
      accuracies: found.model,
      floor: low,
      ceiling: high,
      recovered: apart ? (accuracy - low) / (high - low) : null,
    })
  }
  const seconds = (performance.now() - start) / 1000
  return { verb: 'piggyback', results, seeds: [...seeds], sampleVisits, seconds, device: model.device }
}

/** The fresh layer has as many outputs as the data classes; all else must fit. */
function checkModel(model: Model, data: Dataset, testSet: Dataset): void {
  if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  findLastLayer(model.description, 'piggyback()')
  const shape = { inputShape: model.inputShape, classes: data.classes }
  checkData(data, shape, true)
  checkData(testSet, shape, true)
}

async function learn(
  model: Model,
  rows: Dataset,
  testSet: Dataset,
  { steps, fit }: Budget,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<{ accuracy: number; settings: Record<string, unknown>; visits: number }> {
  const copy = await model.withHead(rows.classes, { seed })
  const stop = signal && { signal }
  try {
    const report = await fitModel(copy, rows, { batchSize: 64, ...fit, steps, seed, ...stop })
    const { seed: _, steps: __, ...settings } = report.options
    const { accuracy } = await copy.measure(testSet, stop)
    return { accuracy, settings, visits: visits(report) + testSet.size }
  } finally {
    copy.dispose()
  }
}

/** Positions, ascending, of about a share of the rows: of every class round(share n), one at least. */
function sharedRows(labels: Int32Array, share: number, seed: number): Int32Array {
  const left = new Map<number, number>()
  for (const label of labels) left.set(label, (left.get(label) ?? 0) + 1)
  for (const [label, count] of left) left.set(label, Math.max(1, Math.round(share * count)))
  const chosen = shuffled(labels.length, seed, 0, streams.piggyback).filter((row) => {
    const more = left.get(labels[row]) as number
    if (more > 0) left.set(labels[row], more - 1)
    return more > 0
  })
  return chosen.sort()
}
