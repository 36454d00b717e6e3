// Two workers on a queue, one of them killed in the middle of its shard: the record ends with the bits of one machine.
//
// tsx examples/workers/main.ts: needs redis-server (apt-get install redis-server) and the packages bullmq and ioredis.
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  bullmqRunner,
  Dataset,
  fitSharded,
  forget,
  Model,
  networks,
  type JobRunner,
  type Progress,
} from '../../lib/index.js'

const folder = mkdtempSync(join(tmpdir(), 'palimpsest-workers-'))
const queue = `example-${process.pid}`
const running: ChildProcess[] = []

/** A port that nobody listens on now. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function startRedis(): Promise<number> {
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
  running.push(spawn('redis-server', options, { stdio: 'ignore' }))
  for (let tries = 0; ; tries++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => (socket.destroy(), resolve(true)))
      socket.once('error', () => resolve(false))
    })
    if (open) return port
    if (tries === 100) throw new Error('redis-server does not answer')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function startWorker(port: number): Promise<ChildProcess> {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const path = fileURLToPath(new URL('./worker.ts', import.meta.url))
  const worker = fork(path, [String(port), queue], { execArgv: ['--import', loader] })
  running.push(worker)
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('exit', () => reject(new Error('a worker could not be started')))
  })
  return worker
}

/** 400 rows of 16 numbers, with keys. */
function makeData(): Dataset {
  const inputs = Float32Array.from({ length: 400 * 16 }, (_, i) => Math.sin(i * i) + Number(i % 4 === (i >> 4) % 4))
  const labels = Array.from({ length: 400 }, (_, row) => row % 4)
  return Dataset.fromArrays({ inputs, labels, shape: [1, 4, 4], ids: (row) => `row-${row}` })
}

/** Trains and forgets; gives the checksums of what comes out. */
async function train(name: string, runner?: JobRunner, onProgress?: (progress: Progress) => void): Promise<string> {
  const model = Model.fromNetwork(networks.mlp({ inputShape: [1, 4, 4], hidden: [32], classes: 4, seed: 1 }))
  const options = { shards: 2, slices: 3, epochs: 40, threads: 1, fit: { batchSize: 8 } }
  const given = { ...options, folder: join(folder, name), ...(runner && { runner }), ...(onProgress && { onProgress }) }
  const { record } = await fitSharded(model, makeData(), given)
  const report = await forget(record, { keys: ['row-7', 'row-8', 'row-300'], ...(runner && { runner }) })
  console.log(`${name}: ${report.forgotten} rows forgotten, exact: ${report.bound.exact}`)
  const sums = record.checkpoints.map(({ sha256 }) => sha256)
  await record.close()
  return sums.join()
}

try {
  const port = await startRedis()
  const [first] = await Promise.all([startWorker(port), startWorker(port)])
  const runner = await bullmqRunner({ connection: { host: '127.0.0.1', port }, queue })
  const killInTheMiddle = ({ done, total }: Progress): void => {
    if (first.killed || done < 0.3 * total) return
    first.kill('SIGKILL')
    console.log('one of two workers was killed in the middle of its shard')
  }
  const apart = await train('two-workers', runner, killInTheMiddle)
  await runner.close()
  const together = await train('one-machine')
  console.log(apart === together ? 'the same bits' : 'other bits')
  process.exitCode = apart === together ? 0 : 1
} finally {
  for (const child of running) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}
