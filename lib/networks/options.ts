// Options of the networks, checked.
import { PalimpsestError } from '../errors.js'
import {
  check,
  integer,
  is,
  readOptions,
  withDefault,
  type Check,
  type OptionsOf,
  type OptionTable,
} from '../options.js'

export interface NetworkOptions {
  /** Of one example. */
  inputShape?: readonly number[]
  classes?: number
  /** Of the initial weights; a whole number, 0 where none is given. */
  seed?: number
}

/** A number of channels, units, blocks. */
export const size = (value: number): Check<number> => withDefault(integer({ min: 1 }), value)

/** A list of sizes. */
export const sizes = (value: readonly number[]): Check<readonly number[]> =>
  withDefault(
    check('a list of whole numbers of at least 1', (v): v is readonly number[] => {
      return Array.isArray(v) && v.every((each) => is.integer(each) && each >= 1)
    }),
    value,
  )

/** What a network was asked for, its defaults filled in; keys that are not known are errors. */
export function readNetworkOptions<T extends OptionTable>(
  given: unknown,
  of: string,
  inputShape: readonly number[],
  table: T,
  classes = 10,
): OptionsOf<T> & Required<NetworkOptions> {
  const common = { inputShape: sizes(inputShape), classes: size(classes), seed: withDefault(integer(), 0) }
  const read = readOptions(given, { ...common, ...table }, `networks.${of}()`) as OptionsOf<T> &
    Required<NetworkOptions>
  if (read.inputShape.length === inputShape.length || inputShape.length === 0) return read
  throw new PalimpsestError(
    'ERR_INVALID_ARGUMENT',
    `expected ${inputShape.length} sizes, as in [${inputShape.join(', ')}], for 'inputShape', got [${read.inputShape.join(', ')}]`,
  )
}
