// The benchmarks: `npm run bench`, or `npm run bench -- products --only fisher --workload mlp --repeats 15`.
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { devices } from '../lib/index.js'
import { Peer, type NoPeer } from './peer.js'
import { benchProducts, type ProductRow } from './products.js'
import { digits, spread } from './statistics.js'
import { markdown } from './tables.js'
import { benchVerbs, verbsTable } from './verbs.js'
import { workloads, type WorkloadName } from './workloads.js'

const usage = `npm run bench -- [kernels] [products] [verbs] [options]

All three where none is named.
  --only TEXT        rows whose name holds TEXT: a quantity (fisher), a case (head) or a kernel (gemm)
  --workload NAMES   of mlp, convnet and resnet18, with commas; all of them by default
  --repeats N        interleaved pairs (15); the verbs take N where they take milliseconds, else one
  --python PATH      with torch importable; PALIMPSEST_PYTHON or python3 by default
  --no-peer          without PyTorch
  --json FILE        everything as JSON, into FILE, or to standard output after the tables with '-'
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
        workload: { type: 'string', default: Object.keys(workloads).join(',') },
        repeats: { type: 'string', default: '15' },
        python: { type: 'string', default: process.env.PALIMPSEST_PYTHON ?? 'python3' },
        'no-peer': { type: 'boolean', default: false },
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
const parts = ['kernels', 'products', 'verbs']
const unknown = positionals.find((part) => !parts.includes(part))
if (unknown !== undefined) fail(`expected ${parts.join(', ')}, got '${unknown}'`)
const wants = (part: string) => positionals.length === 0 || positionals.includes(part)
const repeats = Number(given.repeats)
if (!Number.isSafeInteger(repeats) || repeats < 1)
  fail(`--repeats: expected a whole number from 1, got ${given.repeats}`)
const names = given.workload.split(',')
const noWorkload = names.find((name) => !(name in workloads))
if (noWorkload !== undefined) fail(`--workload: expected ${Object.keys(workloads).join(', ')}, got '${noWorkload}'`)

/** The engine's own kernels, where the build has their program. */
function benchKernels(): void {
  const program = fileURLToPath(new URL('../build/palimpsest_bench_kernels', import.meta.url))
  if (!existsSync(program)) {
    console.log('kernels: not built; npx cmake-js build --CDPALIMPSEST_BENCH=ON makes build/palimpsest_bench_kernels\n')
    return
  }
  spawnSync(program, given.only === '' ? [] : [given.only], { stdio: 'inherit' })
  console.log()
}

function productCells(row: ProductRow): string[] {
  const { ours, peer, ratio, flops, limit } = row
  const other = 'reason' in peer ? ['none', '', ''] : [spread(peer.wall), digits(peer.cpu.median), peer.way]
  const cut = row.microBatch < row.batch ? `${row.batch} by ${row.microBatch}` : String(row.batch)
  return [
    row.workload,
    row.quantity,
    flops.formula,
    cut,
    spread(ours.wall),
    other[0],
    ratio ? ratio.wall.toFixed(2) : '',
    digits(ours.cpu.median),
    other[1],
    ratio ? ratio.cpu.toFixed(2) : '',
    digits(flops.shortest / 1e9),
    (flops.planned / flops.shortest).toFixed(2),
    row.gflops.toFixed(0),
    `${limit.gflops.toFixed(0)} ${limit.kind}`,
    `${(100 * limit.share).toFixed(0)} %`,
    `${(100 * limit.cpuShare).toFixed(0)} %`,
    row.difference === null ? '' : row.difference.toExponential(0),
    other[2],
  ]
}

const productHead = [
  'workload', 'quantity', 'FLOPs', 'batch', 'ours, ms', 'peer, ms', 'peer / ours', 'ours, CPU ms', 'peer, CPU ms',
  'CPU ratio', 'GFLOP', 'planned', 'GFLOP/s', 'limit', 'of it', 'CPU', 'difference', "peer's way",
] // prettier-ignore

async function products(): Promise<{ rows: ProductRow[]; peer: string | NoPeer }> {
  const peer: Peer | NoPeer = given['no-peer']
    ? { reason: 'left out (--no-peer)' }
    : await Peer.start(given.python, threads)
  const name = peer instanceof Peer ? peer.name : peer
  console.log(`products, ${repeats} interleaved repetitions, float32, ${threads} threads each`)
  console.log(`peer: ${typeof name === 'string' ? name : `none, ${name.reason}`}\n`)
  try {
    const rows: ProductRow[] = []
    await benchProducts({
      workloads: names as WorkloadName[],
      only: given.only,
      repeats,
      peer,
      onRow: (row) => {
        console.error(`  ${productCells(row).slice(0, 7).join('  ')}`)
        rows.push(row)
        report.products = { rows, peer: name }
        save()
      },
    })
    console.log(`${markdown(productHead, rows.map(productCells), 4)}\n`)
    return { rows, peer: name }
  } finally {
    if (peer instanceof Peer) peer.stop()
  }
}

const before = loadavg()
const machine = { cpu: cpus()[0].model, processors: cpus().length, threads, node: process.version, devices: devices() }
console.log(`${machine.cpu}, ${machine.processors} processors; ${devices()[0].description}`)
console.log(`load average at the start ${before.map((load) => load.toFixed(1)).join(', ')}\n`)
const report: Record<string, unknown> = { taken: new Date().toISOString(), machine }
/** After every row, so that a run that is stopped leaves what it had. */
function save(): void {
  if (given.json !== undefined && given.json !== '-') writeFileSync(given.json, `${JSON.stringify(report, null, 2)}\n`)
}

if (wants('kernels')) benchKernels()
if (wants('products')) report.products = await products()
if (wants('verbs')) {
  const verbs = await benchVerbs({ only: given.only, repeats })
  console.log(verbsTable(verbs))
  report.verbs = verbs
}
report.load = { before, after: loadavg() }
if (given.json === '-') console.log(JSON.stringify(report, null, 2))
else save()
