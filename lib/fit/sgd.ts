// fit() on a Model: stochastic gradient descent with momentum.
import { Dataset } from '../dataset.js'
import { Model } from '../model.js'
import { checkData, type Data } from '../model/held_data.js'
import { checkSignal } from '../model/passes.js'
import { invalid } from '../options.js'
import { readFitOptions, type FitOptions } from './options.js'
import type { FitReport } from './report.js'
import { SgdRun } from './run.js'

export type { FitOptions, FitProgress, SgdOptions } from './options.js'
export type { EpochReport, FitReport } from './report.js'
export type { Schedule, ScheduleOption } from './schedule.js'

/** Models that are being fitted: of two runs the one that ends first would be lost. */
const fitting = new WeakSet<Model>()

/**
 * Fits a model's weights (and running statistics) to data by SGD with momentum. Dropout is left out: it is the identity.
 *
 * The order of the rows, crops and flips are functions of seed and epoch; the same seed, options, data, device and thread
 * count give the same bits. The model changes in one step at the end: an error or an abort leaves it as it was.
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_SHAPE for data that do not fit the model, ERR_NOT_CONVERGED with the
 * report attached where the loss is no longer finite, ERR_MODEL_FORMAT and ERR_IO for checkpoints, ERR_OUT_OF_MEMORY,
 * ERR_DISPOSED, and the reason of an aborted signal.
 */
export async function fitModel(model: Model, data: Data, options: FitOptions = {}): Promise<FitReport> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  const read = readFitOptions(options)
  checkSignal(read.signal)
  checkData(data, model, true)
  if (read.evaluation !== undefined) checkData(read.evaluation, model, true)
  if (fitting.has(model)) throw invalid('model', 'a model that no other fit() is at work on', 'two at once')
  const rows = data instanceof Dataset ? data.subset(data.storeRows.keys()) : datasetOf(data, model)
  let run: SgdRun | undefined
  fitting.add(model)
  try {
    run = await SgdRun.prepare(model, rows, read)
    await run.fit()
    await run.release()
    return run.report()
  } finally {
    fitting.delete(model)
    run?.dispose()
    rows.dispose()
  }
}

function datasetOf(data: Exclude<Data, Dataset>, model: Model): Dataset {
  const { inputs, labels } = data
  return Dataset.fromArrays({ inputs, labels: labels as Int32Array, shape: model.inputShape, classes: model.classes })
}
