// Environments that end, in order or in the middle of a step: processes leave cleanly and others work on.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const script = fileURLToPath(new URL('lifetime/scenarios.mjs', import.meta.url))

interface Ending {
  code: number | null
  signal: string | null
  lines: string[]
  errors: string
}

/** Runs a scenario in a process of its own. */
function scenario(name: string, ...more: string[]): Promise<Ending> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--expose-gc', script, name, ...more], { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let errors = ''
    child.stdout.on('data', (text: Buffer) => (output += text.toString()))
    child.stderr.on('data', (text: Buffer) => (errors += text.toString()))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      resolve({ code, signal, lines: output.split('\n').filter((line) => line !== ''), errors })
    })
  })
}

async function expectEnding(name: string, code: number, lines: string[], ...more: string[]): Promise<Ending> {
  const ending = await scenario(name, ...more)
  expect({ signal: ending.signal, code: ending.code, lines: ending.lines }, ending.errors).toEqual({
    signal: null,
    code,
    lines,
  })
  return ending
}

describe('a process', () => {
  it('ends by itself when nothing is pending', async () => {
    await expectEnding('natural', 0, ['sum true'])
  })

  it('waits for what is pending', async () => {
    await expectEnding('unawaited', 0, ['settled'])
  })

  it('may leave in the middle of a step', async () => {
    await expectEnding('exit', 7, [])
    await expectEnding('reallyExit', 7, [])
  })

  it('may leave in the middle of the first step', async () => {
    for (const delay of [0, 2, 5, 10, 20, 40, 80]) await expectEnding('firstStep', 7, [], String(delay))
  })

  it('dies of an uncaught error in the middle of a step with that error', async () => {
    const { errors } = await expectEnding('throws', 1, [])
    expect(errors).toContain('thrown in the middle of a step')
  })

  it('can read in exit listeners; steps are refused there', async () => {
    await expectEnding('exitListener', 7, [`read ${1024 * 1024}`, 'refused ERR_ABORTED'])
  })
})

describe('a worker', () => {
  it('may be terminated in the middle of a step', async () => {
    await expectEnding('terminate', 0, ['worker ended 1', 'sum true'])
  })

  it('may be terminated in the middle of a call', async () => {
    await expectEnding('terminateCalls', 0, [...Array<string>(8).fill('worker ended 1'), 'sum true'])
  })

  it('may leave in the middle of a step', async () => {
    await expectEnding('workerExits', 0, ['worker ended 3', 'sum true'])
  })

  it('may be the only one that loads the addon', async () => {
    const round = ['worker ended 1', 'next worker 0']
    await expectEnding('workersAlone', 0, [...round, ...round, ...round])
  })

  it('does not keep the process from leaving', async () => {
    await expectEnding('exitBesideWorker', 7, [])
  })

  it('shares the queue with others and the main thread', async () => {
    await expectEnding('manyWorkers', 0, ['main true', 'workers 0 0 0 0'])
  })
})

describe('the addon', () => {
  it('can be loaded twice in one environment', async () => {
    await expectEnding('loadTwice', 0, ['apart true', 'equal true', 'sums true true'])
  })

  it('keeps what queued steps need through garbage collection', async () => {
    await expectEnding('garbage', 0, ['values true', 'sum true'])
  })
})
