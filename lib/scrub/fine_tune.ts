// scrub() with method 'fineTune': the weights go on learning from the retained rows; the field's first control.
import { Dataset } from '../dataset.js'
import { fitModel, type FitOptions, type FitReport } from '../fit/sgd.js'
import { checkData } from '../model/held_data.js'
import { check, optional, type Check, type OptionsOf } from '../options.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

/** Fine-tuning on the retained rows: what forgetting by neglect alone does. */
export interface FineTuneOptions extends CommonScrubOptions {
  method: 'fineTune'
  /** The rows to go on with. */
  retainSet: Dataset
  /** Of fit(), with its defaults but 2 epochs and a learning rate of 0.01; signal and onProgress stand beside it. */
  fit?: Omit<FitOptions, 'signal' | 'onProgress'>
}

export interface FineTuneReport extends CommonScrubReport {
  method: 'fineTune'
  fit: FitReport
}

export const datasetCheck: Check<Dataset> = check('a Dataset', (v): v is Dataset => v instanceof Dataset)

/** Options of fit() as a nested object; fit() itself reads them, and refuses what it does not know. */
export const fitCheck = optional(
  check(
    'options of fit()',
    (v): v is Omit<FitOptions, 'signal' | 'onProgress'> => typeof v === 'object' && v !== null && !Array.isArray(v),
  ),
)

const table = { retainSet: datasetCheck, fit: fitCheck }

export const fineTune: ScrubMethod<typeof table, { fit: FitReport }> = {
  table,
  check: (model, options) => void checkData(options.retainSet, model.engine, true),
  async run({ work, passes }, { retainSet, fit = {} }: OptionsOf<typeof table>) {
    const length = fit.epochs === undefined && fit.steps === undefined ? { epochs: 2 } : {}
    const report = await fitModel(work, retainSet, { learningRate: 0.01, ...length, ...fit, ...passes })
    const { epochs, ...rest } = report
    return { sampleVisits: visits(report), chosen: { fit: report.options }, details: { fit: { ...rest, epochs } } }
  },
}

/** Rows that went through the network, epochs that ended and the one that did not. */
export function visits({ options, steps, rows, leftOut }: FitReport): number {
  const whole = Math.ceil((rows - leftOut) / options.batchSize)
  const last = steps % whole
  return Math.floor(steps / whole) * (rows - leftOut) + Math.min(last * options.batchSize, rows - leftOut)
}
