// scrub() with method 'retrain': from fresh weights on the retained rows alone; what every method is measured against.
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { fitModel, type FitOptions, type FitReport } from '../fit/sgd.js'
import { Model } from '../model.js'
import { checkData } from '../model/held_data.js'
import { check, type OptionsOf } from '../options.js'
import { datasetCheck, fitCheck, visits } from './fine_tune.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

/** Retraining: the reference. */
export interface RetrainOptions extends CommonScrubOptions {
  method: 'retrain'
  retainSet: Dataset
  /** A model of the same architecture whose weights never saw the forgotten rows, e.g. of `networks.lenet({ seed: 2 })`. */
  from: Model
  /** Of fit(). */
  fit?: Omit<FitOptions, 'signal' | 'onProgress'>
}

export interface RetrainReport extends CommonScrubReport {
  method: 'retrain'
  fit: FitReport
}

const table = {
  retainSet: datasetCheck,
  from: check('a Model with fresh weights', (v): v is Model => v instanceof Model),
  fit: fitCheck,
}

const shapes = (model: Model) => model.parameters.map(({ name, shape }) => `${name} [${shape.join(', ')}]`)

export const retrain: ScrubMethod<typeof table, { fit: FitReport }> = {
  table,
  check(model, { retainSet, from }) {
    checkData(retainSet, model.engine, true)
    const [wanted, got] = [shapes(model), shapes(from)]
    const other = wanted.findIndex((each, i) => each !== got[i])
    if (other < 0 && got.length === wanted.length) return
    const what = `the model's architecture for 'from' (${wanted[other] ?? 'no more parameters'})`
    throw new PalimpsestError('ERR_SHAPE', `expected ${what}, got ${got[other] ?? got.at(wanted.length) ?? 'none'}`)
  },
  async run({ work, passes }, { retainSet, from, fit = {} }: OptionsOf<typeof table>) {
    const fresh = await from.weights()
    const { network } = from.engine
    const values = await Promise.all(network.constants.map((_, i) => network.getConstant(i)))
    const statistics = new Map([...values.entries()].filter(([i]) => network.constants[i].name !== ''))
    await work.replace(fresh.native, statistics)
    fresh.dispose()
    const report = await fitModel(work, retainSet, { ...fit, ...passes })
    return { sampleVisits: visits(report), chosen: { fit: report.options }, details: { fit: report } }
  },
}
