// Builds the addon: with CMake where there is one, else with node-gyp (portable kernels). Downloads nothing under CMake.
//
// Environment: PALIMPSEST_BUILD=cmake|gyp forces one of them; PALIMPSEST_WERROR=1 makes warnings errors (CI);
// PALIMPSEST_ONEDNN=AUTO|ON|OFF and PALIMPSEST_CUDA=AUTO|ON|OFF|EMULATED are CMake's options of these names. CUDA kernels
// that AUTO finds a compiler for but that do not compile are left out with a warning; with ON that is an error.
// PALIMPSEST_CUDA_ARCHITECTURES is CMake's list of GPUs to compile for ('80;90', 'native', 'all' that a release has);
// left out: those of this machine, else one in a clone, else all.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const addon = join(root, 'build', 'Release', 'palimpsest.node')
const cmakeNeeded = [3, 25]

const say = (line) => console.log(`palimpsest: ${line}`)

function fail(...lines) {
  for (const line of lines) console.error(`palimpsest: ${line}`)
  process.exit(1)
}

/** Runs a command in the package's folder; its output, and whether it ended well. */
function run(command, args, { quiet = false } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    stdio: quiet ? 'pipe' : 'inherit',
    encoding: 'utf8',
  })
  return { ok: status === 0, missing: error?.code === 'ENOENT', output: `${stdout ?? ''}${stderr ?? ''}` }
}

/** Why CMake cannot be used, or undefined where it can. */
function noCMake() {
  const found = run('cmake', ['--version'], { quiet: true })
  if (!found.ok) return 'CMake was not found'
  const [, major, minor] = /version (\d+)\.(\d+)/.exec(found.output)?.map(Number) ?? []
  const enough = major > cmakeNeeded[0] || (major === cmakeNeeded[0] && minor >= cmakeNeeded[1])
  return enough ? undefined : `CMake ${major}.${minor} is older than ${cmakeNeeded.join('.')}`
}

/** What CUDA kernels are compiled for, machine code and the newest one's PTX; undefined leaves it to CMakeLists.txt: all. */
function cudaArchitectures() {
  const asked = process.env.PALIMPSEST_CUDA_ARCHITECTURES
  if (asked) return asked === 'all' ? undefined : asked
  const { output } = run('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader'], { quiet: true })
  const found = [...output.matchAll(/^(\d+)\.(\d)$/gm)].map(([, major, minor]) => Number(major + minor))
  const usable = [...new Set(found)].filter((each) => each >= 80).sort((a, b) => a - b)
  if (usable.length > 0) return usable.map((each, i) => (i < usable.length - 1 ? `${each}-real` : each)).join(';')
  return existsSync(join(root, '.git')) ? '90' : undefined
}

/** package.json's binary.napi_versions makes cmake-js use node-api-headers: no Node headers are fetched. */
function cmakeJs(verb, cuda, ...more) {
  const require = createRequire(import.meta.url)
  const program = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  const options = [
    `--CDPALIMPSEST_WERROR=${process.env.PALIMPSEST_WERROR === '1' ? 'ON' : 'OFF'}`,
    `--CDPALIMPSEST_ONEDNN=${process.env.PALIMPSEST_ONEDNN ?? 'AUTO'}`,
    `--CDPALIMPSEST_CUDA=${cuda}`,
  ]
  const architectures = ['AUTO', 'ON'].includes(cuda) ? cudaArchitectures() : undefined
  if (architectures !== undefined) options.push(`--CDCMAKE_CUDA_ARCHITECTURES=${architectures}`)
  const args = [program, verb, '--log-level', 'error', ...options, ...more]
  return run(process.execPath, args, { quiet: verb !== 'build' })
}

/** Configures, saying what CMakeLists.txt has to tell a user, and builds; undefined where all went well, else what did not. */
function configureAndBuild(cuda) {
  let configured = cmakeJs('configure', cuda)
  // A build folder that was moved, or that another generator made, is started afresh.
  if (!configured.ok && /is different than the directory|Does not match the generator/.test(configured.output)) {
    configured = cmakeJs('reconfigure', cuda)
  }
  if (!configured.ok) return ['cmake could not configure the build:', ...configured.output.trimEnd().split('\n')]
  for (const line of configured.output.split('\n')) {
    if (/palimpsest: /.test(line)) say(line.replace(/.*palimpsest: /, ''))
  }
  const built = cmakeJs('build', cuda, '--target', 'palimpsest_addon', '--parallel', String(availableParallelism()))
  return built.ok ? undefined : []
}

/** A compiler for CUDA that fails costs the CUDA kernels, not the install; whatever else is wrong fails again without. */
function buildWithCMake() {
  const cuda = process.env.PALIMPSEST_CUDA || 'AUTO'
  const failure = configureAndBuild(cuda)
  if (failure === undefined || cuda !== 'AUTO') return failure
  for (const line of failure) console.error(`palimpsest: ${line}`)
  say('the build failed: trying again WITHOUT CUDA')
  const again = configureAndBuild('OFF')
  if (again !== undefined) return again
  say(
    'WARNING: the addon is built without CUDA, since its kernels could not be compiled: what the compiler said is above.',
  )
  say("PALIMPSEST_CUDA=ON makes that an error, PALIMPSEST_CUDA=OFF doesn't try")
  return undefined
}

/** node-gyp as npm brings it, with Node's own headers where they are installed beside it. */
function buildWithGyp() {
  const bundled = process.env.npm_config_node_gyp
  const [command, first] = bundled ? [process.execPath, [bundled]] : ['node-gyp', []]
  const beside = dirname(dirname(process.execPath))
  const headers = existsSync(join(beside, 'include', 'node', 'common.gypi')) ? [`--nodedir=${beside}`] : []
  const jobs = `--jobs=${availableParallelism()}`
  const built = run(command, [...first, 'rebuild', '--loglevel=warn', jobs, ...headers])
  if (built.missing) fail('neither CMake nor node-gyp was found: apt-get install cmake g++ (Debian, Ubuntu)')
  return built.ok ? undefined : []
}

const forced = process.env.PALIMPSEST_BUILD
if (![undefined, '', 'cmake', 'gyp'].includes(forced)) {
  fail(`expected 'cmake' or 'gyp' for PALIMPSEST_BUILD, got '${forced}'`)
}
const reason = forced === 'gyp' ? 'PALIMPSEST_BUILD=gyp' : noCMake()
if (reason !== undefined && forced === 'cmake') fail(`PALIMPSEST_BUILD=cmake, but ${reason}`)
if (reason !== undefined) {
  say(`${reason}: building with node-gyp, portable kernels only, which are slower.`)
  say('For the quick ones: apt-get install cmake g++ libdnnl-dev (Debian, Ubuntu), then npm rebuild palimpsest')
}

const failure = reason === undefined ? buildWithCMake() : buildWithGyp()
if (failure !== undefined) {
  fail(
    ...failure,
    'the addon could not be built; what the compiler said is above.',
    'Needed: a C++20 compiler (g++ 12 or clang 14 and later) and CMake 3.25. Debian: apt-get install cmake g++',
  )
}
const loaded = run(process.execPath, ['-e', `require(${JSON.stringify(addon)})`], { quiet: true })
if (!loaded.ok) fail(`${addon} was built but does not load:`, ...loaded.output.trimEnd().split('\n'))
say('the addon is built and loads')
