// Runs every check of the project, or the stages named as arguments; the last line is "N passed, N failed[, N skipped]".
//
// Under CI (CI set) the addon is also built with node-gyp, as on a machine without CMake.
import { spawnSync } from 'node:child_process'
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

/** Builds palimpsest_tests, and the benchmark of kernels that vitest runs, beside the addon's objects; runs the tests. */
function nativeTests() {
  if (run('cmake', ['--version'], { stdio: 'ignore' }).status !== 0) {
    console.log('cmake is not installed: native tests skipped (apt-get install cmake)')
    return one(undefined)
  }
  const jobs = String(availableParallelism())
  const built =
    run('cmake', ['-S', '.', '-B', 'build', '-DPALIMPSEST_TESTS=ON', '-DPALIMPSEST_BENCH=ON'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }).status === 0 &&
    ['palimpsest_tests', 'palimpsest_bench_kernels'].every(
      (target) =>
        run('cmake', ['--build', 'build', '--config', 'Release', '--target', target, '--parallel', jobs]).status === 0,
    )
  if (!built) return one(false)
  const { stdout, status } = run(join(root, 'build', windows ? 'palimpsest_tests.exe' : 'palimpsest_tests'), [], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.stdout.write(stdout)
  const counts = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m.exec(stdout)
  // No closing line is a crash, whatever went well before it; no test at all is no success either.
  if (counts === null || Number(counts[1]) + Number(counts[2]) === 0) return one(false)
  const [, passed, failed, skipped = 0] = counts.map(Number)
  return { passed, failed: status === 0 ? failed : Math.max(failed, 1), skipped: skipped || 0 }
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

function vitest() {
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
  native: nativeTests,
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
  const counts = stage()
  for (const key of Object.keys(sum)) sum[key] += counts[key]
  if (counts.failed > 0) bad.push(name)
}
console.log(bad.length > 0 ? `\nfailed: ${bad.join(', ')}` : '')
console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ''}`)
process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0
