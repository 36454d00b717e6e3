// Jobs in processes: the same bits as here, tried again when one dies, killed calls that go on, disks and damage.
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CrashRounds } from '../bench/crash/rounds.js'
import { here, makeData, makeModel, optionsOf, revoked } from '../bench/crash/setup.js'
import { TrainingRecord, fitSharded, forget, processPool, resumeRecord } from '../lib/index.js'
import type { JobRunner } from '../lib/index.js'
import { RandomStream } from '../lib/philox.js'
import { seal, unseal, type Manifest } from '../lib/record/format.js'
import { refusal } from './refusal.js'

const root = mkdtempSync(join(tmpdir(), 'palimpsest-jobs-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const newFolder = () => join(root, `record-${folders++}`)

const bits = (record: TrainingRecord) => record.manifest.states.map(({ checkpoints }) => checkpoints)
const open = (folder: string) => TrainingRecord.open(folder, { data: makeData() })
const fitted = join(root, 'fitted')
let fittedBits: unknown

/** A copy of the fitted record. */
function copied(): string {
  const folder = newFolder()
  cpSync(fitted, folder, { recursive: true })
  return folder
}

beforeAll(async () => {
  const { record } = await fitSharded(makeModel(), makeData(), optionsOf(fitted, here))
  fittedBits = bits(record)
  await record.close()
})

describe('a pool of processes', () => {
  it('gives the bits of this process, also where a worker is killed in the middle', async () => {
    const pids: number[] = []
    const killed: number[] = []
    const runner = processPool({ workers: 2, onWorker: (pid) => pids.push(pid) })
    const folder = newFolder()
    const onProgress = () => {
      const pid = pids.at(-1)
      if (pids.length < 2 || killed.length > 0 || pid === undefined) return
      killed.push(pid)
      process.kill(pid, 'SIGKILL')
    }
    const { record } = await fitSharded(makeModel(), makeData(), { ...optionsOf(folder, runner), onProgress })
    // One says what workers are like, three shards, and one more for the one that was killed.
    expect(killed).toHaveLength(1)
    expect(pids).toHaveLength(5)
    expect(bits(record)).toEqual(fittedBits)
    await record.close()
  })

  it('gives up on a job whose workers always die, and the record is as before', async () => {
    const record = await open(copied())
    const runner = processPool({ retries: 1, onWorker: (pid) => process.kill(pid, 'SIGKILL') })
    await refusal(forget(record, { keys: ['r1'], runner }), 'ERR_WORKER', /SIGKILL at each of 2 tries/)
    expect(bits(record)).toEqual(fittedBits)
    expect(record.pending).toBe(false)
    await record.close()
  })

  it('refuses a worker that cannot match what the record pins', async () => {
    const folder = copied()
    const path = join(folder, 'manifest.json')
    const manifest = unseal(readFileSync(path), path) as Manifest
    const environment = { ...manifest.environment, description: 'instruction set avx2, 2 threads, oneDNN 9.9.9' }
    writeFileSync(path, seal({ ...manifest, environment }))
    const record = await open(folder)
    await refusal(forget(record, { keys: ['r1'], runner: here }), 'ERR_ENVIRONMENT', /oneDNN 9\.9\.9.*its bits/)
    expect(bits(record)).toEqual(fittedBits)
    await record.close()
  })

  it('tells what a job threw', async () => {
    const folder = newFolder()
    const options = { ...optionsOf(folder, processPool()), shards: 1, slices: 1 }
    const fit = { batchSize: 7, learningRate: 1e30 }
    await refusal(fitSharded(makeModel(), makeData(), { ...options, fit }), 'ERR_NOT_CONVERGED', /finite/)
  })
})

describe('a killed call', () => {
  it('goes on to the same bits, wherever it was', async () => {
    const rounds = new CrashRounds(mkdtempSync(join(root, 'rounds-')))
    await rounds.prepare()
    const random = new RandomStream(Date.now(), 0)
    const found = []
    for (let i = 0; i < 4; i++) {
      found.push(await rounds.round(i % 2 === 0 ? 'fit' : 'forget', random.next() / 2 ** 32, i === 3 ? 'pool' : 'here'))
    }
    expect(found.filter(({ same }) => !same)).toEqual([])
    expect(found.filter(({ inTime }) => inTime).length).toBeGreaterThan(0)
  })

  it('leaves its request noted, and nothing else is served before', async () => {
    const folder = copied()
    const record = await open(folder)
    // A process that dies while its jobs run: it never takes the request back.
    const dying: JobRunner = { run: () => new Promise(() => undefined), close: async () => undefined }
    void forget(record, { keys: revoked, runner: dying }).catch(() => undefined)
    for (let i = 0; i < 500 && !record.pending; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    const noted = newFolder()
    cpSync(folder, noted, { recursive: true, filter: (path) => !path.endsWith('lock') })
    const again = await open(noted)
    expect(again.pending).toBe(true)
    expect(bits(again)).toEqual(fittedBits)
    await refusal(forget(again, { keys: ['r1'], runner: here }), 'ERR_INVALID_ARGUMENT', /unfinished request/)
    const report = await resumeRecord(again, { runner: here })
    expect(report).toMatchObject({ forgotten: revoked.length, bound: { exact: true } })
    expect(again.pending).toBe(false)
    expect(await resumeRecord(again, { runner: here })).toBeUndefined()
    await again.close()
  })
})

describe('a disk that will not do', () => {
  it('a damaged checkpoint is found by its checksum and named; restored, the request is served', async () => {
    const folder = copied()
    const record = await open(folder)
    const [{ shard, slice }] = record.locate('r3')
    const { checkpoints } = record.manifest.states[shard]
    // What an exact retraining begins with, or what an ensemble is made of.
    const { file } = checkpoints[Math.max(0, slice - 2)]
    const path = join(folder, file)
    const good = readFileSync(path)
    const bad = Uint8Array.from(good)
    bad[bad.length - 5] ^= 4
    writeFileSync(path, bad)
    await refusal(record.verify(), 'ERR_DAMAGED', new RegExp(file))
    if (slice > 1) await refusal(forget(record, { keys: ['r3'], runner: here }), 'ERR_DAMAGED', /SHA-256/)
    const last = join(folder, checkpoints[2].file)
    const lastGood = readFileSync(last)
    writeFileSync(last, lastGood.subarray(0, -1))
    await refusal(record.ensemble(), 'ERR_DAMAGED', new RegExp(checkpoints[2].file))
    writeFileSync(last, lastGood)
    writeFileSync(path, good)
    expect((await forget(record, { keys: ['r3'], runner: here })).forgotten).toBe(1)
    await record.close()
  })

  it('files that cannot grow are ERR_IO, and the record is as before', async () => {
    const folder = copied()
    const victim = fileURLToPath(new URL('../bench/crash/victim.ts', import.meta.url))
    const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    // 2 KiB a file: the note of the request fits, a job's rows do not.
    const command = `ulimit -f 4; exec "$0" --import "$1" "$2" forget "$3" here`
    const run = () =>
      execFileSync('sh', ['-c', command, process.execPath, loader, victim, folder], { encoding: 'utf8' })
    let said = ''
    try {
      run()
    } catch (error) {
      said = (error as { stdout: string }).stdout
    }
    expect(said.trim()).toBe('ERR_IO')
    const record = await open(folder)
    expect(bits(record)).toEqual(fittedBits)
    expect(record.pending).toBe(false)
    await record.verify()
    expect((await forget(record, { keys: revoked, runner: here })).forgotten).toBe(revoked.length)
    await record.close()
  })

  it('a folder that may not be written to is ERR_IO', async () => {
    const folder = copied()
    chmodSync(folder, 0o555)
    chmodSync(root, 0o755)
    const { seteuid, geteuid } = process
    const isRoot = geteuid?.() === 0
    // Modes do not bind the superuser.
    if (isRoot) seteuid?.(65534)
    try {
      await refusal(open(folder), 'ERR_IO', /could not lock/)
      await refusal(fitSharded(makeModel(), makeData(), optionsOf(folder, here)), 'ERR_IO', /could not lock/)
    } finally {
      if (isRoot) seteuid?.(0)
      chmodSync(folder, 0o755)
    }
    const record = await open(folder)
    expect(bits(record)).toEqual(fittedBits)
    await record.close()
  })
})
