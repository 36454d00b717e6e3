// Training that can be undone: shards and slices, the exact arm bit for bit, records over many requests, misuse.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { Dataset, Model, TrainingRecord, bound, fitSharded, forget, networks } from '../lib/index.js'
import type { FitShardedOptions, JobRunner } from '../lib/index.js'
import { environmentOf } from '../lib/jobs/environment.js'
import { runJob } from '../lib/jobs/run.js'
import { fitModel } from '../lib/fit/sgd.js'
import { refusal } from './refusal.js'

const root = mkdtempSync(join(tmpdir(), 'palimpsest-sharded-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const newFolder = () => join(root, `record-${folders++}`)

/** Jobs in this process: quick, and a process pool gives the same bits (test/jobs.test.ts). */
const here: JobRunner = { run: (job, options = {}) => runJob(job, options), close: async () => undefined }
const { threads } = environmentOf('cpu')

/** Rows `r0`, `r1`, ... that have ids, and owners of three rows each, in any order. */
function rowsAsArrays(order: readonly number[] = [...Array(61).keys()], keyed = true) {
  const values = order.flatMap((row) =>
    Array.from({ length: 16 }, (_, j) => Math.sin((row + 1) * (j + 2)) + Number(j % 3 === row % 3)),
  )
  const keys = { ids: order.map((row) => `r${row}`), owners: order.map((row) => `u${Math.floor(row / 3)}`) }
  return {
    inputs: Float32Array.from(values),
    labels: order.map((row) => row % 3),
    shape: [1, 4, 4],
    classes: 3,
    ...(keyed && keys),
  }
}

const makeData = (...given: Parameters<typeof rowsAsArrays>): Dataset => Dataset.fromArrays(rowsAsArrays(...given))

const makeModel = (seed = 2) =>
  Model.fromNetwork(networks.mlp({ inputShape: [1, 4, 4], hidden: [6], classes: 3, seed }))

const model = makeModel()
const base = { epochs: 2, seed: 5, threads, runner: here, fit: { batchSize: 7, learningRate: 0.1 } }
const shape = { shards: 3, slices: 3 }

type Options = Omit<FitShardedOptions, 'folder'>

async function trained(options: Options = {}, data = makeData()): Promise<TrainingRecord> {
  return (await fitSharded(model, data, { ...base, ...shape, ...options, folder: newFolder() })).record
}

/** Digests of all checkpoints: weights, momentum, statistics and counters, bit for bit. */
const bits = (record: TrainingRecord) =>
  record.manifest.states.map(({ checkpoints }) => checkpoints.map(({ slice, sha256 }) => `${slice} ${sha256}`))

const numbered = (rows: readonly string[]) => new Set(rows.map((row) => Number(row.slice(1))))
const without = (rows: readonly string[]) => [...Array(61).keys()].filter((row) => !numbered(rows).has(row))

describe('the exact arm', () => {
  const requests = [['r3', 'r17', 'r40'], ['r0'], ['r60', 'r22', 'r23', 'r5', 'r9']]

  it.each([
    { shards: 1, slices: 1 },
    { shards: 5, slices: 1 },
    { shards: 1, slices: 4 },
    { shards: 5, slices: 4 },
  ])('gives the bits of training without the rows: $shards x $slices', async (parts) => {
    const record = await trained(parts)
    const untouched = bits(record)
    for (const keys of requests) {
      const before = bits(record)
      const report = await forget(record, { keys, runner: here })
      expect(report.forgotten).toBe(keys.length)
      expect(bits(record)).not.toEqual(before)
    }
    const gone = requests.flat()
    // Another dataset in which the rows never were, in another order.
    const scratch = await trained(parts, makeData(without(gone).reverse()))
    expect(bits(record)).toEqual(bits(scratch))
    expect(bits(record)).not.toEqual(untouched)
    expect(record.size).toBe(61 - gone.length)
    await record.verify()
    await record.close()
    await scratch.close()
  })

  it('holds with batch normalisation, augmentation, momentum and rows without ids', async () => {
    const net = Model.fromNetwork(networks.resnet18({ inputShape: [3, 8, 8], classes: 3, width: 4, seed: 1 }))
    const inputs = Uint8Array.from({ length: 24 * 192 }, (_, i) => (i * i * 31 + 7 * i) % 251)
    const picture = (order: number[]) =>
      Dataset.fromArrays({
        inputs: Uint8Array.from(order.flatMap((row) => [...inputs.subarray(row * 192, row * 192 + 192)])),
        labels: order.map((row) => row % 3),
        shape: [3, 8, 8],
        classes: 3,
        normalize: { mean: [0.4, 0.5, 0.45], std: [0.2, 0.21, 0.3] },
      })
    const all = [...Array(24).keys()]
    const fit = { batchSize: 8, augment: { pad: 1, flip: true }, learningRate: 0.02 }
    const how = { ...base, fit, shards: 1, slices: 2 }
    const data = picture(all)
    const { record } = await fitSharded(net, data, { ...how, folder: newFolder() })
    const revoked = data.subset([4, 21])
    const report = await forget(record, { rows: revoked, runner: here })
    expect(report.forgotten).toBe(2)
    const left = picture(all.filter((row) => row !== 4 && row !== 21).reverse())
    const { record: scratch } = await fitSharded(net, left, { ...how, folder: newFolder() })
    expect(bits(record)).toEqual(bits(scratch))
    await record.close()
    await scratch.close()
  })

  it('trains shards and slices again only from the first that lost a row', async () => {
    const record = await trained()
    const before = bits(record)
    const key = ['r1', 'r2', 'r3', 'r4', 'r6', 'r7', 'r8'].find((name) => record.locate(name)[0].slice === 2) as string
    const [{ shard }] = record.locate(key)
    const rows = record.manifest.states[shard].rows
    const report = await forget(record, { keys: [key], runner: here })
    expect(report.shards).toEqual([{ shard, slice: 2 }])
    const after = bits(record)
    after.forEach((list, s) => {
      expect(list[0]).toBe(before[s][0])
      if (s !== shard) expect(list).toEqual(before[s])
      else expect(list[1]).not.toBe(before[s][1])
    })
    const { epochs } = record.manifest
    expect(report.visits).toBe((rows[0] + rows[1] - 1) * epochs[1] + (rows[0] + rows[1] + rows[2] - 1) * epochs[2])
    await record.close()
  })

  it('is one call for several ways to name rows', async () => {
    const record = await trained()
    expect((await forget(record, { where: { owner: 'u4' }, runner: here })).forgotten).toBe(3)
    expect((await forget(record, { where: [{ indices: [0] }, { id: 'r1' }], runner: here })).forgotten).toBe(2)
    const scratch = await trained({}, makeData(without(['r12', 'r13', 'r14', 'r0', 'r1'])))
    expect(bits(record)).toEqual(bits(scratch))
    expect(record.ledger.map(({ number, kind, arm, rows }) => [number, kind, arm, rows])).toEqual([
      [1, 'fit', 'exact', 61],
      [2, 'forget', 'exact', 3],
      [3, 'forget', 'exact', 2],
    ])
    await record.close()
    await scratch.close()
  })

  it('leaves no trace of the rows in the folder', async () => {
    const record = await trained()
    const [{ shard, slice }] = record.locate('r33')
    const gone = record.manifest.states[shard].checkpoints.filter((each) => each.slice >= slice).map(({ file }) => file)
    const { index } = record.manifest
    const { purged } = await forget(record, { keys: ['r33'], runner: here })
    expect(purged).toEqual(expect.arrayContaining([...gone, index.file, 'request.json']))
    const files = readdirSync(record.folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile())
    const names = files.map((file) => join(file.parentPath, file.name).slice(record.folder.length + 1))
    for (const file of [...gone, index.file]) expect(names).not.toContain(file)
    expect(names.filter((name) => /job|part|request/.test(name))).toEqual([])
    for (const name of names) expect(readFileSync(join(record.folder, name), 'latin1')).not.toContain('"r33"')
    expect(readFileSync(record.folder + '/' + record.manifest.index.file, 'latin1')).toContain('"r34"')
    await record.close()
  })

  it('leaves none where the path is not in normal form either', async () => {
    const folder = newFolder()
    const given = `${root}/./x/../${folder.slice(root.length + 1)}`
    const { record } = await fitSharded(model, makeData(), { ...base, ...shape, folder: given })
    const [{ shard, slice }] = record.locate('r33')
    const gone = record.manifest.states[shard].checkpoints.filter((each) => each.slice >= slice).map(({ file }) => file)
    const { purged } = await forget(record, { keys: ['r33'], runner: here })
    expect(purged).toEqual(expect.arrayContaining(gone))
    for (const file of gone) expect(existsSync(join(folder, file))).toBe(false)
    await record.close()
  })

  it('takes rows without ids that hold the same for one row, whoever owns them', async () => {
    const order = [...Array(61).keys(), 33, 33]
    const owners = order.map((_, i) => (i < 61 ? 'a' : i === 61 ? 'b' : 'c'))
    const data = Dataset.fromArrays({ ...rowsAsArrays(order, false), owners })
    const record = await trained({}, data)
    expect((await forget(record, { where: { owner: 'b' }, runner: here })).forgotten).toBe(3)
    await refusal(
      forget(record, { where: { owner: 'c' }, runner: here }),
      'ERR_INVALID_ARGUMENT',
      /one row of the record/,
    )
    const scratch = await trained({}, makeData(without(['r33']), false))
    expect(bits(record)).toEqual(bits(scratch))
    // With ids, rows of one id that hold something else are others.
    const ids = order.map((row) => `r${row}`).with(62, 'r33')
    const other = rowsAsArrays(order.with(62, 5), false)
    const named = await trained({}, Dataset.fromArrays({ ...other, owners, ids }))
    expect((await forget(named, { where: { owner: 'c' }, runner: here })).forgotten).toBe(1)
    await named.close()
    await record.close()
    await scratch.close()
  })

  it('gives an ensemble of one moment, whatever is forgotten while it is read', async () => {
    const record = await trained()
    let first = true
    const load = Reflect.get(Model.prototype, 'loadWeights') as (this: Model, source: unknown) => Promise<void>
    const spy = vi.spyOn(Model.prototype, 'loadWeights').mockImplementation(async function (this: Model, source) {
      await load.call(this, source)
      if (!first) return
      first = false
      await forget(record, { keys: [...Array(30).keys()].map((row) => `r${row}`), runner: here })
    })
    const during = await record.ensemble()
    spy.mockRestore()
    const after = await record.ensemble()
    const { inputs } = rowsAsArrays()
    expect(await during.predict({ inputs })).toEqual(await after.predict({ inputs }))
    expect(bound(during)).toEqual(bound(after))
    await record.close()
  })

  it('closes when the call that is at work is over, and takes no other meanwhile', async () => {
    const record = await trained()
    const running = forget(record, { keys: ['r4'], runner: here })
    const closing = record.close()
    await refusal(forget(record, { keys: ['r5'], runner: here }), 'ERR_DISPOSED')
    await closing
    expect((await running).forgotten).toBe(1)
    const again = await TrainingRecord.open(record.folder, { data: makeData() })
    expect(again.size).toBe(60)
    await again.verify()
    await again.close()
  })

  it('is exact to bound(), under conditions that it lists; a model that was fitted otherwise is not', async () => {
    const record = await trained()
    const ensemble = await record.ensemble()
    expect(bound(record)).toMatchObject({ exact: true, verdict: 'exact', total: null })
    const { bound: said } = await forget(record, { keys: ['r8'], runner: here })
    expect(said).toMatchObject({ certified: true, exact: true, guaranteed: { nats: 0, exact: true } })
    expect(said.assumptions.length).toBeGreaterThan(3)
    expect(bound(record)).toEqual(said)
    expect(bound(ensemble).statement).toMatch(/nothing was forgotten/)
    expect(bound(model)).toMatchObject({ exact: false, certified: false })
    ensemble.dispose()
    expect(() => bound(ensemble)).toThrow(/disposed/)
    await record.close()
  })
})

describe('a record', () => {
  it('is opened again with rows in any order, and goes on', async () => {
    const record = await trained()
    await forget(record, { keys: ['r7'], runner: here })
    await record.close()
    await record.close()
    await refusal(forget(record, { keys: ['r8'], runner: here }), 'ERR_DISPOSED', /closed/)
    const again = await TrainingRecord.open(record.folder, { data: makeData([...Array(61).keys()].reverse()) })
    expect(again).toMatchObject({ size: 60, shards: 3, slices: 3, complete: true, exact: true, pending: false })
    await forget(again, { keys: ['r11'], runner: here })
    const scratch = await trained({}, makeData(without(['r7', 'r11'])))
    expect(bits(again)).toEqual(bits(scratch))
    await again.close()
    await scratch.close()
  })

  it('knows the steps that a row was in', async () => {
    // One shard, one slice: the batches of fit() in the order of the record.
    const record = await trained({ shards: 1, slices: 1 })
    const places = [...Array(61).keys()].map((row) => record.locate(`r${row}`))
    expect(places.every((place) => place.length === 1 && place[0].steps.length === 2)).toBe(true)
    const counts = new Int32Array(18)
    for (const [{ steps }] of places) for (const step of steps) counts[step]++
    expect([...counts]).toEqual([7, 7, 7, 7, 7, 7, 7, 7, 5, 7, 7, 7, 7, 7, 7, 7, 7, 5])
    expect(record.manifest.states[0].checkpoints[0].step).toBe(18)
    expect(record.locate('nobody')).toEqual([])
    await record.close()
    const sliced = await trained({ shards: 2, slices: 3 })
    const [{ shard, slice, steps }] = sliced.locate('r20')
    const { checkpoints } = sliced.manifest.states[shard]
    const begin = slice === 1 ? 0 : checkpoints[slice - 2].step
    expect(steps[0]).toBeGreaterThanOrEqual(begin)
    expect(steps.at(-1)).toBeLessThan(checkpoints[2].step)
    expect(steps).toHaveLength(sliced.manifest.epochs.slice(slice - 1).reduce((a, b) => a + b))
    await sliced.close()
  })

  it('counts its bytes, and learns', async () => {
    const record = await trained({ epochs: 30 })
    const files = readdirSync(record.folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile())
    const sizes = files
      .filter(({ name }) => !['lock', 'manifest.json'].includes(name))
      .map((file) => readFileSync(join(file.parentPath, file.name)).length)
    expect(record.storage.total).toBe(sizes.reduce((a, b) => a + b))
    const ensemble = await record.ensemble()
    const { accuracy, loss } = await ensemble.measure(makeData())
    expect(accuracy).toBeGreaterThan(0.9)
    expect(loss).toBeLessThan(Math.log(3))
    ensemble.dispose()
    await record.close()
  })

  it('that was broken off goes on where it stood, to the same bits', async () => {
    const whole = await trained()
    const folder = newFolder()
    let visits = 0
    for (let tries = 0; tries < 3; tries++) {
      const stop = new AbortController()
      const onProgress = ({ done }: { done: number }) => {
        visits = done
        if (done > 30) stop.abort(new Error('enough'))
      }
      const options = { ...base, ...shape, folder, signal: stop.signal, onProgress }
      await expect(fitSharded(model, makeData(), options)).rejects.toThrow('enough')
    }
    expect(visits).toBeGreaterThan(30)
    const { record } = await fitSharded(model, makeData(), { ...base, ...shape, folder })
    expect(bits(record)).toEqual(bits(whole))
    // The ledger's jobs are those of the last call: it had no more to train than was left.
    const all = shape.shards * shape.slices
    expect(whole.ledger[0].jobs?.slices).toBe(all)
    const left = all - (record.ledger[0].jobs?.slices ?? NaN)
    expect(left).toBeGreaterThanOrEqual(0)
    expect(left).toBeLessThan(all)
    // Of the rows, too, those of the last call.
    expect(record.ledger[0].visits).toBeGreaterThan(0)
    expect(record.ledger[0].visits).toBeLessThan(whole.ledger[0].visits)
    await record.close()
    // Done already: nothing is run.
    const again = await fitSharded(model, makeData(), { ...base, ...shape, folder })
    expect(again.report.visits).toBe(0)
    expect(bits(again.record)).toEqual(bits(whole))
    await again.record.close()
    await whole.close()
  })

  it('is as before when a request is aborted or its jobs fail', async () => {
    const record = await trained()
    const before = { bits: bits(record), manifest: readFileSync(join(record.folder, 'manifest.json'), 'utf8') }
    const stop = new AbortController()
    const onProgress = () => stop.abort(new Error('enough'))
    const aborted = forget(record, { keys: ['r1', 'r2', 'r3'], runner: here, signal: stop.signal, onProgress })
    await expect(aborted).rejects.toThrow('enough')
    const broken: JobRunner = { run: () => Promise.reject(new Error('no workers')), close: async () => undefined }
    await expect(forget(record, { keys: ['r1'], runner: broken })).rejects.toThrow('no workers')
    const lying: JobRunner = {
      ...here,
      run: async (job, options = {}) => ({ ...(await runJob(job, options)), id: 'another' }),
    }
    await refusal(forget(record, { keys: ['r1'], runner: lying }), 'ERR_WORKER', /checksum/)
    expect(bits(record)).toEqual(before.bits)
    expect(readFileSync(join(record.folder, 'manifest.json'), 'utf8')).toBe(before.manifest)
    expect(record.pending).toBe(false)
    expect(readdirSync(join(record.folder, 'jobs'))).toEqual([])
    await record.verify()
    await record.close()
  })
})

describe('misuse', () => {
  it('refuses rows that a record does not have, or has no more', async () => {
    const record = await trained()
    const before = bits(record)
    await refusal(forget(record, { keys: ['r3', 'who'], runner: here }), 'ERR_NOT_FITTED', /'who'/)
    await refusal(forget(record, { rows: makeData([99]), runner: here }), 'ERR_NOT_FITTED', /1 of 1/)
    await refusal(forget(record, { where: { owner: 'u99' }, runner: here }), 'ERR_INVALID_ARGUMENT', /where/)
    await refusal(forget(record, { runner: here }), 'ERR_INVALID_ARGUMENT', /exactly one/)
    await refusal(forget(record, { keys: [], runner: here }), 'ERR_INVALID_ARGUMENT', /keys/)
    await refusal(forget(record, { keys: [1.5], runner: here }), 'ERR_INVALID_ARGUMENT', /keys\[0\]/)
    const shard = record.rows[1].flat().map(({ key }) => key)
    await refusal(forget(record, { keys: shard, runner: here }), 'ERR_INVALID_ARGUMENT', /all rows of shard 1/)
    const unknown = { keys: ['r3'], preffer: 'exact' } as never
    await refusal(forget(record, unknown), 'ERR_INVALID_ARGUMENT', /nearest is 'prefer'/)
    expect(bits(record)).toEqual(before)
    await forget(record, { keys: ['r3'], runner: here })
    await refusal(forget(record, { keys: ['r3'], runner: here }), 'ERR_NOT_FITTED', /revoked before/)
    await refusal(forget(record, { where: { id: 'r3' }, runner: here }), 'ERR_INVALID_ARGUMENT', /none/)
    const two = [forget(record, { keys: ['r4'], runner: here }), forget(record, { keys: ['r5'], runner: here })]
    await refusal(two[1], 'ERR_INVALID_ARGUMENT', /two at once/)
    expect((await two[0]).forgotten).toBe(1)
    await record.close()
  })

  it('refuses a folder with another run, and rows that are not those of the record', async () => {
    const record = await trained()
    const { folder } = record
    const options = { ...base, ...shape, folder }
    await refusal(fitSharded(model, makeData(), options), 'ERR_LOCKED', /held by process/)
    await record.close()
    await refusal(fitSharded(makeModel(3), makeData(), options), 'ERR_INVALID_ARGUMENT', /the model/)
    await refusal(fitSharded(model, makeData(), { ...options, seed: 6 }), 'ERR_INVALID_ARGUMENT', /seed/)
    await refusal(fitSharded(model, makeData(), { ...options, slices: 2 }), 'ERR_INVALID_ARGUMENT', /slices|epochs/)
    await refusal(fitSharded(model, makeData([0, 1, 2]), options), 'ERR_INVALID_ARGUMENT', /the rows/)
    await refusal(TrainingRecord.open(folder, { data: makeData([0, 1, 2]) }), 'ERR_NOT_FITTED', /'r/)
    const anonymous = makeData(undefined, false)
    await refusal(TrainingRecord.open(folder, { data: anonymous }), 'ERR_INVALID_ARGUMENT', /ids/)
    const { inputs, ...rest } = rowsAsArrays()
    const scaled = Dataset.fromArrays({ ...rest, inputs, normalize: { std: 2 } })
    await refusal(TrainingRecord.open(folder, { data: scaled }), 'ERR_INVALID_ARGUMENT', /normalised by the same/)
    await refusal(TrainingRecord.open(root, { data: makeData() }), 'ERR_NOT_FITTED', /manifest/)
    const again = await TrainingRecord.open(folder, { data: makeData() })
    await again.verify()
    await again.close()
  })

  it('refuses options that a record cannot hold', async () => {
    const folder = newFolder()
    const refused = (options: object, message: RegExp) =>
      refusal(fitSharded(model, makeData(), { ...base, folder, ...options }), 'ERR_INVALID_ARGUMENT', message)
    await refused({ fit: { epochs: 3 } }, /fit\.epochs/)
    await refused({ fit: { batchsize: 3 } }, /batchSize/)
    await refused({ shards: 0 }, /shards/)
    await refused({ shards: 60, slices: 1 }, /shard \d+ of 61 rows/)
    await refused({ folder: '' }, /folder/)
    await refused({ runner: {} }, /runner/)
    await refusal(fitSharded({} as Model, makeData(), { folder }), 'ERR_INVALID_ARGUMENT', /model/)
    // fit() itself is as it was: its own order, by position.
    const fitted = makeModel()
    await fitModel(fitted, makeData(), { epochs: 1 })
    fitted.dispose()
  })

  it('refuses workers that would give other bits', async () => {
    const other: JobRunner = {
      run: async (job, options = {}) => {
        const { checksum: _, ...result } = await runJob(job, options)
        const environment = { ...result.environment, threads: threads + 1 }
        const { jobResult } = await import('../lib/jobs/job.js')
        return jobResult({ ...result, environment })
      },
      close: async () => undefined,
    }
    const options = { ...base, ...shape, folder: newFolder() }
    await refusal(fitSharded(model, makeData(), { ...options, runner: other }), 'ERR_ENVIRONMENT', /threads/)
  })
})
