// fit(): trains a Model by SGD, or solves a TangentModel's quadratic problem.
import type { Dataset } from './dataset.js'
import { fitModel, type FitOptions, type FitReport } from './fit/sgd.js'
import { Model } from './model.js'
import { invalid } from './options.js'
import { fitTangent, type TangentFitOptions, type TangentFitReport } from './tangent/fit.js'
import { TangentModel } from './tangent.js'

/** Trains a model on a dataset; what the options mean is told at FitOptions and TangentFitOptions. */
export function fit(model: Model, data: Dataset, options?: FitOptions): Promise<FitReport>
export function fit(model: TangentModel, data: Dataset, options?: TangentFitOptions): Promise<TangentFitReport>
export async function fit(
  model: Model | TangentModel,
  data: Dataset,
  options: FitOptions | TangentFitOptions = {},
): Promise<FitReport | TangentFitReport> {
  if (model instanceof TangentModel) return fitTangent(model, data, options as TangentFitOptions)
  if (!(model instanceof Model)) throw invalid('model', 'a Model or a TangentModel', model)
  return fitModel(model, data, options)
}
