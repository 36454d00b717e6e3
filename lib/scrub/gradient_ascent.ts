// scrub() with method 'gradientAscent': the loss of the forgotten rows is driven up to that of chance; a control.
import { shuffled } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { checkData } from '../model/held_data.js'
import { checkSignal } from '../model/passes.js'
import { integer, number, optional, withDefault, type OptionsOf } from '../options.js'
import { datasetCheck } from './fine_tune.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

/** Gradient ascent on the forgotten rows, with running statistics as they are. */
export interface GradientAscentOptions extends CommonScrubOptions {
  method: 'gradientAscent'
  forgetSet: Dataset
  /** Default 0.01. */
  learningRate?: number
  /** Rows of a batch, default 128. */
  batchSize?: number
  /** Stop at the first batch whose mean cross-entropy is at least this; default ln K, that of chance. */
  targetLoss?: number
  /** Most steps, default 1000; ERR_NOT_CONVERGED beyond. */
  maxSteps?: number
  /** Of the order, default 0. */
  seed?: number
}

export interface GradientAscentReport extends CommonScrubReport {
  method: 'gradientAscent'
  steps: number
  /** Of the batch that it stopped at. */
  loss: number
}

const table = {
  forgetSet: datasetCheck,
  learningRate: withDefault(number({ above: 0 }), 0.01),
  batchSize: withDefault(integer({ min: 1 }), 128),
  targetLoss: optional(number({ above: 0 })),
  maxSteps: withDefault(integer({ min: 1 }), 1000),
  seed: withDefault(integer(), 0),
}

export const gradientAscent: ScrubMethod<typeof table, { steps: number; loss: number }> = {
  table,
  check: (model, { forgetSet }) => void checkData(forgetSet, model.engine, true),
  async run({ work, passes }, options: OptionsOf<typeof table>) {
    const { forgetSet, learningRate, batchSize, maxSteps, seed } = options
    const { targetLoss = Math.log(work.classes) } = options
    using weights = await work.weights()
    let order: Int32Array = new Int32Array(0)
    let sampleVisits = 0
    for (let step = 0; ; step++) {
      checkSignal(passes.signal)
      if (order.length === 0) order = shuffled(forgetSet.size, seed, step)
      using batch = forgetSet.subset(order.subarray(0, batchSize))
      order = order.subarray(batchSize)
      const { loss } = await work.measure(batch)
      sampleVisits += batch.size
      if (loss >= targetLoss) return { sampleVisits, chosen: { targetLoss }, details: { steps: step, loss } }
      if (step === maxSteps) {
        const what = `expected a loss of ${targetLoss} within 'maxSteps' ${maxSteps}, got ${loss}; the model is as before`
        throw new PalimpsestError('ERR_NOT_CONVERGED', what)
      }
      using gradient = await work.gradient(batch)
      await weights.axpy(learningRate, gradient)
      await work.setWeights(weights)
      passes.onProgress?.({ phase: 'gradientAscent', done: step + 1, total: maxSteps, residual: loss / targetLoss })
    }
  },
}
