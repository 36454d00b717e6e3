// The long experiments run at small size, on noise in CIFAR-10's format, and go on from what they kept.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FinishedParts } from '../bench/finished_parts.js'
import type { Arm } from '../bench/prune_arms.js'
import { Model, networks } from '../lib/index.js'
import { uniform } from './random.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsx = fileURLToPath(import.meta.resolve('tsx/cli'))
const folder = mkdtempSync(join(tmpdir(), 'palimpsest-long-'))
const timeout = 120_000

async function bench(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [tsx, ...args], { cwd: root, maxBuffer: 2 ** 26 })
  return stdout
}

beforeAll(() => {
  for (const [i, name] of [
    'data_batch_1',
    'data_batch_2',
    'data_batch_3',
    'data_batch_4',
    'data_batch_5',
    'test_batch',
  ].entries()) {
    const next = uniform(i + 1)
    const rows = Uint8Array.from({ length: 100 * 3073 }, (_, j) =>
      j % 3073 === 0 ? Math.floor(j / 3073) % 10 : 256 * next(),
    )
    writeFileSync(join(folder, `${name}.bin`), rows)
  }
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('FinishedParts', () => {
  const path = join(folder, 'parts.json')

  it('runs a part once, and gives its result to later runs', async () => {
    const first = new FinishedParts(path, { rows: 3 })
    expect(await first.part('a', () => Promise.resolve({ accuracy: NaN, n: 2 }))).toEqual({ accuracy: NaN, n: 2 })
    const later = new FinishedParts(path, { rows: 3 })
    expect([later.has('a'), later.has('b')]).toEqual([true, false])
    expect(await later.part('a', () => Promise.reject(new Error('again')))).toEqual({ accuracy: NaN, n: 2 })
    await expect(later.part('b', () => Promise.reject(new Error('no result')))).rejects.toThrow('no result')
    expect(new FinishedParts(path, { rows: 3 }).has('b')).toBe(false)
    expect(later.revisions).toHaveLength(1)
  })

  it('never mixes runs of other settings', () => {
    expect(() => new FinishedParts(path, { rows: 4 })).toThrow(/settings of this run/)
  })
})

describe('the long experiments', () => {
  it(
    'prune: every arm, and the bits again where one is missing',
    async () => {
      const args = ['bench/prune.ts', '--cifar', folder, '--network', 'vgg11', '--rows', '200', '--seeds', '1', '--epochs', '1', '--tuning', '1', '--keep', folder] // prettier-ignore
      expect(await bench(...args)).toContain('| pruned ')
      const path = join(folder, 'vgg11.json')
      const read = () => JSON.parse(readFileSync(path, 'utf8')) as { parts: Record<string, { result: Arm }> }
      const before = read()
      const { ['vgg11, seed 1, pruned']: lost, ...rest } = before.parts
      expect(Object.keys(rest)).toHaveLength(3)
      writeFileSync(path, JSON.stringify({ ...before, parts: rest }))
      await bench(...args)
      const again = read().parts['vgg11, seed 1, pruned'].result
      const { retained, target, relearned, sampleVisits } = lost.result
      expect(again).toMatchObject({ retained, target, relearned, sampleVisits })
      expect(sampleVisits).toBe(200 + 180)
    },
    timeout,
  )

  it(
    'codes in a pretrained network: fine-tune, classes, Fisher diagonals',
    async () => {
      const file = join(folder, 'resnet.onnx')
      const model = Model.fromNetwork(networks.resnet20({ width: 4, seed: 1 }))
      writeFileSync(file, await model.exportOnnx())
      model.dispose()
      const out = await bench('bench/mnemonic_pretrained.ts', '--model', file, '--cifar', folder, '--mixing', 'replace', '--rate', '1', '--learning-rate', '0.001', '--batch', '20', '--steps', '100', '--classes', '3', '--fisher', '100', '--test', '100') // prettier-ignore
      expect(out).toMatch(/\| 3 +\|/)
      expect(out).toContain('conv1.weight')
    },
    timeout,
  )
})
