// Options that every network has.
import { PalimpsestError } from '../errors.js'

export interface NetworkOptions {
  /** Of one example. */
  inputShape?: readonly number[]
  classes?: number
  /** Of the initial weights; a whole number, 0 where none is given. */
  seed?: number
}

/** @throws ERR_INVALID_ARGUMENT where it is no whole number of at least `least` */
export function atLeast(least: number, option: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `${option}: expected a whole number of at least ${least}, got ${value}`,
    )
  }
  return value
}
