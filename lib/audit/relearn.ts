// Relearn time: steps of SGD on the forgotten rows until their loss is that of rows the model knows.
import type { Dataset } from '../dataset.js'
import { fitModel } from '../fit/sgd.js'
import type { Model } from '../model.js'
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
  /** Steps until the loss was at most the target, looked at after each; null where `maxSteps` were too few. */
  steps: number | null
  targetLoss: number
  /** Of the rows that are looked at (1,000 at most), at the end. */
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
  const plain = { learningRate, batchSize, momentum: 0, weightDecay: 0, schedule: 'constant', ...pass } as const
  try {
    for (let step = 0; ; step++) {
      checkSignal(signal)
      const { loss } = await copy.measure(watched, pass)
      onProgress?.({ phase: 'relearn', done: step, total: maxSteps })
      if (loss <= targetLoss) return { steps: step, targetLoss, loss }
      if (step === maxSteps) return { steps: null, targetLoss, loss }
      await fitModel(copy, forgetSet, { ...plain, schedule: { type: 'constant', warmup: 0 }, steps: 1, batchNorm: 'evaluation', seed: seed + step }) // prettier-ignore
    }
  } finally {
    copy.dispose()
    watched.dispose()
  }
}
