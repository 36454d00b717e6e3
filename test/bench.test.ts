// The benchmarks run: every part at a size that takes seconds, its rows whole. Nothing here says anything about speed.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import type { EstimateRow } from '../bench/estimates.js'
import type { KernelRow } from '../bench/kernels.js'
import type { ProductRow } from '../bench/products.js'
import type { VerbRow } from '../bench/verbs.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsx = fileURLToPath(import.meta.resolve('tsx/cli'))

async function bench<T>(...args: string[]): Promise<T> {
  const all = [tsx, 'bench/run.ts', ...args, '--tiny', '--repeats', '1', '--json', '-']
  const { stdout } = await promisify(execFile)(process.execPath, all, { cwd: root, maxBuffer: 2 ** 26 })
  return JSON.parse(stdout) as T
}

const timeout = 120_000

it(
  'products: times, FLOPs, memory and the gradient beside each',
  async () => {
    const { products } = await bench<{ products: { rows: ProductRow[]; peer: { reason: string } } }>('products')
    expect(products.peer.reason).toContain('--tiny')
    const { rows } = products
    // Six products of each network, two of them linearised too where the library has that, and two training steps.
    const linearised = rows.filter(({ quantity }) => quantity.endsWith('linearised')).length
    expect([0, 6]).toContain(linearised)
    expect(rows).toHaveLength(6 + 7 + 7 + linearised)
    for (const row of rows) {
      expect(row.ours.wall.median).toBeGreaterThan(0)
      expect(row.flops.shortest).toBeGreaterThan(0)
      expect(row.flops.planned / row.flops.shortest).toBeGreaterThan(0.9)
      expect(row.memory.ours.engine).toBeGreaterThan(0)
      expect(row.peer).toEqual(products.peer)
      expect(row.gradientRatio === null).toBe(row.quantity === 'forward')
      expect(row.onnxruntime === null).toBe(row.quantity !== 'forward')
      // One repetition is too few to say what an undisturbed one takes.
      expect([row.ours.undisturbed, row.limit.undisturbedShare]).toEqual([null, null])
      if (row.stolen !== null) expect(row.stolen).toBeGreaterThanOrEqual(0)
    }
  },
  timeout,
)

it(
  'estimates: predicted and measured memory agree',
  async () => {
    const { estimates } = await bench<{ estimates: EstimateRow[] }>('estimate', '--workload', 'convnet')
    expect(estimates).toHaveLength(3 * 7)
    for (const { memory, predicted } of estimates) {
      expect(Math.abs(memory.ratio - 1)).toBeLessThan(0.1)
      expect(predicted).toBeGreaterThan(0)
    }
  },
  timeout,
)

it(
  'verbs: forgetting, refitting, retraining; --only chooses',
  async () => {
    const { verbs, products } = await bench<{ verbs: VerbRow[]; products?: unknown }>('verbs', '--only', 'head')
    expect(products).toBeUndefined()
    expect(verbs.map(({ layers }) => layers)).toEqual(['head', 'head', 'head', 'head', 'all'])
    for (const { wall, accuracy } of verbs) {
      expect(wall.median).toBeGreaterThan(0)
      expect(accuracy).toBeGreaterThan(0)
    }
  },
  timeout,
)

it.skipIf(!existsSync(`${root}build/palimpsest_bench_kernels`))(
  'kernels: rates beside what they are measured against',
  async () => {
    const { kernels } = await bench<{ kernels: KernelRow[] }>('kernels')
    const named = (text: string) => kernels.filter(({ name }) => name.startsWith(text))
    for (const text of [
      'gemm',
      'conv ',
      'conv_grad_squares',
      'linear_grad_squares',
      'elementwise relu',
      'reduce_sum',
    ]) {
      expect(named(text).length).toBeGreaterThan(0)
    }
    expect(named('conv_grad_squares')[0].beside?.name).toBe('a product of its size')
    for (const { rate, median, formula, ofPeak } of kernels) {
      expect(rate).toBeGreaterThan(0)
      expect(median).toBeGreaterThan(0)
      expect(formula).not.toBe('')
      expect(ofPeak).toBeLessThanOrEqual(1)
    }
  },
  timeout,
)

it(
  'products of another network, at batches that are given',
  async () => {
    const args = ['products', '--workload', 'resnet50', '--only', 'gradient', '--batch', '2,3']
    const { products } = await bench<{ products: { rows: ProductRow[] } }>(...args)
    expect(products.rows.map(({ workload, batch }) => [workload, batch])).toEqual([
      ['resnet50', 2],
      ['resnet50', 3],
    ])
  },
  timeout,
)

it.each([
  [['speed'], "expected kernels, products, verbs, estimate, got 'speed'"],
  [['--workload', 'resnet'], "expected mlp, convnet, resnet18, resnet50, got 'resnet'"],
  [['--device', 'gpu'], "--device: expected cpu, cuda or cuda:0, got 'gpu'"],
  [['--device', 'cuda:99'], '--device cuda:99: '],
  [['kernels', '--device', 'cuda'], "--device cuda: expected products, got 'kernels'"],
  [['--precision', 'tf32'], '--precision: expected float32 or float64, got tf32'],
  [['--batch', '32,x'], '--batch: expected whole numbers from 1, got 32,x'],
])('refuses %s', async (args, message) => {
  await expect(bench(...args)).rejects.toThrow(message)
})
