// The engine's own kernels: build/palimpsest_bench_kernels, built where it is missing, its rows against the machine's peaks.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { digits } from './statistics.js'
import { markdown } from './tables.js'

export interface KernelRow {
  name: string
  /** 'f32 oneDNN', 'f32 portable', 'f64'. */
  type: string
  /** FLOPs; bytes. */
  formula: string
  unit: 'GFLOP/s' | 'GB/s'
  flops: number
  bytes: number
  /** What `rate` counts of a run: FLOPs or bytes. */
  amount: number
  repeats: number
  /** Seconds. */
  median: number
  quartiles: [number, number]
  rate: number
  /** In the same repetitions: oneDNN's own primitive, a product of the same size, or a copy of as many bytes. */
  beside?: { name: string; rate: number }
  /** Of the highest rate of the same unit and type in this run: the machine's peak as far as it was reached. */
  ofPeak?: number
}

const root = fileURLToPath(new URL('..', import.meta.url))
const program = join(
  root,
  'build',
  process.platform === 'win32' ? 'palimpsest_bench_kernels.exe' : 'palimpsest_bench_kernels',
)

/** Undefined, or why there is no program. */
function build(): string | undefined {
  if (existsSync(program)) return undefined
  console.error("building the kernels' program ...")
  const cmake = join(dirname(createRequire(import.meta.url).resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [cmake, ...args, '--log-level', 'error', '--CDPALIMPSEST_BENCH=ON'], {
      cwd: root,
      encoding: 'utf8',
    })
  const made = [run('configure'), run('build', '--target', 'palimpsest_bench_kernels', '--parallel', '2')]
  const failed = made.find(({ status }) => status !== 0)
  if (failed) return `could not be built: ${`${failed.stdout}${failed.stderr}`.trim().split('\n').at(-1)}`
  return existsSync(program) ? undefined : `${program} was not made`
}

export interface KernelOptions {
  only: string
  repeats: number
  tiny: boolean
  onRow: (row: KernelRow) => void
}

/** Rows whose name holds `only`, or why there are none. */
export async function benchKernels(options: KernelOptions): Promise<KernelRow[] | string> {
  const missing = build()
  if (missing !== undefined) return missing
  const args = ['--json', '--repeats', String(options.repeats), ...(options.tiny ? ['--tiny'] : []), options.only]
  const child = spawn(
    program,
    args.filter((arg) => arg !== ''),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const rows: KernelRow[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    rows.push(JSON.parse(line) as KernelRow)
    options.onRow(rows.at(-1) as KernelRow)
  }
  const status = await ended
  if (status !== 0) throw new Error(`expected the kernels' program to end well, got status ${status}`)
  return withPeaks(rows)
}

/** A chain of passes whose values stay in the caches may be quicker than memory: its share is then above that of a copy. */
function withPeaks(rows: KernelRow[]): KernelRow[] {
  const kind = (row: KernelRow) => `${row.unit} ${row.type.slice(0, 3)}`
  const peaks = new Map<string, number>()
  for (const row of rows) {
    const best = Math.max(row.rate, row.beside?.rate ?? 0)
    peaks.set(kind(row), Math.max(peaks.get(kind(row)) ?? 0, best))
  }
  return rows.map((row) => ({ ...row, ofPeak: row.rate / (peaks.get(kind(row)) as number) }))
}

const head = [
  'kernel',
  'type',
  'FLOPs; values moved',
  'GFLOP',
  'MB',
  'ms',
  'rate',
  '',
  'of peak',
  'of what',
  '',
  'beside it',
]

export function kernelCells(row: KernelRow): string[] {
  const { beside } = row
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`
  return [
    row.name,
    row.type,
    row.formula,
    digits(row.flops / 1e9),
    digits(row.bytes / 1e6),
    `${digits(1e3 * row.median)} [${digits(1e3 * row.quartiles[0])}, ${digits(1e3 * row.quartiles[1])}]`,
    row.rate.toFixed(1),
    row.unit,
    row.ofPeak === undefined ? '' : percent(row.ofPeak),
    beside ? percent(row.rate / beside.rate) : '',
    beside ? beside.rate.toFixed(1) : '',
    beside?.name ?? '',
  ]
}

export const kernelsTable = (rows: readonly KernelRow[]): string => markdown(head, rows.map(kernelCells), 3)
