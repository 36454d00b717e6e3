// Checks (--check) or mends (--write) the layout of everything: prettier, and clang-format 14 where it is installed.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const clangFormatNeeded = 14 // other versions lay some lines out differently

function run(command, args, stdio = 'inherit') {
  return spawnSync(command, args, { cwd: root, stdio, encoding: 'utf8', shell: process.platform === 'win32' })
}

/** Runs prettier; true where everything is, or has been brought, in form. */
export function prettier(mode) {
  const program = join(root, 'node_modules', '.bin', 'prettier')
  return run(program, [mode, '--log-level', 'warn', '.']).status === 0
}

/** Runs clang-format; undefined, after a line that says why, where the version that decides is not installed. */
export function clangFormat(mode) {
  const names = [`clang-format-${clangFormatNeeded}`, 'clang-format']
  const program = names.find((name) =>
    run(name, ['--version'], 'pipe').stdout?.includes(`version ${clangFormatNeeded}.`),
  )
  if (program === undefined) {
    console.log(
      `clang-format ${clangFormatNeeded} is not installed: layout of C++ skipped (apt-get install clang-format)`,
    )
    return undefined
  }
  const files = ['native', 'cuda', join('test', 'native')]
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((file) => join(folder, file)))
    .filter((file) => /\.(h|cpp|inc|cuh?)$/.test(file))
  if (mode === '--write') return run(program, ['-i', ...files]).status === 0
  const unlike = files.filter((file) => run(program, ['--dry-run', '-Werror', file], 'ignore').status !== 0)
  for (const file of unlike) console.log(`not laid out by .clang-format: ${file}`)
  if (unlike.length > 0) console.log('`npm run format` mends it')
  return unlike.length === 0
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const mode = process.argv[2]
  if (mode !== '--check' && mode !== '--write') throw new Error(`expected --check or --write, got ${mode}`)
  const done = [prettier(mode), clangFormat(mode)]
  process.exitCode = done.includes(false) ? 1 : 0
}
