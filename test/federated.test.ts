// The federated example at its small size, as a user runs it: ten processes.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

describe('examples/federated', () => {
  it('prunes by what ten clients sent, and trains on with them', () => {
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    const args = ['--import', tsx, join(root, 'examples', 'federated', 'main.ts'), '--small']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout).toMatch(/to the last bit: true/)
    expect(stdout).toMatch(/[1-9]\d* channels removed/)
    const row = (name: string): number[] => {
      const line = stdout.split('\n').find((each) => each.includes(`│ ${name}`))
      expect(line, `a row '${name}'`).toBeDefined()
      return (line as string).split('│').slice(2, 4).map(Number.parseFloat)
    }
    const [before, tuned, retrained] = [row('before'), row('pruned, 4 rounds'), row('retrained')]
    expect(before[0]).toBeGreaterThan(85)
    expect(before[1]).toBeGreaterThan(70)
    expect(retrained[1]).toBe(0)
    expect(tuned[0]).toBeGreaterThan(60)
    expect(tuned[1]).toBeLessThan(before[1])
  })
})
