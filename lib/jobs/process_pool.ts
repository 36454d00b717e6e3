// The runner of one machine: a process a job, so many at once, tried again where one died.
import { fork, type ChildProcess } from 'node:child_process'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { PalimpsestError } from '../errors.js'
import { callback, integer, optional, readOptions, withDefault } from '../options.js'
import { checkResult, type Job, type JobResult, type JobRunner, type Pins, type RunOptions } from './job.js'
import { errorOf, type Answer } from './messages.js'

export interface ProcessPoolOptions {
  /** Processes at once; as many as leave each its threads where left out. */
  workers?: number
  /** How often a job is tried again after its process died (default 2). */
  retries?: number
  /** Told of each process that is started. */
  onWorker?: (pid: number) => void
}

const table = {
  workers: withDefault(integer({ min: 0 }), 0),
  retries: withDefault(integer({ min: 0 }), 2),
  onWorker: optional(callback<(pid: number) => void>()),
}

/** Runs each job in a process of its own on this machine. */
export function processPool(options: ProcessPoolOptions = {}): JobRunner {
  const { workers, retries, onWorker } = readOptions(options, table, 'processPool()')
  const waiting: (() => void)[] = []
  let busy = 0
  const limit = ({ threads }: Pins) => workers || Math.max(1, Math.floor(availableParallelism() / threads))
  const enter = async (pins: Pins): Promise<void> => {
    if (busy >= limit(pins)) await new Promise<void>((resolve) => waiting.push(resolve))
    else busy++
  }
  const leave = (): void => {
    const next = waiting.shift()
    if (next) next()
    else busy--
  }
  return {
    async run(job, given = {}) {
      await enter(job.pins)
      try {
        for (let left = retries; ; left--) {
          if (given.signal?.aborted) throw given.signal.reason
          const ended = await runOnce(job, given, onWorker)
          if ('result' in ended) return checkResult(job, ended.result)
          if (left > 0) continue
          const tries = retries === 0 ? 'at the only try' : `at each of ${retries + 1} tries`
          throw new PalimpsestError('ERR_WORKER', `expected a worker to end its job, got ${ended.died} ${tries}`)
        }
      } finally {
        leave()
      }
    },
    atOnce: limit,
    close: async () => undefined,
  }
}

/** The worker's file, and what Node.js needs to run it: this file's neighbour, built or not. */
function workerFile(): { path: string; execArgv: string[] } {
  const built = import.meta.url.endsWith('.js')
  const path = fileURLToPath(new URL(built ? './worker.js' : './worker.ts', import.meta.url))
  if (built) return { path, execArgv: [] }
  const loader = createRequire(import.meta.url).resolve('tsx')
  return { path, execArgv: ['--import', pathToFileURL(loader).href] }
}

function start({ threads, isa }: Pins): ChildProcess {
  const { path, execArgv } = workerFile()
  const env = { ...process.env, OMP_NUM_THREADS: String(threads), ...(isa && { PALIMPSEST_ISA: isa }) }
  return fork(path, { execArgv, env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
}

/** One try: its result, or how the process died. Rejects with what the job threw, or the reason of the signal. */
async function runOnce(
  job: Job,
  { signal, onProgress }: RunOptions,
  onWorker: ((pid: number) => void) | undefined,
): Promise<{ result: JobResult } | { died: string }> {
  const child = start(job.pins)
  const stop = (): void => void child.kill('SIGKILL')
  signal?.addEventListener('abort', stop, { once: true })
  let last: Exclude<Answer, { visits: number }> | undefined
  let thrown: { reason: Error } | undefined
  child.on('message', (answer: Answer) => {
    if (!('visits' in answer)) {
      last = answer
      return
    }
    try {
      onProgress?.(answer.visits)
    } catch (error) {
      thrown ??= { reason: error as Error }
      stop()
    }
  })
  try {
    const died = await new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(`one that could not be started (${error.message})`))
      // Its last message may still lie in the channel when it has ended.
      const drained = new Promise((done) => child.once('disconnect', done))
      child.once('exit', (code, name) => {
        const how = name ? `one killed by ${name}` : `one that ended with code ${code}`
        void drained.then(() => resolve(how))
      })
      child.send(job, () => undefined)
      if (child.pid !== undefined) onWorker?.(child.pid)
    })
    if (signal?.aborted) throw signal.reason
    if (thrown) throw thrown.reason
    if (last === undefined) return { died }
    if ('error' in last) throw errorOf(last.error)
    return last
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}
