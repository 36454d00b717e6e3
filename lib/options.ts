// Options of public calls: predicates, checks with one message shape, and unknown keys answered with the nearest known.
import { closest } from 'fastest-levenshtein'
import { PalimpsestError, type ErrorCode } from './errors.js'

/** What a value calls itself, e.g. `Map`; a revoked proxy calls itself nothing. */
function tagOf(value: unknown): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1)
  } catch {
    return 'Proxy'
  }
}

/** Predicates on values that a caller may pass. */
export const is = {
  /** A finite number; NaN and the infinities are not. */
  number: (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value),
  /** A whole number that a double holds exactly. */
  integer: (value: unknown): value is number => Number.isSafeInteger(value),
  string: (value: unknown): value is string => typeof value === 'string',
  boolean: (value: unknown): value is boolean => typeof value === 'boolean',
  function: (value: unknown): value is (...args: never[]) => unknown => typeof value === 'function',
  /** An object literal, or one without a prototype, also from another realm; nothing that inherits keys. */
  plainObject: (value: unknown): value is Record<string, unknown> => {
    if (typeof value !== 'object' || value === null || tagOf(value) !== 'Object') return false
    const prototype = Object.getPrototypeOf(value) as object | null
    return prototype === null || Object.hasOwn(prototype, 'isPrototypeOf')
  },
  /** An AbortSignal, also from another realm or a library. */
  abortSignal: (value: unknown): value is AbortSignal =>
    typeof value === 'object' &&
    value !== null &&
    tagOf(value) === 'AbortSignal' &&
    'aborted' in value &&
    'addEventListener' in value,
}

/** A value in a few words, for a message. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `'${value.slice(0, 57)}...'` : `'${value}'`
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'symbol') return value.toString()
  if (typeof value === 'function') return 'a function'
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : String(value)
  const tag = tagOf(value)
  if (tag === 'Array') return `an array of ${(value as unknown[]).length}`
  if (ArrayBuffer.isView(value)) return `${tag}(${'length' in value ? String(value.length) : value.byteLength})`
  if (!is.plainObject(value)) return `an object of type ${tag}`
  const keys = Object.keys(value)
  const shown = keys.slice(0, 5).join(', ')
  return keys.length === 0 ? 'an empty object' : `an object with ${shown}${keys.length > 5 ? ', ...' : ''}`
}

/**
 * The error for a value that will not do: what was expected, for which option, what came.
 *
 * @param name - the option or argument, e.g. `damping` or `target.nats`
 * @param expected - e.g. `a number of at least 0`
 */
export function invalid(
  name: string,
  expected: string,
  actual: unknown,
  code: ErrorCode = 'ERR_INVALID_ARGUMENT',
): PalimpsestError {
  return new PalimpsestError(code, `expected ${expected} for '${name}', got ${describe(actual)}`)
}

/** What a value must be: `read` gives it back typed, or throws `invalid(name, expected, value)`. */
export interface Check<T> {
  readonly expected: string
  read(value: unknown, name: string): T
  /** Whether the value is meant for this check among others: then its own message says best what is wrong. */
  claims?(value: unknown): boolean
}

/** A check from a predicate and the words for what it wants. */
export function check<T>(expected: string, holds: (value: unknown) => value is T): Check<T> {
  return {
    expected,
    read(value, name) {
      if (!holds(value)) throw invalid(name, expected, value)
      return value
    },
  }
}

/** Bounds of a number: `min` and `max` belong to the range, `above` and `below` do not. */
export interface Range {
  min?: number
  above?: number
  max?: number
  below?: number
}

function inRange(value: number, { min = -Infinity, above = -Infinity, max = Infinity, below = Infinity }: Range) {
  return value >= min && value > above && value <= max && value < below
}

function rangeInWords({ min, above, max, below }: Range): string {
  const bounds = [
    min !== undefined && `of at least ${min}`,
    above !== undefined && `above ${above}`,
    max !== undefined && `of at most ${max}`,
    below !== undefined && `below ${below}`,
  ].filter((bound) => bound !== false)
  return bounds.length === 0 ? '' : ` ${bounds.join(' and ')}`
}

/** A finite number within `range`. */
export function number(range: Range = {}): Check<number> {
  return check(`a number${rangeInWords(range)}`, (value): value is number => is.number(value) && inRange(value, range))
}

/** A whole number within `range`; unless `min` is given, not below 0. */
export function integer(range: Range = {}): Check<number> {
  const whole = range.min === undefined && range.above === undefined ? { min: 0, ...range } : range
  return check(
    `a whole number${rangeInWords(whole)}`,
    (value): value is number => is.integer(value) && inRange(value, whole),
  )
}

/** One of a few words. */
export function oneOf<const T extends string>(...words: T[]): Check<T> {
  const expected = words.map((word) => `'${word}'`).join(words.length === 2 ? ' or ' : ', ')
  return check(words.length > 2 ? `one of ${expected}` : expected, (value): value is T => words.includes(value as T))
}

export const string: Check<string> = check('a string', is.string)
export const boolean: Check<boolean> = check('true or false', is.boolean)
export const abortSignal: Check<AbortSignal> = check('an AbortSignal', is.abortSignal)

/** A function, given back under the type that the caller names; what it takes and returns cannot be checked. */
export function callback<T extends (...args: never[]) => unknown>(): Check<T> {
  return check('a function', (value): value is T => is.function(value))
}

/** What any of the checks takes, tried in order; a check that claims the value decides alone. */
export function either<T extends readonly Check<unknown>[]>(...checks: T): Check<ReturnType<T[number]['read']>> {
  const expected = checks.map((each) => each.expected).join(' or ')
  return {
    expected,
    read(value, name) {
      const claiming = checks.filter((each) => each.claims?.(value))
      for (const each of claiming.length === 1 ? claiming : checks) {
        try {
          return each.read(value, name) as ReturnType<T[number]['read']>
        } catch (error) {
          if (claiming.length === 1 || !(error instanceof PalimpsestError)) throw error
        }
      }
      throw invalid(name, expected, value)
    },
  }
}

/** The same, and undefined where nothing was given. */
export function optional<T>(inner: Check<T>): Check<T | undefined> {
  return {
    expected: inner.expected,
    read: (value, name) => (value === undefined ? undefined : inner.read(value, name)),
  }
}

/** The same, and `value` where nothing was given. */
export function withDefault<T, D extends T>(inner: Check<T>, value: D): Check<T> {
  return { expected: inner.expected, read: (given, name) => (given === undefined ? value : inner.read(given, name)) }
}

/** The known keys of an options object, with what each must be. */
export type OptionTable = Record<string, Check<unknown>>
/** The options that a table reads. */
export type OptionsOf<T extends OptionTable> = { [K in keyof T]: ReturnType<T[K]['read']> }

/**
 * Reads an options object against a table of its known keys. Every key is read once.
 *
 * @param given - the caller's object; undefined stands for no options
 * @param table - a check a key; a key that has neither `optional` nor `withDefault` must be given
 * @param of - whose options, for messages, e.g. `forget()`
 * @throws PalimpsestError `ERR_INVALID_ARGUMENT`: not a plain object, a key that is not in the table (names the nearest
 *   one that is), or a value that its check refuses
 */
export function readOptions<T extends OptionTable>(given: unknown, table: T, of: string): OptionsOf<T> {
  return readKeys(given === undefined ? {} : given, table, 'a plain object', `options of ${of}`, '')
}

/** A nested options object, e.g. `target: { nats }`, with keys as strict as the outer ones. */
export function object<T extends OptionTable>(table: T): Check<OptionsOf<T>> {
  const expected = `an object with ${Object.keys(table).join(', ')}`
  return {
    expected,
    read: (value, name) => readKeys(value, table, expected, `'${name}'`, `${name}.`),
    claims: (value) => is.plainObject(value) && Object.keys(value).some((key) => Object.hasOwn(table, key)),
  }
}

function readKeys<T extends OptionTable>(
  given: unknown,
  table: T,
  expected: string,
  whose: string,
  prefix: string,
): OptionsOf<T> {
  const refuse = (what: string, came: unknown, more = '') =>
    new PalimpsestError('ERR_INVALID_ARGUMENT', `expected ${what} for ${whose}, got ${describe(came)}${more}`)
  if (!is.plainObject(given)) throw refuse(expected, given)
  const known = Object.keys(table)
  for (const key of Reflect.ownKeys(given)) {
    if (typeof key === 'string' && Object.hasOwn(table, key)) continue
    if (known.length === 0) throw refuse('no keys', key)
    const nearest = typeof key === 'string' ? `; the nearest is '${closest(key, known)}'` : ''
    throw refuse(`keys among ${known.join(', ')}`, key, nearest)
  }
  const valueOf = (key: string) => (Object.hasOwn(given, key) ? given[key] : undefined)
  return Object.fromEntries(known.map((key) => [key, table[key].read(valueOf(key), prefix + key)])) as OptionsOf<T>
}
