// Options: what is read, and above all how misuse is answered.
import { describe as group, expect, it } from 'vitest'
import { PalimpsestError } from '../lib/errors.js'
import {
  abortSignal,
  boolean,
  callback,
  describe,
  either,
  integer,
  invalid,
  is,
  number,
  object,
  oneOf,
  optional,
  readOptions,
  string,
  withDefault,
} from '../lib/options.js'

const table = {
  damping: withDefault(number({ above: 0 }), 1),
  samples: optional(integer({ min: 1 })),
  type: oneOf('empirical', 'exact', 'mc'),
  noise: withDefault(either(oneOf('auto'), number({ min: 0 })), 'auto'),
  target: optional(
    either(
      object({ nats: number({ above: 0 }) }),
      object({ epsilon: number(), delta: number({ above: 0, below: 1 }) }),
    ),
  ),
  name: optional(string),
  verbose: withDefault(boolean, false),
  signal: optional(abortSignal),
  onProgress: optional(callback<(done: number) => void>()),
}

const read = (given: unknown) => readOptions(given, table, 'forget()')

/** The message of the coded error that a call throws. */
function refusal(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(PalimpsestError)
    expect((error as PalimpsestError).code).toBe('ERR_INVALID_ARGUMENT')
    return (error as PalimpsestError).message
  }
  throw new Error('nothing was thrown')
}

group('options that are right', () => {
  it('are read, with defaults where nothing is given', () => {
    const { signal } = new AbortController()
    const onProgress = () => {}
    const options = read({ type: 'mc', samples: 3, signal, onProgress, target: { nats: 0.01 } })
    expect(options).toEqual({
      damping: 1,
      samples: 3,
      type: 'mc',
      noise: 'auto',
      target: { nats: 0.01 },
      name: undefined,
      verbose: false,
      signal,
      onProgress,
    })
  })

  it('may be undefined, one by one or all', () => {
    expect(readOptions(undefined, { damping: withDefault(number(), 2) }, 'x()')).toEqual({ damping: 2 })
    expect(read({ type: 'exact', damping: undefined }).damping).toBe(1)
  })

  it('may come without a prototype or as a second alternative', () => {
    const bare = Object.assign(Object.create(null) as object, { type: 'exact', noise: 0.5 })
    expect(read(bare).noise).toBe(0.5)
    expect(read({ type: 'exact', target: { epsilon: 1, delta: 1e-5 } }).target).toEqual({ epsilon: 1, delta: 1e-5 })
  })

  it('are read once each', () => {
    let reads = 0
    const given = {
      type: 'exact',
      get damping() {
        return ++reads
      },
    }
    expect(read(given).damping).toBe(1)
    expect(reads).toBe(1)
  })
})

group('predicates', () => {
  it.each([
    ['number', is.number, [0, -1.5], [NaN, Infinity, '1', 1n, null]],
    ['integer', is.integer, [0, -3], [0.5, 2 ** 53, NaN, '1']],
    ['plainObject', is.plainObject, [{}, Object.create(null)], [[], null, new Map(), Object.create({ a: 1 }), () => 0]],
    ['abortSignal', is.abortSignal, [AbortSignal.abort()], [{}, { aborted: false }, null, new AbortController()]],
  ] as [string, (value: unknown) => boolean, unknown[], unknown[]][])('%s', (_, holds, yes, no) => {
    expect(yes.map(holds)).toEqual(yes.map(() => true))
    expect(no.map(holds)).toEqual(no.map(() => false))
  })

  it.each([
    ['x'.repeat(80), `'${'x'.repeat(57)}...'`],
    [3, '3'],
    [-0, '-0'],
    [NaN, 'NaN'],
    [5n, '5n'],
    [null, 'null'],
    [undefined, 'undefined'],
    [[1, 2], 'an array of 2'],
    [new Float32Array(10), 'Float32Array(10)'],
    [new DataView(new ArrayBuffer(3)), 'DataView(3)'],
    [new Map(), 'an object of type Map'],
    [{}, 'an empty object'],
    [{ a: 1, b: 2 }, 'an object with a, b'],
    [() => 0, 'a function'],
    [Symbol('s'), 'Symbol(s)'],
  ])('describe(%s) is short', (value, words) => {
    expect(describe(value)).toBe(words)
  })
})

group('misuse', () => {
  it('names the nearest known key of an unknown one', () => {
    expect(refusal(() => read({ type: 'exact', dampng: 1 }))).toBe(
      'expected keys among damping, samples, type, noise, target, name, verbose, signal, onProgress ' +
        "for options of forget(), got 'dampng'; the nearest is 'damping'",
    )
    expect(refusal(() => read({ type: 'exact', onprogress() {} }))).toMatch(/the nearest is 'onProgress'$/)
    expect(refusal(() => read({ type: 'exact', target: { nat: 1 } }))).toMatch(/for 'target', got an object with nat$/)
    expect(refusal(() => read({ type: 'exact', target: { epsilon: 1, dleta: 1e-5 } }))).toMatch(
      /^expected keys among epsilon, delta for 'target', got 'dleta'; the nearest is 'delta'$/,
    )
  })

  it('refuses keys that are no words, and any key where none is known', () => {
    expect(refusal(() => read({ type: 'exact', [Symbol('damping')]: 1 }))).toMatch(/got Symbol\(damping\)$/)
    expect(refusal(() => readOptions({ a: 1 }, {}, 'x()'))).toBe("expected no keys for options of x(), got 'a'")
    expect(refusal(() => read(JSON.parse('{"type": "exact", "__proto__": 1}')))).toMatch(/got '__proto__'/)
    expect(refusal(() => read({ type: 'exact', constructor: 1 }))).toMatch(/got 'constructor'/)
  })

  it('takes no key from a prototype', () => {
    expect(refusal(() => read(Object.create({ type: 'exact' })))).toMatch(/^expected a plain object/)
    expect(refusal(() => readOptions({}, { toString: number() }, 'x()'))).toMatch(/'toString', got undefined$/)
  })

  it.each([
    [null, 'null'],
    ['cpu', "'cpu'"],
    [3, '3'],
    [[], 'an array of 0'],
    [new Map(), 'an object of type Map'],
    [() => 0, 'a function'],
  ])('refuses %s for all options', (given, words) => {
    expect(refusal(() => read(given))).toBe(`expected a plain object for options of forget(), got ${words}`)
  })

  it('refuses a revoked proxy', () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    expect(refusal(() => read(proxy))).toMatch(/got an object of type Proxy$/)
  })

  it.each([
    [{}, "expected one of 'empirical', 'exact', 'mc' for 'type', got undefined"],
    [{ type: 'exakt' }, "expected one of 'empirical', 'exact', 'mc' for 'type', got 'exakt'"],
    [{ type: 'exact', damping: -1 }, "expected a number above 0 for 'damping', got -1"],
    [{ type: 'exact', damping: 0 }, "expected a number above 0 for 'damping', got 0"],
    [{ type: 'exact', damping: NaN }, "expected a number above 0 for 'damping', got NaN"],
    [{ type: 'exact', damping: Infinity }, "expected a number above 0 for 'damping', got Infinity"],
    [{ type: 'exact', damping: '1' }, "expected a number above 0 for 'damping', got '1'"],
    [{ type: 'exact', damping: null }, "expected a number above 0 for 'damping', got null"],
    [{ type: 'exact', samples: 1.5 }, "expected a whole number of at least 1 for 'samples', got 1.5"],
    [{ type: 'exact', samples: 2 ** 53 }, "expected a whole number of at least 1 for 'samples', got 9007199254740992"],
    [{ type: 'exact', noise: 'none' }, "expected 'auto' or a number of at least 0 for 'noise', got 'none'"],
    [{ type: 'exact', target: { nats: -1 } }, "expected a number above 0 for 'target.nats', got -1"],
    [
      { type: 'exact', target: { epsilon: 1, delta: 1 } },
      "expected a number above 0 and below 1 for 'target.delta', got 1",
    ],
    [
      { type: 'exact', target: { epsilon: 1 } },
      "expected a number above 0 and below 1 for 'target.delta', got undefined",
    ],
    [
      { type: 'exact', target: 0.01 },
      "expected an object with nats or an object with epsilon, delta for 'target', got 0.01",
    ],
    [{ type: 'exact', name: 3 }, "expected a string for 'name', got 3"],
    [{ type: 'exact', verbose: 1 }, "expected true or false for 'verbose', got 1"],
    [
      { type: 'exact', signal: new AbortController() },
      "expected an AbortSignal for 'signal', got an object of type AbortController",
    ],
    [{ type: 'exact', onProgress: 'log' }, "expected a function for 'onProgress', got 'log'"],
  ])('%j: %s', (given, message) => {
    expect(refusal(() => read(given))).toBe(message)
  })

  it('refuses a default-less whole number below 0', () => {
    expect(refusal(() => integer().read(-1, 'seed'))).toBe("expected a whole number of at least 0 for 'seed', got -1")
  })

  it('keeps the code that a caller asks for, and foreign errors as they are', () => {
    expect(invalid('inputs', '10 values', new Float32Array(9), 'ERR_SHAPE').code).toBe('ERR_SHAPE')
    const broken = either({
      expected: 'anything',
      read: () => {
        throw new TypeError('a bug')
      },
    })
    expect(() => broken.read(1, 'x')).toThrow(TypeError)
  })
})
