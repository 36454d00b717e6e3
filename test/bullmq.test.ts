// Jobs through a queue on Redis: two workers, one killed, the same bits; skipped where redis-server or bullmq is missing.
import { execFile, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { PalimpsestError, bullmqRunner, bullmqWorker } from '../lib/index.js'

const require = createRequire(import.meta.url)

function installed(): boolean {
  try {
    require.resolve('bullmq')
    require.resolve('ioredis')
  } catch {
    return false
  }
  return spawnSync('redis-server', ['--version']).status === 0
}

it.skipIf(!installed())('ends with the same bits though one of two workers was killed', async () => {
  const main = fileURLToPath(new URL('../examples/workers/main.ts', import.meta.url))
  const loader = pathToFileURL(require.resolve('tsx')).href
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', loader, main])
  expect(stdout).toMatch(/killed in the middle/)
  expect(stdout).toMatch(/two-workers: 3 rows forgotten, exact: true/)
  expect(stdout).toMatch(/the same bits\n$/)
})

it('refuses options that it does not know', async () => {
  await expect(bullmqRunner({} as never)).rejects.toThrow(PalimpsestError)
  await expect(bullmqRunner({ connection: 'redis://' } as never)).rejects.toThrow(/Redis connection.*'connection'/)
  const options = { connection: {}, quue: 'x' } as never
  await expect(bullmqWorker(options)).rejects.toThrow(/nearest is 'queue'/)
})
