// Relearn time: steps of SGD on the forgotten rows until their loss is that of rows the model knows.
import type { Dataset } from '../dataset.js'
import { fitModel, type FitOptions } from '../fit/sgd.js'
import type { Model } from '../model.js'
import { PalimpsestError } from '../errors.js'
import { checkSignal, type PassOptions } from '../model/passes.js'

export interface RelearnOptions {
  /** Mean cross-entropy of the forgotten rows to reach; 1.1 times that of the retained rows at the reference or model. */
  targetLoss?: number
  /** Default 100. */
  maxSteps?: number
  /** Default 0.01; plain SGD, no momentum, no weight decay. */
  learningRate?: number
  /** Default 128. */
  batchSize?: number
  /** Of the order, default 0. */
  seed?: number
}

export interface Relearn {
  /** Steps until the loss was at most the target, looked at after each; null where `maxSteps` were too few, or diverged. */
  steps: number | null
  targetLoss: number
  /** Of the rows that are looked at (1,000 at most), at the end; before the step that diverged. */
  loss: number
}

/** In a copy of the model; running statistics stay. Few rows decide when it stops: at most 1,000. */
export async function relearn(
  model: Model,
  forgetSet: Dataset,
  options: Required<RelearnOptions>,
  { signal, onProgress }: PassOptions,
): Promise<Relearn> {
  const { targetLoss, maxSteps, learningRate, batchSize, seed } = options
  const watched = forgetSet.subset(Array.from({ length: Math.min(1000, forgetSet.size) }, (_, i) => i))
  const copy = await model.clone()
  const pass = signal && { signal }
  const schedule = { type: 'constant', warmup: 0 } as const
  const plain = { learningRate, batchSize, momentum: 0, weightDecay: 0, schedule, batchNorm: 'evaluation' } as const
  let last: number | undefined
  try {
    for (let step = 0; ; step++) {
      checkSignal(signal)
      const { loss } = await copy.measure(watched, pass)
      onProgress?.({ phase: 'relearn', done: step, total: maxSteps })
      if (loss <= targetLoss) return { steps: step, targetLoss, loss }
      if (!Number.isFinite(loss)) return { steps: null, targetLoss, loss: last ?? loss }
      last = loss
      const one = { ...plain, ...pass, steps: 1, seed: seed + step }
      if (step === maxSteps || !(await stepped(copy, forgetSet, one))) {
        return { steps: null, targetLoss, loss }
      }
    }
  } finally {
    copy.dispose()
    watched.dispose()
  }
}

/** False where the step went to no finite weights; the model is then as before it. */
async function stepped(model: Model, data: Dataset, options: FitOptions): Promise<boolean> {
  try {
    await fitModel(model, data, options)
    return true
  } catch (error) {
    if (error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED') return false
    throw error
  }
}
