// Runs every check of the project, or the stages named as arguments; the last line is "N passed, N failed[, N skipped]".
//
// Under CI (CI set) the addon is also built with node-gyp, as on a machine without CMake.
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { clangFormat, prettier } from './format.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const windows = process.platform === 'win32'

function run(command, args, { cwd = root, env = {}, stdio = 'inherit' } = {}) {
  const options = { cwd, stdio, encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 2 ** 30, shell: windows }
  return spawnSync(command, args, options)
}

/** A stage that is one check: true held, false failed, undefined not to be had on this machine. */
const one = (held) => ({
  passed: Number(held === true),
  failed: Number(held === false),
  skipped: Number(held === undefined),
})
const command = (...words) => one(run(words[0], words.slice(1)).status === 0)
const tool = (name) => join(root, 'node_modules', '.bin', name)

/** Builds native programs in the folder that holds the addon's objects, and runs the first with each of the arguments, all at once. */
async function nativeTests(programs, runs, ...options) {
  if (run('cmake', ['--version'], { stdio: 'ignore' }).status !== 0) {
    console.log('cmake is not installed: native tests skipped (apt-get install cmake)')
    return one(undefined)
  }
  const jobs = String(availableParallelism())
  const built =
    run('cmake', ['-S', '.', '-B', 'build', '-DPALIMPSEST_TESTS=ON', ...options], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }).status === 0 &&
    programs.every(
      (target) =>
        run('cmake', ['--build', 'build', '--config', 'Release', '--target', target, '--parallel', jobs]).status === 0,
    )
  if (!built) return one(false)
  const all = await Promise.all(runs.map((args) => runNative(programs[0], args)))
  return Object.fromEntries(
    ['passed', 'failed', 'skipped'].map((key) => [key, all.reduce((sum, counts) => sum + counts[key], 0)]),
  )
}

/** Runs a program of native tests; prints what it said once it is over. */
async function runNative(program, args) {
  const file = join(root, 'build', windows ? `${program}.exe` : program)
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text))
  const status = await new Promise((resolve) => child.on('close', resolve).on('error', resolve))
  process.stdout.write(said)
  const counts = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m.exec(said)
  // No closing line is a crash, whatever went well before it; no test at all is no success either.
  if (counts === null || counts.slice(1).every((count) => !Number(count))) return one(false)
  const [, passed, failed, skipped = 0] = counts.map(Number)
  return { passed, failed: status === 0 ? failed : Math.max(failed, 1), skipped: skipped || 0 }
}

/** The CUDA kernels compiled as C++, their threads run on the CPU: one at a time, so a process for each processor. */
function emulatedTests() {
  const parts = availableParallelism()
  const runs = Array.from({ length: parts }, (_, i) => ['--device', 'cuda', '--part', `${i + 1}/${parts}`])
  return nativeTests(['palimpsest_tests_emulated'], runs, '-DPALIMPSEST_EMULATOR=ON')
}

/** The build that a machine without CMake makes, in a folder of its own; it must load. */
function gypBuild() {
  const folder = mkdtempSync(join(tmpdir(), 'palimpsest-gyp-'))
  try {
    for (const part of ['package.json', 'CMakeLists.txt', 'binding.gyp', 'native', 'cuda', 'scripts']) {
      cpSync(join(root, part), join(folder, part), { recursive: true })
    }
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'junction')
    const env = { PALIMPSEST_BUILD: 'gyp' }
    return one(run('npm', ['run', '--silent', 'build:native'], { cwd: folder, env }).status === 0)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Why the device that PALIMPSEST_DEVICE names cannot be had; undefined where it can, or where none is named. */
function missingDevice() {
  const code = `const { Model, networks } = await import('./dist/index.js')
    try { Model.fromNetwork(networks.mlp({ inputShape: [1], classes: 2, seed: 1 })).dispose() }
    catch (error) { if (error.code !== 'ERR_DEVICE') throw error; console.log(error.message) }`
  if (!process.env.PALIMPSEST_DEVICE) return undefined
  return run(process.execPath, ['--input-type=module', '-e', code], { stdio: 'pipe' }).stdout.trim() || undefined
}

/** Without the device that is asked for there is nothing to test: says why, and how many tests that leaves out. */
function skippedVitest(reason) {
  const file = join(root, '.cache', 'vitest.json')
  run(tool('vitest'), ['list', `--json=${file}`], { stdio: 'ignore', env: { PALIMPSEST_DEVICE: 'cpu' } })
  const count = JSON.parse(readFileSync(file, 'utf8')).length
  console.log(`skipped ${count} tests: ${reason}`)
  return { passed: 0, failed: 0, skipped: count }
}

function vitest() {
  const missing = missingDevice()
  if (missing !== undefined) return skippedVitest(missing)
  const report = join(root, '.cache', 'vitest.json')
  mkdirSync(join(root, '.cache'), { recursive: true })
  rmSync(report, { force: true })
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const { status } = run(tool('vitest'), ['run', ...reporters])
  let results
  try {
    results = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    return one(false)
  }
  // A file that does not load has no tests to count, but it has failed.
  const unloaded = results.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'),
  ).length
  const failed = results.numFailedTests + unloaded
  return {
    passed: results.numPassedTests,
    failed: status === 0 ? failed : Math.max(failed, 1),
    skipped: results.numPendingTests + results.numTodoTests,
  }
}

const stages = {
  prettier: () => one(prettier('--check')),
  'clang-format': () => one(clangFormat('--check')),
  eslint: () => command(tool('eslint'), '.'),
  types: () => command(tool('tsc'), '--noEmit'),
  build: () => command('npm', 'run', '--silent', 'build'),
  // vitest runs a benchmark too.
  native: () =>
    nativeTests(['palimpsest_tests', 'palimpsest_benchmarks'], [[], ['--device', 'cuda']], '-DPALIMPSEST_BENCH=ON'),
  ...(windows ? {} : { 'cuda (emulated)': emulatedTests }),
  ...(process.env.CI ? { gyp: gypBuild } : {}),
  vitest,
}

const asked = process.argv.slice(2)
for (const name of asked) {
  if (!(name in stages)) throw new Error(`expected stages among ${Object.keys(stages).join(', ')}, got ${name}`)
}
const sum = { passed: 0, failed: 0, skipped: 0 }
const bad = []
for (const [name, stage] of Object.entries(stages)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  console.log(`\n== ${name}`)
  const counts = await stage()
  for (const key of Object.keys(sum)) sum[key] += counts[key]
  if (counts.failed > 0) bad.push(name)
}
console.log(bad.length > 0 ? `\nfailed: ${bad.join(', ')}` : '')
console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ''}`)
process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0
