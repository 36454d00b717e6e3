// The drawing in docs is that of the results that are kept beside the benchmark.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { plot } from '../bench/hybrid/plot.js'

it('docs/retraining.svg is drawn from the kept tables', () => {
  const folder = mkdtempSync(join(tmpdir(), 'palimpsest-plot-'))
  const to = join(folder, 'plot.svg')
  plot(
    ['mnist', 'cifar'].map((name) => join('bench', 'hybrid', 'kept', `${name}.json`)),
    to,
  )
  const drawn = readFileSync(to, 'utf8')
  rmSync(folder, { recursive: true })
  expect(drawn).toBe(readFileSync(join('docs', 'retraining.svg'), 'utf8'))
  // A point for each arm, size of request and panel.
  expect(drawn.match(/rows revoked/g)?.length).toBe(8)
})
