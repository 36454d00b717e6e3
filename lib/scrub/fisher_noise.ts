// scrub() with method 'fisherNoise': noise where the retained rows do not need the weights (Golatkar et al. 2020).
import type { Dataset } from '../dataset.js'
import { checkData } from '../model/held_data.js'
import { integer, number, oneOf, optional, withDefault, type OptionsOf } from '../options.js'
import { streams } from '../philox.js'
import { normalOf, randomWords } from '../random_words.js'
import { inTurns } from '../turns.js'
import { datasetCheck } from './fine_tune.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'

/** Fisher forgetting: a baseline of the field. Needs the retained rows only. */
export interface FisherNoiseOptions extends CommonScrubOptions {
  method: 'fisherNoise'
  retainSet: Dataset
  /** s in w + s (F + floor)^-power e with e ~ N(0, I); default 1e-3. There is no choice of it without data. */
  noiseScale?: number
  /** 0.25 (default), the paper's covariance F^-1/2, or 0.5, that of its released code, F^-1. */
  power?: 0.25 | 0.5
  /** Added to the diagonal, default 1e-8. */
  floor?: number
  /** Most standard deviation of any weight's noise; default 1. */
  largest?: number
  /** 'mc' (default): labels drawn from the model, one a row. 'exact': all K labels, K times the cost. */
  fisher?: 'mc' | 'exact'
  /** Of the labels under 'mc', default 0. */
  seed?: number
  /** For tests only: noise of a known seed can be subtracted. */
  noiseSeed?: number
}

export interface FisherNoiseReport extends CommonScrubReport {
  method: 'fisherNoise'
  /** |noise| of each tensor. */
  tensors: { name: string; norm: number }[]
}

const table = {
  retainSet: datasetCheck,
  noiseScale: withDefault(number({ above: 0 }), 1e-3),
  power: withDefault({ ...number(), expected: '0.25 or 0.5' }, 0.25),
  floor: withDefault(number({ above: 0 }), 1e-8),
  largest: withDefault(number({ above: 0 }), 1),
  fisher: withDefault(oneOf('mc', 'exact'), 'mc'),
  seed: withDefault(integer(), 0),
  noiseSeed: optional(integer()),
}

export const fisherNoise: ScrubMethod<typeof table, { tensors: FisherNoiseReport['tensors'] }> = {
  table,
  check(model, { retainSet, power }) {
    checkData(retainSet, model.engine, false)
    if (power !== 0.25 && power !== 0.5) oneOf('0.25', '0.5').read(power, 'power')
  },
  async run({ work, passes }, options: OptionsOf<typeof table>) {
    const { retainSet, noiseScale, power, floor, largest, fisher, seed, noiseSeed } = options
    const diagonal = await work.fisherDiagonal(retainSet, { type: fisher, ...(fisher === 'mc' && { seed }), ...passes })
    const weights = await work.weights()
    const flat = await weights.native.read()
    const f = await diagonal.native.read()
    const word = randomWords(noiseSeed, streams.noise)
    const tensors: FisherNoiseReport['tensors'] = []
    for (const { name, offset, size } of weights.native.layout) {
      let square = 0
      await inTurns(size, (from, to) => {
        for (let i = offset + from; i < offset + to; i++) {
          const noise = Math.min(largest, noiseScale * (f[i] + floor) ** -power) * normalOf(word)
          flat[i] += noise
          square += noise * noise
        }
      })
      tensors.push({ name, norm: Math.sqrt(square) })
    }
    await weights.native.write(flat)
    await work.setWeights(weights)
    weights.dispose()
    diagonal.dispose()
    return { sampleVisits: retainSet.size * (fisher === 'exact' ? work.classes : 1), details: { tensors } }
  },
}
