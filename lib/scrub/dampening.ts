// scrub() with method 'dampening': weights that matter to the forgotten rows out of proportion shrink (Foster et al. 2024).
import type { Dataset } from '../dataset.js'
import type { Model } from '../model.js'
import { checkData } from '../model/held_data.js'
import type { PassOptions } from '../model/passes.js'
import type { FloatArray } from '../native.js'
import { number, withDefault, type OptionsOf } from '../options.js'
import { inTurns } from '../turns.js'
import { datasetCheck } from './fine_tune.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

/** Selective synaptic dampening: a baseline of the field. */
export interface DampeningOptions extends CommonScrubOptions {
  method: 'dampening'
  forgetSet: Dataset
  retainSet: Dataset
  /** alpha: a weight is dampened where F_forget > alpha F_all; default 10. */
  alpha?: number
  /** lambda: by min(lambda F_all / F_forget, 1); default 1. */
  lambda?: number
}

export interface DampeningReport extends CommonScrubReport {
  method: 'dampening'
  /** For each tensor the share of its weights that were dampened, 0 to 1. */
  tensors: { name: string; dampened: number }[]
}

const table = {
  forgetSet: datasetCheck,
  retainSet: datasetCheck,
  alpha: withDefault(number({ above: 0 }), 10),
  lambda: withDefault(number({ min: 0 }), 1),
}

async function diagonal(work: Model, data: Dataset, passes: PassOptions): Promise<FloatArray> {
  const vector = await work.fisherDiagonal(data, passes)
  const values = await vector.native.read()
  vector.dispose()
  return values
}

export const dampening: ScrubMethod<typeof table, { tensors: DampeningReport['tensors'] }> = {
  table,
  check(model, { forgetSet, retainSet }) {
    checkData(forgetSet, model.engine, true)
    checkData(retainSet, model.engine, true)
  },
  /** w_i := min(lambda F_all,i / F_forget,i, 1) w_i where F_forget,i > alpha F_all,i, F the empirical diagonal. */
  async run({ work, passes }, { forgetSet, retainSet, alpha, lambda }: OptionsOf<typeof table>) {
    const [forget, retain] = [await diagonal(work, forgetSet, passes), await diagonal(work, retainSet, passes)]
    const share = forgetSet.size / (forgetSet.size + retainSet.size)
    const weights = await work.weights()
    const flat = await weights.native.read()
    const tensors: DampeningReport['tensors'] = []
    for (const { name, offset, size } of weights.native.layout) {
      let count = 0
      await inTurns(size, (from, to) => {
        for (let i = offset + from; i < offset + to; i++) {
          const all = share * forget[i] + (1 - share) * retain[i]
          if (forget[i] <= alpha * all) continue
          flat[i] *= Math.min((lambda * all) / forget[i], 1)
          count++
        }
      })
      tensors.push({ name, dampened: count / size })
    }
    await weights.native.write(flat)
    await work.setWeights(weights)
    weights.dispose()
    return { sampleVisits: forgetSet.size + retainSet.size, details: { tensors } }
  },
}
