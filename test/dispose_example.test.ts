// The example of disposable transfer learning at its small size, as a user runs it.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

describe('examples/dispose', () => {
  it('unlearns the source task beside the controls, and keeps the target task', () => {
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    const args = ['--import', tsx, join(root, 'examples', 'dispose.ts'), '--small']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    expect(stderr).toBe('')
    /** Target accuracy, PL and its place between floor and ceiling. */
    const row = (name: string): number[] => {
      const line = stdout.split('\n').find((each) => each.includes(`│ ${name}`))
      expect(line, `a row '${name}'`).toBeDefined()
      return (line as string).split('│').slice(2, 5).map(Number.parseFloat)
    }
    const [before, tuned, disposed, distilled, floor] = ['before', 'fine-tuned', 'disposed', 'distilled', 'from scratch'].map(row) // prettier-ignore
    expect(before[0]).toBeGreaterThan(85)
    expect(before[2]).toBe(1)
    expect(floor[2]).toBe(0)
    expect(tuned[0]).toBeGreaterThan(85)
    expect(distilled[0]).toBeGreaterThan(85)
    expect(disposed[0]).toBeGreaterThan(before[0] - 2)
    expect(disposed[1]).toBeLessThan(tuned[1])
    expect(disposed[1]).toBeLessThan(before[1])
    expect(disposed[2]).toBeLessThan(0.75)
    // Which side of the example's own bars a few rows fall depends on the machine's rounding; the two agree anywhere.
    expect(status).toBe(stdout.includes('Everything is as it should be.') ? 0 : 1)
    expect(stdout).toMatch(/Everything is as it should be|source task not unlearned/)
  })
})
