// The mnemonic-code example at its small size, as a user runs it.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

describe('examples/mnemonic', () => {
  it('destroys a digit from its code, beside the comparisons and the retrained model', () => {
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    const args = ['--import', tsx, join(root, 'examples', 'mnemonic.ts'), '--small']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(status).toBe(0)
    /** A_R, E_F, relearn steps, attack AUC, L1 and agreement of a method's row. */
    const row = (name: string): number[] => {
      const line = stdout.split('\n').find((each) => each.includes(`│ ${name}`))
      expect(line, `a row '${name}'`).toBeDefined()
      const cells = (line as string).split('│').slice(2, 8)
      return cells.map((cell) => Number.parseFloat(cell.replace('>', '')))
    }
    const [before, mnemonic, retrained] = [row('before'), row('mnemonic'), row('retrain')]
    expect(before[0]).toBeGreaterThan(85)
    expect(before[1]).toBeLessThan(30)
    expect(mnemonic[1]).toBeGreaterThan(90)
    expect(mnemonic[0]).toBeGreaterThan(before[0] - 5)
    expect(mnemonic[2]).toBeGreaterThan(before[2])
    // The rows that were never seen, and the model beside itself.
    expect(retrained[1]).toBe(100)
    expect(retrained.slice(4)).toEqual([0, 1])
    for (const name of ['dampening', 'fisherNoise', 'gradientAscent', 'fineTune']) {
      expect(row(name)[4]).toBeGreaterThan(0)
    }
    expect(stdout).toContain("scrub() with method 'mnemonic' has no certificate")
    expect(stdout).toContain('Everything is as it should be.')
  })
})
