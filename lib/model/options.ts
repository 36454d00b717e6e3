// Options of loading and of the products, checked: types, ranges, and keys that are not known answered with the nearest that is.
import { PalimpsestError } from '../errors.js'
import { native } from '../native.js'
import type { ImportOptions } from '../onnx/index.js'
import {
  abortSignal,
  callback,
  check,
  integer,
  is,
  number,
  oneOf,
  optional,
  readOptions,
  string,
  withDefault,
  type Check,
  type OptionTable,
} from '../options.js'
import type { PassOptions, Progress } from './passes.js'
import type { FisherOptions } from './fisher.js'
import type { LossOptions, ProductOptions } from './products.js'

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

/** Anything, or nothing: checked where it is used. */
function later<T>(): Check<T | undefined> {
  return { expected: 'a value', read: (value) => value as T | undefined }
}

export const deviceOption = withDefault(check('a device', is.string), 'auto')
export const importOptions = {
  parameters: later<NonNullable<ImportOptions['parameters']>>(),
  output: optional(string),
  inputShape: later<readonly number[]>(),
  maxBytes: optional(integer({ min: 1 })),
}
export const vectorOptions = { dtype: withDefault(oneOf('float32', 'float64'), 'float32') }

/** The device of that name; ERR_DEVICE says why it cannot be had. */
export function deviceOf(wanted: string): string {
  const known = native().devices()
  if (wanted === 'auto') return (known.find((device) => device.available) ?? known[0]).name
  const found = known.find((device) => device.name === wanted)
  if (found?.available) return found.name
  const why = found?.description ?? `this build has ${known.map((device) => device.name).join(', ')}`
  throw new PalimpsestError('ERR_DEVICE', `expected a device that can be used for 'device', got '${wanted}': ${why}`)
}
