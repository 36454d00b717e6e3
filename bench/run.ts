// The benchmarks: `npm run bench`, or `npm run bench -- products --only fisher --workload mlp --repeats 15`.
import { writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { devices } from '../lib/index.js'
import { benchEstimates, estimateCells, estimatesTable, type EstimateRow } from './estimates.js'
import { benchKernels, kernelCells, kernelsTable, type KernelRow } from './kernels.js'
import { Peer, type NoPeer } from './peer.js'
import { benchProducts, type ProductRow } from './products.js'
import { productsTable, speedCells } from './products_table.js'
import { benchVerbs, verbsTable } from './verbs.js'
import type { Place } from './workload.js'
import { usualWorkloads, workloads, type WorkloadName } from './workloads.js'

const usage = `npm run bench -- [kernels] [products] [verbs] [estimate] [options]

All four where none is named.
  --only TEXT        rows whose name holds TEXT: a quantity (fisher), a case (head) or a kernel (gemm)
  --workload NAMES   of mlp, convnet, resnet18 and resnet50, with commas; by default all of them, on the CPU without
                     resnet50
  --device ID        of the products, cpu (default) or cuda:0; on a GPU the products alone are timed: its kernels have
                     palimpsest_bench_cuda
  --batch ROWS       of the products, with commas: 32,128,1024; the workload's own by default
  --repeats N        interleaved pairs (15, by which all of it takes most of an hour), of products as many more as
                     fill 8 seconds; estimates take a third of it; the verbs take N where they take milliseconds,
                     else one
  --precision TYPE   float32 (default); float64 of the estimates, tf32 of the products on a GPU
  --python PATH      with torch importable; PALIMPSEST_PYTHON or python3 by default
  --no-peer          without PyTorch
  --tiny             every part at a size that takes seconds and says nothing about speed; without PyTorch
  --json FILE        everything as JSON, into FILE, or to standard output in place of the tables with '-'
OMP_NUM_THREADS sets the threads of both sides; by default 2, or fewer where the machine has fewer.`

// Read before the engine starts its threads, which is at its first use. Threads that spin would take the other's time.
process.env.OMP_WAIT_POLICY = 'passive'
process.env.OMP_NUM_THREADS ??= String(Math.min(2, cpus().length))
const threads = Number(process.env.OMP_NUM_THREADS)

function fail(message: string): never {
  console.error(`${message}\n\n${usage}`)
  process.exit(2)
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        only: { type: 'string', default: '' },
        workload: { type: 'string' },
        device: { type: 'string', default: 'cpu' },
        batch: { type: 'string' },
        repeats: { type: 'string', default: '15' },
        python: { type: 'string', default: process.env.PALIMPSEST_PYTHON ?? 'python3' },
        precision: { type: 'string', default: 'float32' },
        'no-peer': { type: 'boolean', default: false },
        tiny: { type: 'boolean', default: false },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    return fail((error as Error).message)
  }
}

const { values: given, positionals } = readArguments()
if (given.help) {
  console.log(usage)
  process.exit(0)
}
const parts = ['kernels', 'products', 'verbs', 'estimate']
const unknown = positionals.find((part) => !parts.includes(part))
if (unknown !== undefined) fail(`expected ${parts.join(', ')}, got '${unknown}'`)
const { device } = given
const onlyProducts = device !== 'cpu'
const notThere = positionals.find((part) => onlyProducts && part !== 'products')
if (notThere !== undefined) fail(`--device ${device}: expected products, got '${notThere}'`)
const wants = (part: string) =>
  positionals.length === 0 ? !onlyProducts || part === 'products' : positionals.includes(part)
const repeats = Number(given.repeats)
if (!Number.isSafeInteger(repeats) || repeats < 1)
  fail(`--repeats: expected a whole number from 1, got ${given.repeats}`)
const names = given.workload?.split(',') ?? usualWorkloads(device)
const noWorkload = names.find((name) => !(name in workloads))
if (noWorkload !== undefined) fail(`--workload: expected ${Object.keys(workloads).join(', ')}, got '${noWorkload}'`)
const { precision } = given
const precisions = onlyProducts ? ['float32', 'tf32'] : ['float32', 'float64']
if (!precisions.includes(precision)) fail(`--precision: expected ${precisions.join(' or ')}, got ${precision}`)
const batches = given.batch?.split(',').map(Number) ?? []
if (!batches.every((rows) => Number.isSafeInteger(rows) && rows >= 1))
  fail(`--batch: expected whole numbers from 1, got ${given.batch}`)
if (!/^(cpu|cuda(:\d+)?)$/.test(device)) fail(`--device: expected cpu, cuda or cuda:0, got '${device}'`)
const missing = device !== 'cpu' && devices().find(({ name }) => name === (device === 'cuda' ? 'cuda:0' : device))
if (missing !== false && missing?.available !== true) {
  const { reason, cure } = missing ?? devices().find(({ name }) => name === 'cuda') ?? {}
  fail(`--device ${device}: ${[reason ?? 'there is no such GPU', cure].filter(Boolean).join('. ')}`)
}
const place: Place = {
  device: device as Place['device'],
  ...(precision !== 'float64' && { precision: precision as 'float32' | 'tf32' }),
}
const chosen = names as WorkloadName[]
const { only, tiny } = given

/** Tables go to where JSON does not. */
const say = (text: string) => (given.json === '-' ? console.error(text) : console.log(text))
const told = (cells: string[], shown = 7) => console.error(`  ${cells.slice(0, shown).join('  ')}`)

/** The engine's own kernels, where their program can be built. */
async function kernels(): Promise<void> {
  const rows: KernelRow[] = []
  say(`kernels, ${repeats} interleaved repetitions or more, ${threads} threads\n`)
  const all = await benchKernels({
    only,
    repeats,
    tiny,
    onRow: (row) => {
      told(kernelCells(row), 9)
      rows.push(row)
      keep('kernels', rows)
    },
  })
  keep('kernels', all)
  if (all.length > 0) say(`${typeof all === 'string' ? `kernels: ${all}` : kernelsTable(all)}\n`)
}

async function products(): Promise<void> {
  const alone = given['no-peer'] || tiny
  const peer: Peer | NoPeer = alone
    ? { reason: `left out (${tiny ? '--tiny' : '--no-peer'})` }
    : await Peer.start(given.python, threads, place)
  const name = peer instanceof Peer ? peer.name : peer
  const where = device === 'cpu' ? `${threads} threads each` : device
  say(`products, ${repeats} interleaved repetitions or more, ${place.precision ?? 'float32'}, ${where}`)
  say(`peer: ${typeof name === 'string' ? name : `none, ${name.reason}`}\n`)
  try {
    const rows: ProductRow[] = []
    await benchProducts({
      workloads: chosen,
      place,
      batches,
      only,
      repeats,
      threads,
      tiny,
      peer,
      onRow: (row) => {
        told(speedCells(row))
        rows.push(row)
        keep('products', { rows, peer: name })
      },
    })
    if (rows.length > 0) say(`${productsTable(rows)}\n`)
  } finally {
    if (peer instanceof Peer) peer.stop()
  }
}

async function estimates(): Promise<void> {
  const rows: EstimateRow[] = []
  const samples = Math.max(3, Math.ceil(repeats / 3))
  say(`estimates, medians of ${samples} repetitions\n`)
  await benchEstimates({
    workloads: chosen,
    only,
    repeats: tiny ? 1 : samples,
    threads,
    tiny,
    precision: precision as 'float32' | 'float64',
    onRow: (row) => {
      told(estimateCells(row), 9)
      rows.push(row)
      keep('estimates', rows)
    },
  })
  if (rows.length > 0) say(`${estimatesTable(rows)}\n`)
}

const before = loadavg()
const machine = { cpu: cpus()[0].model, processors: cpus().length, threads, node: process.version, devices: devices() }
say(`${machine.cpu}, ${machine.processors} processors; ${devices().find(({ available }) => available)?.description}`)
say(`load average at the start ${before.map((load) => load.toFixed(1)).join(', ')}\n`)
const report: Record<string, unknown> = { taken: new Date().toISOString(), machine }
/** After every row, so that a run that is stopped leaves what it had. */
function keep(part: string, value: unknown): void {
  report[part] = value
  if (given.json !== undefined && given.json !== '-') writeFileSync(given.json, `${JSON.stringify(report, null, 2)}\n`)
}

if (wants('kernels')) await kernels()
if (wants('products')) await products()
if (wants('verbs')) {
  const verbs = await benchVerbs({ only, repeats, tiny })
  say(verbsTable(verbs))
  keep('verbs', verbs)
}
if (wants('estimate')) await estimates()
keep('load', { before, after: loadavg() })
if (given.json === '-') console.log(JSON.stringify(report, null, 2))
