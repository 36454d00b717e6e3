// Options that the sources of rows share, as tables for readOptions; what needs the rows is checked with them.
import { abortSignal, integer, number, object, optional, type Check } from '../options.js'
import type { KeySource } from './keys.js'
import type { Normalization } from './normalize.js'

/** Anything, or nothing: checked where it is used. */
function later<T>(): Check<T | undefined> {
  return { expected: 'a value', read: (value) => value as T | undefined }
}

const normalize: Check<Normalization | undefined> = optional(
  object({
    mean: later<Normalization['mean']>(),
    std: later<Normalization['std']>(),
    scale: optional(number()),
  }),
)
const keys = { owners: later<KeySource>(), ids: later<KeySource>() }
const classes = optional(integer({ min: 1 }))
const signal = optional(abortSignal)
const shape = later<readonly number[]>() as Check<readonly number[]>

/** Keys of the options of each source. */
export const sourceOptions = {
  arrays: { inputs: later<unknown>(), labels: later<unknown>(), shape, classes, normalize, ...keys },
  idx: { classes, normalize, ...keys, signal },
  cifar: { kind: later<'cifar10' | 'cifar100' | 'cifar100-coarse'>(), normalize, ...keys, signal },
  iterable: { shape, classes, normalize, signal },
}

/** Keys of a row filter. */
export const filterOptions = {
  indices: later<Iterable<number>>(),
  class: later<number | readonly number[]>(),
  owner: later<string | number | readonly (string | number)[]>(),
  id: later<string | number | readonly (string | number)[]>(),
}
