// Runs the GPU's native programs under compute-sanitizer: `npm run sanitize -- [TOOL...] [-- ARGUMENTS OF THE TESTS]`, by
// default memcheck, racecheck and synccheck, each over palimpsest_tests --device cuda, and memcheck over the benchmark too. Ends
// with "N passed, N failed[, N skipped]", a run of a tool being one.
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck']

const words = process.argv.slice(2)
const end = words.includes('--') ? words.indexOf('--') : words.length
const asked = words.slice(0, end)
const rest = words.slice(end + 1)
for (const tool of asked) {
  if (!tools.includes(tool)) throw new Error(`expected tools among ${tools.join(', ')}, got ${tool}`)
}
const chosen = asked.length > 0 ? asked : tools.slice(0, 3)

const run = (command, args, options = {}) => spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
const works = (command, ...args) => run(command, args, { stdio: 'ignore' }).status === 0

const toolkits = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda'].filter(Boolean)
const sanitizer = ['compute-sanitizer', ...toolkits.map((folder) => join(folder, 'bin', 'compute-sanitizer'))].find(
  (each) => works(each, '--version'),
)

// Libraries of others have reports of their own; without them every product runs through our kernels.
const env = { ...process.env, PALIMPSEST_CUBLAS: 'none', PALIMPSEST_CUDNN: 'none' }
const runs = [
  ...chosen.map((tool) => [tool, 'palimpsest_tests', '--device', 'cuda', ...rest]),
  ...(rest.length === 0 && chosen.includes('memcheck') ? [['memcheck', 'palimpsest_bench_cuda']] : []),
]
const missing =
  sanitizer === undefined
    ? 'compute-sanitizer was not found: it comes with the CUDA toolkit'
    : works('nvidia-smi', '-L')
      ? undefined
      : 'nvidia-smi lists no GPU'
if (missing !== undefined) {
  console.log(`skipped: ${missing}\n0 passed, 0 failed, ${runs.length} skipped`)
  process.exit(0)
}

const configured = run('cmake', [
  ...['-S', '.', '-B', 'build', '-DPALIMPSEST_CUDA=ON', '-DPALIMPSEST_TESTS=ON', '-DPALIMPSEST_BENCH=ON'],
])
const jobs = String(availableParallelism())
const targets = ['palimpsest_tests', 'palimpsest_bench_cuda']
if (
  configured.status !== 0 ||
  run('cmake', ['--build', 'build', '--parallel', jobs, '--target', ...targets]).status !== 0
)
  process.exit(1)

let failed = 0
for (const [tool, program, ...args] of runs) {
  console.log(`\n== ${tool}: ${program} ${args.join(' ')}`)
  // Allocations that are refused on purpose are no errors.
  const options = [
    '--tool',
    tool,
    '--error-exitcode',
    '99',
    ...(tool === 'memcheck' ? ['--report-api-errors', 'no'] : []),
  ]
  const { status } = run(sanitizer, [...options, join(root, 'build', program), ...args], { env })
  failed += Number(status !== 0)
}
console.log(`${runs.length - failed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
