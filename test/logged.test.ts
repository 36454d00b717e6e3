// Training with an update log: what it holds and how large it gets; bits as without it, and as retraining gives.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Dataset, Model, fitLogged, fitSharded, forget, networks } from '../lib/index.js'
import type { FitLoggedOptions, JobRunner, TrainingRecord } from '../lib/index.js'
import { environmentOf } from '../lib/jobs/environment.js'
import { runJob } from '../lib/jobs/run.js'
import { readSafetensors } from '../lib/safetensors.js'
import { readFile } from 'node:fs/promises'
import { normals } from './random.js'

const root = mkdtempSync(join(tmpdir(), 'palimpsest-logged-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const newFolder = () => join(root, `record-${folders++}`)

/** Jobs in this process. */
const here: JobRunner = { run: (job, options = {}) => runJob(job, options), close: async () => undefined }
const { threads } = environmentOf('cpu')

const rows = 60
const features = 6

function makeData(left: readonly number[] = []): Dataset {
  const all = normals(rows * features, 11)
  const order = [...Array(rows).keys()].filter((row) => !left.includes(row))
  return Dataset.fromArrays({
    inputs: Float32Array.from(order.flatMap((row) => [...all.subarray(row * features, (row + 1) * features)])),
    labels: order.map((row) => Number(all[row * features] > 0) + Number(all[row * features + 1] > 0.3)),
    shape: [features],
    classes: 3,
    ids: order.map((row) => `r${row}`),
  })
}

const model = Model.fromNetwork(networks.mlp({ inputShape: [features], hidden: [8], classes: 3, seed: 2 }))
afterAll(() => model.dispose())

const base = { epochs: 6, seed: 3, threads, runner: here, fit: { batchSize: 8, learningRate: 0.1 } }

async function logged(options: Partial<FitLoggedOptions> = {}, data = makeData()): Promise<TrainingRecord> {
  return (await fitLogged(model, data, { ...base, ...options, folder: newFolder() })).record
}

const shas = (record: TrainingRecord) => record.manifest.states[0].checkpoints.map(({ sha256 }) => sha256)

describe('fitLogged', () => {
  it('logs states within its cap, and the checkpoints are those of training without a log', async () => {
    const record = await logged({ slices: 2 })
    const { logs, checkpoints } = record.manifest.states[0]
    const bytes = record.storage.shards[0]
    // Half an epoch and more apart.
    expect(logs.length).toBe(10)
    expect(bytes.logs).toBeLessThanOrEqual(10 * bytes.checkpoints)
    expect(logs.map(({ step }) => step)).toEqual(logs.map(({ step }) => step).toSorted((a, b) => a - b))
    expect(logs.every(({ step }) => step < checkpoints[1].step)).toBe(true)
    const { record: plain } = await fitSharded(model, makeData(), {
      ...base,
      shards: 1,
      slices: 2,
      folder: newFolder(),
    })
    expect(shas(record)).toEqual(shas(plain))
    await record.verify()
    // A state of the log has weights and momentum.
    const { tensors } = readSafetensors(await readFile(join(record.folder, logs[3].file)))
    expect([...tensors.keys()].filter((name) => name.startsWith('fit.velocity/')).length).toBe(4)
    await record.close()
    await plain.close()
  })

  it('takes a stride or a cap, and refuses a stride above the cap', async () => {
    const record = await logged({ log: { every: 16 } })
    expect(record.manifest.states[0].logs.map(({ step }) => step)).toEqual([16, 32])
    await record.close()
    const none = await logged({ log: { cap: 0 } })
    expect(none.manifest.states[0].logs).toEqual([])
    await none.close()
    await expect(logged({ log: { every: 2 } })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })

  it('goes on with a record of another default stride, but not against an option that the caller gave', async () => {
    const folder = newFolder()
    const call = (options: Partial<FitLoggedOptions> = {}) =>
      fitLogged(model, makeData(), { ...base, ...options, folder })
    const anew = await logged()
    expect(anew.manifest.logEvery).not.toBe(16)
    await anew.close()
    await (await call({ log: { every: 16 } })).record.close()
    for (const options of [{}, { log: { cap: 5 } }]) {
      const { record, report } = await call(options)
      expect(report.visits).toBe(0)
      expect(record.manifest.logEvery).toBe(16)
      await record.close()
    }
    for (const log of [{ every: 15 }, { cap: 1 }]) {
      await expect(call({ log })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    }
  })

  it('retrains exactly, log included', async () => {
    const record = await logged({ slices: 2, log: { every: 7 } })
    await forget(record, { keys: ['r4', 'r44'], runner: here })
    const scratch = await logged({ slices: 2, log: { every: 7 } }, makeData([4, 44]))
    expect(shas(record)).toEqual(shas(scratch))
    const logs = (of: TrainingRecord) => of.manifest.states[0].logs.map(({ sha256, step }) => `${step} ${sha256}`)
    expect(logs(record)).toEqual(logs(scratch))
    await record.verify()
    await record.close()
    await scratch.close()
  })
})
