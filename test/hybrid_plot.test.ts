// The drawing in docs is that of the results that are kept beside the benchmark.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { plot } from '../bench/hybrid/plot.js'
import type { Kept } from '../bench/hybrid/table.js'

it('docs/retraining.svg is drawn from the kept tables', () => {
  const folder = mkdtempSync(join(tmpdir(), 'palimpsest-plot-'))
  const to = join(folder, 'plot.svg')
  const files = ['mnist', 'cifar'].map((name) => join('bench', 'hybrid', 'kept', `${name}.json`))
  plot(files, to)
  const drawn = readFileSync(to, 'utf8')
  rmSync(folder, { recursive: true })
  expect(drawn).toBe(readFileSync(join('docs', 'retraining.svg'), 'utf8'))
  // Two panels a table, each with its axis named.
  expect(drawn.match(/rows revoked/g)?.length).toBe(8)
  // In both panels a point for each size of request an arm, and one in the legend.
  const kept = files.flatMap((file) => JSON.parse(readFileSync(file, 'utf8')) as Kept[])
  const sizes = kept.reduce((sum, { lines }) => sum + lines.filter(({ arm }) => arm === 'direct').length, 0)
  for (const colour of ['#0072b2', '#d55e00']) {
    const points = drawn.match(new RegExp(`<path[^>]*fill="#fff"[^>]*stroke="${colour}"`, 'g'))
    expect(points?.length).toBe(2 * sizes + 1)
  }
})
