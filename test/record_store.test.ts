// The folder of a training record: whole after any failure, locked, checked; and where rows belong.
import { fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { PalimpsestError } from '../lib/errors.js'
import { seal, unseal, type Manifest } from '../lib/record/format.js'
import { readNetwork, writeNetwork } from '../lib/record/network_file.js'
import { Model } from '../lib/model.js'
import { NetworkGraph } from '../lib/networks/graph.js'
import { takeLock } from '../lib/record/lock.js'
import { assignment, keyWords, orderOf } from '../lib/record/rows.js'
import { sliceEpochs } from '../lib/record/settings.js'
import { RecordStore } from '../lib/record/store.js'
import { writeFileAtomically } from '../lib/model/files.js'
import { refusal } from './refusal.js'

const root = mkdtempSync(join(tmpdir(), 'palimpsest-store-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let folders = 0
const newFolder = () => join(root, `record-${folders++}`)

const bytes = (text: string) => new TextEncoder().encode(text)

async function manifestOf(store: RecordStore, text: string): Promise<Omit<Manifest, 'revision'>> {
  const initial = await store.put('initial', bytes(`initial ${text}`), '.safetensors')
  const index = await store.putIndex({ slices: [[[{ key: 'a', digest: 'd' }]]] })
  const checkpoint = await store.put('shards/0/slice-1', bytes(`slice ${text}`), '.safetensors')
  return {
    format: 'palimpsest-record',
    version: 1,
    kind: 'sharded',
    model: 'm',
    initial,
    shards: 1,
    slices: 1,
    epochs: [1],
    seed: 0,
    fit: {},
    environment: { device: 'cpu', threads: 1, description: 'd', version: '0' },
    keyedBy: 'id',
    preparation: 'p',
    index,
    states: [{ rows: [1], checkpoints: [{ ...checkpoint, slice: 1, epoch: 1, step: 1, exact: true }], logs: [] }],
    ledger: [],
  }
}

/** A folder with one committed record; gives the checkpoint's file. */
async function committed(folder: string): Promise<string> {
  const store = await RecordStore.take(folder)
  await store.commit(await manifestOf(store, 'one'))
  await store.close()
  return store.manifest.states[0].checkpoints[0].file
}

describe('a record folder', () => {
  it('keeps the manifest before, and its files, whatever write fails', async () => {
    const folder = newFolder()
    const file = await committed(folder)
    let failures = 0
    for (let left = 0; ; left++) {
      let count = left
      const store = await RecordStore.take(folder, {
        write: async (path, data) => {
          if (count-- > 0) return writeFileAtomically(path, data)
          // What a full disk does: half a file beside, then the error.
          writeFileSync(`${path}.0123456789ab.part`, data.subarray(0, data.length / 2))
          throw new PalimpsestError('ERR_IO', 'no space left on device')
        },
      })
      const work = (async () => store.commit(await manifestOf(store, 'two')))()
      const failed = await work.then(
        () => false,
        () => true,
      )
      await store.close()
      const after = await RecordStore.take(folder)
      await after.verify()
      expect(after.manifest.states[0].checkpoints[0].file === file).toBe(failed)
      expect(after.manifest.revision).toBe(failed ? 1 : 2)
      expect(readdirSync(folder, { recursive: true }).filter((name) => String(name).includes('.part'))).toEqual([])
      await after.purge()
      expect(readdirSync(join(folder, 'shards/0'))).toHaveLength(1)
      await after.close()
      if (!failed) break
      failures++
    }
    expect(failures).toBe(4)
  })

  it('removes nothing where it is not known which manifest lasts, and goes by the one on disk when it is opened', async () => {
    const folder = newFolder()
    const before = await committed(folder)
    const store = await RecordStore.take(folder, {
      write: async (path, data) => {
        await writeFileAtomically(path, data)
        // What a folder that cannot be flushed does: the file has its name, and the call fails.
        if (path.endsWith('manifest.json')) throw new PalimpsestError('ERR_IO', 'too many open files')
      },
    })
    await refusal(store.commit(await manifestOf(store, 'two')), 'ERR_IO', /too many/)
    for (const call of [() => store.purge(), () => store.removeJobs(), () => store.note(undefined)]) {
      await refusal(call(), 'ERR_IO', /open the record again/)
    }
    await store.close()
    await refusal(store.purge(), 'ERR_DISPOSED')
    expect(readdirSync(join(folder, 'shards/0'))).toHaveLength(2)
    const after = await RecordStore.take(folder)
    expect(after.manifest.revision).toBe(2)
    expect(after.manifest.states[0].checkpoints[0].file).not.toBe(before)
    await after.verify()
    expect(readdirSync(join(folder, 'shards/0'))).toHaveLength(1)
    await after.close()
  })

  it('names a damaged, a truncated and a missing file', async () => {
    const folder = newFolder()
    const file = await committed(folder)
    const path = join(folder, file)
    const good = readFileSync(path)
    const damages: [() => void, RegExp][] = [
      [
        () =>
          writeFileSync(
            path,
            good.map((b, i) => (i === 3 ? b ^ 1 : b)),
          ),
        /SHA-256/,
      ],
      [() => writeFileSync(path, good.subarray(1)), /bytes/],
      [() => rmSync(path), /no file/],
    ]
    for (const [damage, message] of damages) {
      damage()
      const store = await RecordStore.take(folder)
      await refusal(store.verify(), 'ERR_DAMAGED', message)
      await refusal(store.verify(), 'ERR_DAMAGED', new RegExp(file))
      await store.close()
      writeFileSync(path, good)
    }
    const manifest = readFileSync(join(folder, 'manifest.json'), 'utf8')
    writeFileSync(join(folder, 'manifest.json'), manifest.replace('"seed":0', '"seed":1'))
    await refusal(RecordStore.take(folder), 'ERR_DAMAGED', /manifest\.json/)
    writeFileSync(join(folder, 'manifest.json'), manifest)
    const store = await RecordStore.take(folder)
    await store.verify()
    await store.close()
  })

  it('refuses another format, and another version of this one', async () => {
    const folder = newFolder()
    await committed(folder)
    const path = join(folder, 'manifest.json')
    const manifest = unseal(readFileSync(path), path) as Manifest
    writeFileSync(path, seal({ ...manifest, version: 2 }))
    await refusal(RecordStore.take(folder), 'ERR_MODEL_FORMAT', /version 1 of the format in manifest\.json, got 2/)
    writeFileSync(path, seal({ ...manifest, format: 'other' }))
    await refusal(RecordStore.take(folder), 'ERR_MODEL_FORMAT', /palimpsest-record/)
    writeFileSync(path, seal(manifest))
    await (await RecordStore.take(folder)).close()
  })

  it('removes nothing that is not its own, and moves in nowhere else', async () => {
    const folder = newFolder()
    mkdirSync(folder)
    writeFileSync(join(folder, 'letters.txt'), 'mine')
    await refusal(RecordStore.take(folder), 'ERR_INVALID_ARGUMENT', /letters\.txt/)
    expect(readdirSync(folder)).toEqual(['letters.txt'])
    const record = newFolder()
    await committed(record)
    writeFileSync(join(record, 'notes.txt'), 'mine')
    await (await RecordStore.take(record)).close()
    expect(readdirSync(record)).toContain('notes.txt')
    await refusal(RecordStore.take(join(root, 'nowhere'), { mustExist: true }), 'ERR_NOT_FITTED', /manifest/)
  })

  it('is held by one at a time; the lock of a process that ended is taken over', async () => {
    const folder = newFolder()
    await committed(folder)
    const store = await RecordStore.take(folder)
    await refusal(RecordStore.take(folder), 'ERR_LOCKED', new RegExp(`process ${process.pid}`))
    await store.close()
    await store.close()
    const script = join(root, 'hold.mjs')
    writeFileSync(script, 'setInterval(() => undefined, 1000); process.send("ready")')
    const other = fork(script, { execArgv: [] })
    await new Promise((resolve) => other.once('message', resolve))
    const held = { pid: other.pid, host: hostname(), started: '', token: 't' }
    const lock = join(folder, 'lock')
    writeFileSync(lock, JSON.stringify(held))
    await refusal(takeLock(folder), 'ERR_LOCKED', new RegExp(`process ${other.pid}`))
    const gone = new Promise((resolve) => other.once('exit', resolve))
    other.kill('SIGKILL')
    await gone
    await (await takeLock(folder)).release()
    // The same process id, given to another process.
    writeFileSync(lock, JSON.stringify({ ...held, pid: process.pid, started: '1' }))
    await (await takeLock(folder)).release()
    writeFileSync(lock, JSON.stringify({ ...held, host: 'elsewhere' }))
    await refusal(takeLock(folder), 'ERR_LOCKED', /elsewhere.*remove/)
    rmSync(lock)
    expect(readdirSync(folder).filter((name) => name.startsWith('lock'))).toEqual([])
  })
})

describe('the network of a record', () => {
  it('comes back as it was, open ends of a Clip and constants too', async () => {
    const graph = new NetworkGraph([3])
    const shift = graph.constant([3], Float32Array.of(0.5, -0.25, 2), 'shift')
    const scaled = graph.append('Mul', [graph.input, graph.parameter('scale', [3])])
    const clipped = graph.append('Clip', [graph.append('Add', [scaled, shift])], { alpha: 0.75, beta: Infinity })
    const parameters = new Map([['scale', { shape: [3], data: Float32Array.of(1, 2, 3) }]])
    const model = Model.fromNetwork({ network: graph.finish(clipped), parameters })
    const again = Model.fromNetwork(readNetwork(await writeNetwork(model)))
    const inputs = Float32Array.of(1, 2, 3, -9, -9, 9)
    const expected = await model.evaluate({ inputs })
    expect([...expected]).toEqual([1.5, 3.75, 11, 0.75, 0.75, 29])
    expect(await again.evaluate({ inputs })).toEqual(expected)
    expect(again.description).toEqual(model.description)
  })
})

describe('rows of a record', () => {
  const words = Array.from({ length: 4000 }, (_, i) => keyWords(`row ${i}`))

  it('belong to a shard and a slice by seed and key alone, evenly', () => {
    const of = assignment(7, 5, 4)
    const counts = new Int32Array(20)
    for (const each of words) {
      const { shard, slice } = of(each)
      counts[shard * 4 + slice - 1]++
    }
    // 200 each, a standard deviation of 14.
    expect(Math.min(...counts)).toBeGreaterThan(130)
    expect(Math.max(...counts)).toBeLessThan(270)
    expect(words.map((each) => assignment(8, 5, 4)(each).shard)).not.toEqual(words.map((each) => of(each).shard))
  })

  it('come in an order that the others do not change', () => {
    const order = orderOf(words.slice(0, 50), 7, 3)
    expect([...order].sort((a, b) => a - b)).toEqual([...Array(50).keys()])
    const left = words.slice(0, 50).filter((_, i) => i % 7 !== 0)
    const names = [...Array(50).keys()].filter((i) => i % 7 !== 0)
    const without = [...orderOf(left, 7, 3)].map((i) => names[i])
    expect(without).toEqual([...order].filter((i) => i % 7 !== 0))
    expect(orderOf(words.slice(0, 50), 7, 4)).not.toEqual(order)
  })

  it('are visited about as often as in so many epochs', () => {
    expect(sliceEpochs(10, 1)).toEqual([10])
    expect(sliceEpochs(10, 4)).toEqual([4, 4, 4, 4])
    expect(sliceEpochs(1, 4)).toEqual([1, 1, 1, 1])
    for (const [epochs, slices] of [
      [10, 3],
      [20, 5],
      [7, 4],
    ]) {
      const visits = sliceEpochs(epochs, slices).reduce((sum, e, i) => sum + (e * (i + 1)) / slices, 0)
      expect(Math.abs(visits - epochs)).toBeLessThan(1)
    }
  })
})
