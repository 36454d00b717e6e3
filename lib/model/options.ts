// Options of the products, checked: types, ranges, and keys that are not known answered with the nearest that is.
import { abortSignal, callback, check, integer, is, number, oneOf, optional, readOptions } from '../options.js'
import type { OptionTable } from '../options.js'
import type { PassOptions, Progress } from './passes.js'
import type { FisherOptions, LossOptions, ProductOptions } from './products.js'

const pass = { signal: optional(abortSignal), onProgress: optional(callback<(progress: Progress) => void>()) }
const product = {
  precision: optional(oneOf('float32', 'float64')),
  parameters: optional(
    check(
      'a list of one parameter name or more',
      (v): v is readonly string[] => Array.isArray(v) && v.length > 0 && v.every(is.string),
    ),
  ),
  ...pass,
}
const loss = {
  loss: optional(oneOf('crossEntropy', 'squaredError')),
  targetScale: optional(number()),
  labelSmoothing: optional(number({ min: 0, max: 1 })),
  ...product,
}
const fisher = {
  type: optional(oneOf('empirical', 'exact', 'mc')),
  samples: optional(integer({ min: 1 })),
  seed: optional(integer()),
  ...product,
}

/** Reads options and leaves out what was not given. */
function reader<T>(table: OptionTable): (given: unknown, of: string) => T {
  return (given, of) => {
    const read = readOptions(given, table, of)
    return Object.fromEntries(Object.entries(read).filter(([, value]) => value !== undefined)) as T
  }
}

export const readPassOptions = reader<PassOptions>(pass)
export const readProductOptions = reader<ProductOptions>(product)
export const readLossOptions = reader<LossOptions>(loss)
export const readFisherOptions = reader<FisherOptions>(fisher)
