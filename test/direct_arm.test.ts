// The direct arm of forget() on records, its plan, and what remains of guarantees: beside models that never saw the rows.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  Dataset,
  Model,
  TrainingRecord,
  bound,
  fitLogged,
  fitSharded,
  forget,
  networks,
  plan,
  resumeRecord,
} from '../lib/index.js'
import type { FitLoggedOptions, JobRunner, ParameterVector } from '../lib/index.js'
import { measureCosts } from '../lib/forget/costs.js'
import { environmentOf } from '../lib/jobs/environment.js'
import { runJob } from '../lib/jobs/run.js'
import { normals } from './random.js'

const root = mkdtempSync(join(tmpdir(), 'palimpsest-direct-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const newFolder = () => join(root, `record-${folders++}`)

/** Jobs in this process. */
const here: JobRunner = { run: (job, options = {}) => runJob(job, options), close: async () => undefined }
const { threads } = environmentOf('cpu')

const rows = 120
const features = 6

function makeData(left: readonly string[] = [], total = rows): Dataset {
  const all = normals(total * features, 11)
  const order = [...Array(total).keys()].filter((row) => !left.includes(`r${row}`))
  const noise = normals(total, 12)
  return Dataset.fromArrays({
    inputs: Float32Array.from(order.flatMap((row) => [...all.subarray(row * features, (row + 1) * features)])),
    labels: order.map((row) => {
      const [a, b] = all.subarray(row * features)
      return Number(a + 0.3 * noise[row] > 0) + Number(b > 0.3)
    }),
    shape: [features],
    classes: 3,
    ids: order.map((row) => `r${row}`),
  })
}

const model = Model.fromNetwork(networks.mlp({ inputShape: [features], hidden: [8], classes: 3, seed: 2 }))
afterAll(() => model.dispose())

const base = { epochs: 40, seed: 3, threads, runner: here, fit: { batchSize: 128, learningRate: 0.1 } }

async function logged(options: Partial<FitLoggedOptions> = {}, data = makeData()): Promise<TrainingRecord> {
  return (await fitLogged(model, data, { ...base, ...options, folder: newFolder() })).record
}

async function modelOf(record: TrainingRecord): Promise<Model> {
  const found = await model.clone()
  const { checkpoints } = record.manifest.states[0]
  await found.loadWeights(readFileSync(join(record.folder, checkpoints[checkpoints.length - 1].file)))
  return found
}

async function weightsOf(record: TrainingRecord): Promise<ParameterVector> {
  const found = await modelOf(record)
  const weights = await found.weights()
  found.dispose()
  return weights
}

async function distance(a: ParameterVector, b: ParameterVector): Promise<number> {
  const between = await a.clone()
  await between.axpy(-1, b)
  return between.norm()
}

const shas = (record: TrainingRecord) =>
  record.manifest.states.map(({ checkpoints }) => checkpoints.map(({ sha256 }) => sha256))

const revoked = ['r3', 'r40', 'r41', 'r77', 'r90', 'r118']

describe('the direct arm', () => {
  it('comes nearer to the retrained model than no update, one request after the other', async () => {
    const record = await logged()
    const before = await weightsOf(record)
    for (const keys of [revoked.slice(0, 4), revoked.slice(4)]) {
      const report = await forget(record, { keys, prefer: 'direct', amend: 'none' })
      expect(report).toMatchObject({ arm: 'direct', forgotten: keys.length, shards: [{ shard: 0, slice: 1 }] })
    }
    const scratch = await logged({}, makeData(revoked))
    const [after, retrained] = [await weightsOf(record), await weightsOf(scratch)]
    const apart = await distance(before, retrained)
    expect(apart).toBeGreaterThan(0.05)
    expect(await distance(after, retrained)).toBeLessThan(0.5 * apart)
    await record.close()
    await scratch.close()
  })

  it('is nearer with a drift correction than without, by the log and by products', async () => {
    const scratch = await logged({}, makeData(revoked))
    const retrained = await weightsOf(scratch)
    const apart: Record<string, number> = {}
    for (const drift of ['none', 'log', 'products'] as const) {
      const record = await logged()
      const how = { keys: revoked, prefer: 'direct', amend: 'none', drift } as const
      const planned = await plan(record, how)
      expect((await forget(record, how)).visits).toBe(planned.direct?.visits)
      apart[drift] = await distance(await weightsOf(record), retrained)
      await record.close()
    }
    await scratch.close()
    expect(apart.log).toBeLessThan(apart.none)
    expect(apart.products).toBeLessThan(apart.none)
  })

  it.each(['slices', 20] as const)(
    'stays within half a point of the retrained accuracy, amended: %s',
    async (amend) => {
      const data = (left: readonly string[] = []) => makeData(left, 1000)
      const keys = Array.from({ length: 30 }, (_, i) => `r${33 * i}`)
      const how = { epochs: 10, fit: { batchSize: 32, learningRate: 0.05 }, slices: 2 }
      const record = await logged(how, data())
      const report = await forget(record, { keys, prefer: 'direct', amend })
      expect(report.arm).toBe('direct')
      const scratch = await logged(how, data(keys))
      const [direct, retrained] = [await modelOf(record), await modelOf(scratch)]
      const all = data()
      const [found, wanted] = [await direct.measure(all), await retrained.measure(all)]
      expect(Math.abs(found.accuracy - wanted.accuracy)).toBeLessThanOrEqual(0.005)
      await record.close()
      await scratch.close()
    },
  )

  it('amends in proportion to what was lost, over the slices that lost some', async () => {
    const how = { epochs: 6, fit: { batchSize: 32, learningRate: 0.05 }, slices: 3 }
    const record = await logged(how, makeData([], 300))
    const [slices] = record.rows
    const visits = async (lost: readonly number[], amend: 'slices' | 'none') => {
      const keys = lost.flatMap((count, i) => slices[i].slice(0, count).map(({ key }) => key))
      return (await plan(record, { keys, prefer: 'direct', amend })).direct?.visits ?? NaN
    }
    const amended = async (...lost: number[]) => (await visits(lost, 'slices')) - (await visits(lost, 'none'))
    // 20 rows a lost row, in whole batches: 1, 2 and 4 of them.
    expect([await amended(1), await amended(0, 3), await amended(2, 0, 4)]).toEqual([32, 64, 128])
    // Three epochs over what stays of the slice at most.
    expect(await amended(0, 0, 50)).toBe(3 * (slices[2].length - 50))
    // What is less than an epoch cannot settle before: it is visited as planned.
    const keys = slices[1].slice(0, 3).map(({ key }) => key)
    const planned = await plan(record, { keys, prefer: 'direct' })
    expect((await forget(record, { keys, prefer: 'direct' })).visits).toBe(planned.direct?.visits)
    const more = record.rows[0][2].slice(0, 20).map(({ key }) => key)
    const most = (await plan(record, { keys: more, prefer: 'direct' })).direct?.visits ?? NaN
    const none = (await plan(record, { keys: more, prefer: 'direct', amend: 'none' })).direct?.visits ?? NaN
    const { visits: visited } = await forget(record, { keys: more, prefer: 'direct' })
    expect(visited).toBeLessThanOrEqual(most)
    expect(visited).toBeGreaterThan(none)
    await record.close()
  })

  it('leaves no guarantee and no trace, and retraining from before it gives the exact bits again', async () => {
    const slices = 4
    const record = await logged({ slices, epochs: 10 })
    const first = record.locate('r40')[0].slice
    const old = new Set(
      record.manifest.states[0].checkpoints.filter((each) => each.slice >= first).map(({ file }) => file),
    )
    const oldLogs = record.manifest.states[0].logs.filter((each) => each.slice >= first).map(({ file }) => file)
    expect(oldLogs.length).toBeGreaterThan(0)
    const report = await forget(record, { keys: ['r40'], prefer: 'direct' })
    expect(report.purged).toEqual(expect.arrayContaining([...old, ...oldLogs]))
    const files = readdirSync(record.folder, { recursive: true }).map(String)
    for (const file of [...old, ...oldLogs, 'request.json']) expect(files).not.toContain(file)
    expect(record.locate('r40')).toEqual([])
    const index = files.find((file) => file.startsWith('index-')) as string
    expect(readFileSync(join(record.folder, index), 'utf8')).not.toContain('"r40"')
    expect(record.manifest.states[0].checkpoints.map(({ slice, exact }) => exact === slice < first)).not.toContain(
      false,
    )
    expect(record.exact).toBe(false)
    expect(bound(record)).toMatchObject({ certified: false, exact: false, verdict: 'cannot-conclude' })
    expect(record.ledger.at(-1)).toMatchObject({
      arm: 'direct',
      exact: false,
      rows: 1,
      shards: [{ shard: 0, slice: first }],
    })
    await record.verify()
    // Opened again, it is what it was.
    const { folder } = record
    await record.close()
    const again = await TrainingRecord.open(folder, { data: makeData() })
    expect(again.exact).toBe(false)
    const last = [...Array(rows).keys()]
      .map((row) => `r${row}`)
      .find((key) => again.locate(key)[0]?.slice === slices) as string
    await forget(again, { keys: [last], runner: here })
    const scratch = await logged({ slices, epochs: 10 }, makeData(['r40', last]))
    expect(shas(again)).toEqual(shas(scratch))
    expect(bound(again)).toMatchObject({ exact: true, verdict: 'exact' })
    await again.close()
    await scratch.close()
  })

  it('serves shards, which have no log, and a request that a crash has broken off', async () => {
    const how = { ...base, shards: 2, slices: 3, epochs: 6, fit: { batchSize: 16, learningRate: 0.05 } }
    const { record } = await fitSharded(model, makeData(), { ...how, folder: newFolder() })
    const copy = (await fitSharded(model, makeData(), { ...how, folder: newFolder() })).record
    const keys = ['r3', 'r4', 'r5', 'r6']
    const direct = { amend: 'slices', drift: 'log', products: 8, rows: 128 } as const
    await forget(record, { keys, prefer: 'direct' })
    await copy.exclusively(async (store) => {
      const placed = copy.rows.flat(2).filter(({ key }) => keys.includes(key))
      const pending = { kind: 'forget', rows: placed.map(({ key, digest }) => ({ key, digest })), direct } as const
      await store.note({ ...pending, rows: [...pending.rows] })
    })
    const { folder } = copy
    await copy.close()
    const opened = await TrainingRecord.open(folder, { data: makeData() })
    expect(await resumeRecord(opened)).toMatchObject({ arm: 'direct', forgotten: keys.length })
    expect(shas(opened)).toEqual(shas(record))
    await opened.close()
    await record.close()
  })

  it('refuses records whose batches were normalised together, aborts, and leaves the record as it was', async () => {
    const net = Model.fromNetwork(networks.resnet18({ inputShape: [3, 8, 8], classes: 3, width: 2, seed: 1 }))
    const data = Dataset.fromArrays({
      inputs: normals(12 * 192, 5),
      labels: Array.from({ length: 12 }, (_, i) => i % 3),
      shape: [3, 8, 8],
      classes: 3,
    })
    const how = { ...base, epochs: 1, fit: { batchSize: 6 }, folder: newFolder() }
    const { record } = await fitLogged(net, data, how)
    const before = shas(record)
    const request = { where: { indices: [2] } }
    await expect(forget(record, { ...request, prefer: 'direct' })).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' })
    expect(shas(record)).toEqual(before)
    expect(record.pending).toBe(false)
    expect(await plan(record, { ...request, prefer: 'fast' })).toMatchObject({ arm: 'exact', direct: null })
    await record.verify()
    await record.close()
    // Parameters that are all of them are none in particular.
    const named = { ...how, fit: { batchSize: 6, parameters: net.parameters.map(({ name }) => name) } }
    const { record: whole } = await fitLogged(net, data, { ...named, folder: newFolder() })
    expect(await plan(whole, { ...request, prefer: 'fast' })).toMatchObject({ arm: 'exact', direct: null })
    await whole.close()
    net.dispose()
    const other = await logged({ epochs: 4 })
    const kept = shas(other)
    const stop = new AbortController()
    const why = new Error('enough')
    stop.abort(why)
    await expect(forget(other, { keys: ['r1'], prefer: 'direct', signal: stop.signal })).rejects.toBe(why)
    await expect(forget(other, { keys: ['r1'], amend: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    expect(shas(other)).toEqual(kept)
    expect(other.exact).toBe(true)
    await other.close()
  })
})

describe('plan', () => {
  it('counts the rows that the arms then visit', async () => {
    const requests = [['r7'], ['r8', 'r30', 'r99'], Array.from({ length: 25 }, (_, i) => `r${40 + i}`)]
    for (const amend of ['none', 9] as const) {
      const record = await logged({ slices: 3, epochs: 8, fit: { batchSize: 16, learningRate: 0.02 } })
      for (const keys of requests) {
        for (const prefer of ['direct', 'exact'] as const) {
          const mine = keys
            .filter((_, i) => prefer === 'exact' || i % 2 === 0)
            .filter((key) => record.locate(key).length > 0)
          if (mine.length === 0) continue
          const how = { keys: mine, prefer, amend }
          const planned = await plan(record, how)
          expect(planned).toMatchObject({ rows: mine.length, arm: prefer })
          const served = await forget(record, { ...how, runner: here })
          expect(served.visits).toBe(planned[prefer]?.visits)
        }
      }
      await record.close()
    }
  })

  it('reckons with what processors took for training, not with how long others kept them then', async () => {
    const record = await logged({ epochs: 4 })
    const [entry] = record.ledger
    expect(entry.jobs?.processorSeconds).toBeGreaterThan(0)
    const secondsAfter = async (processorSeconds: number | undefined) => {
      const { seconds, processorSeconds: _, ...jobs } = entry.jobs ?? { count: 1, seconds: 1, atOnce: 1 }
      const waited = { ...jobs, seconds: 1000 * seconds, ...(processorSeconds && { processorSeconds }) }
      await record.exclusively((store) =>
        store.commit({
          ...store.manifest,
          ledger: [{ ...entry, seconds: 1000 * entry.seconds, jobs: waited }],
        }),
      )
      return (await plan(record, { keys: ['r7'] })).full.seconds
    }
    const before = (await plan(record, { keys: ['r7'] })).full.seconds
    expect(await secondsAfter(entry.jobs?.processorSeconds)).toBeLessThan(100 * before)
    const purpose = { drift: 'log', local: true } as const
    const costs = (how: object) => record.exclusively((store) => measureCosts(record, store, { ...purpose, ...how }))
    const [near, far] = [await costs({}), await costs({ local: false })]
    expect(near.training).toBeLessThan(far.training / 10)
    // Hessian products are timed where some are to be made.
    expect([near.hessian, (await costs({ drift: 'products' })).hessian > 0]).toEqual([0, true])
    const why = new Error('enough')
    await expect(costs({ signal: AbortSignal.abort(why) })).rejects.toBe(why)
    // Nothing else to go by.
    expect(await secondsAfter(undefined)).toBeGreaterThan(100 * before)
    await record.close()
  })

  it('knows processor seconds only where every job said them', async () => {
    const saying = (said: number): JobRunner => {
      let jobs = 0
      const run: JobRunner['run'] = async (job, options = {}) => {
        const { processorSeconds, ...result } = await runJob(job, options)
        return { ...result, ...(job.kind === 'shard' && jobs++ < said && { processorSeconds }) }
      }
      return { ...here, run }
    }
    for (const said of [1, 2]) {
      const how = { ...base, epochs: 2, shards: 2, slices: 1, runner: saying(said), folder: newFolder() }
      const { record } = await fitSharded(model, makeData(), how)
      const keys = ['r1', 'r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'r8']
      await forget(record, { keys, runner: saying(said) })
      expect(record.ledger.map(({ jobs }) => jobs?.count)).toEqual([2, 2])
      expect(record.ledger.map(({ jobs }) => 'processorSeconds' in (jobs ?? {}))).toEqual([said === 2, said === 2])
      await record.close()
    }
  })

  it('says what it would do and why, and forget() does that', async () => {
    const record = await logged({ slices: 2, epochs: 4 })
    const request = { keys: ['r7'] }
    const planned = await plan(record, request)
    expect(planned).toMatchObject({ verb: 'plan', rows: 1, arm: 'exact', why: "prefer: 'exact'" })
    expect(planned.exact).toMatchObject({ exactness: 'bits' })
    expect(planned.direct).toMatchObject({ exactness: 'none' })
    expect(planned.full.visits).toBeGreaterThanOrEqual(planned.exact.visits)
    for (const { seconds, storage } of [planned.exact, planned.direct as NonNullable<typeof planned.direct>]) {
      expect(seconds).toBeGreaterThan(0)
      expect(storage).toBeGreaterThan(0)
    }
    const auto = await plan(record, { ...request, prefer: 'auto', budget: 1e6 })
    expect(auto.arm).toBe('exact')
    for (const how of [{ prefer: 'fast' }, { prefer: 'auto', budget: 1e-9 }] as const) {
      const { arm, exact, direct } = await plan(record, { ...request, ...how })
      expect(arm).toBe((direct?.seconds ?? Infinity) < exact.seconds ? 'direct' : 'exact')
    }
    await expect(plan(record, { keys: ['nobody'] })).rejects.toMatchObject({ code: 'ERR_NOT_FITTED' })
    await expect(plan(record, { ...request, prefer: 'slow' as 'fast' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    await record.close()
  })
})
