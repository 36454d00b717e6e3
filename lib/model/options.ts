// Options of loading and of the products, checked: types, ranges, and keys that are not known answered with the nearest that is.
import type { ImportOptions } from '../onnx/index.js'
import {
  abortSignal,
  callback,
  check,
  integer,
  invalid,
  is,
  number,
  oneOf,
  optional,
  readOptions,
  string,
  withDefault,
  type OptionTable,
} from '../options.js'
import type { PassOptions, Progress } from './passes.js'
import type { FisherOptions } from './fisher.js'
import type { LinearizedLossOptions, LinearizeOptions } from './linearization.js'
import type { LossOptions, ProductOptions } from './products.js'

const pass = { signal: optional(abortSignal), onProgress: optional(callback<(progress: Progress) => void>()) }
const product = {
  precision: optional(oneOf('float32', 'tf32', 'float64')),
  parameters: optional(
    check(
      'a list of one parameter name or more',
      (v): v is readonly string[] => Array.isArray(v) && v.length > 0 && v.every(is.string),
    ),
  ),
  batchSize: optional(integer({ min: 1, max: 2 ** 31 - 1 })),
  ...pass,
}
const loss = {
  loss: optional(oneOf('crossEntropy', 'squaredError')),
  targetScale: optional(number()),
  labelSmoothing: optional(number({ min: 0, max: 1 })),
  ...product,
}
const { batchSize: _batchSize, ...atOnce } = product
const linearize = { memory: optional(number({ min: 1 })), ...atOnce }
const linearizedLoss = { loss: optional(oneOf('crossEntropy', 'squaredError')), ...pass }
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
const readLoss = reader<LossOptions>(loss)
const readFisher = reader<FisherOptions>(fisher)
export const readLinearizeOptions = reader<LinearizeOptions>(linearize)
export const readLinearizedLossOptions = reader<LinearizedLossOptions>(linearizedLoss)

export function readLossOptions(given: unknown, of: string): LossOptions {
  const read = readLoss(given, of)
  const { loss = 'crossEntropy', labelSmoothing, targetScale } = read
  if (loss === 'squaredError' && labelSmoothing !== undefined)
    throw invalid('labelSmoothing', "nothing with loss 'squaredError'", labelSmoothing)
  if (loss === 'crossEntropy' && targetScale !== undefined)
    throw invalid('targetScale', "nothing with loss 'crossEntropy'", targetScale)
  return read
}

export function readFisherOptions(given: unknown, of: string): FisherOptions {
  const read = readFisher(given, of)
  const { type = 'empirical', samples, seed } = read
  if (type === 'mc') return read
  if (samples !== undefined) throw invalid('samples', `nothing with type '${type}'`, samples)
  if (seed !== undefined) throw invalid('seed', `nothing with type '${type}'`, seed)
  return read
}

export const deviceOption = withDefault(check('a device', is.string), 'auto')
export const importOptions = {
  parameters: optional(
    check(
      'a list of names, or a function of name and shape',
      (v): v is NonNullable<ImportOptions['parameters']> =>
        typeof v === 'function' || (Array.isArray(v) && v.every(is.string)),
    ),
  ),
  output: optional(string),
  inputShape: optional(
    check('a list of sizes of at least 1', (v): v is readonly number[] => {
      return Array.isArray(v) && v.every((size) => is.integer(size) && size >= 1)
    }),
  ),
  maxBytes: optional(integer({ min: 1 })),
}
export const cloneOptions = { device: optional(check('a device', is.string)) }
export const headOptions = { seed: withDefault(integer(), 0) }
export const vectorOptions = { dtype: withDefault(oneOf('float32', 'float64'), 'float32') }
