// Prints files and lines per folder, and the longest files: growth should be seen before it is felt.
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const folders = ['native', 'cuda', 'lib', 'test', 'bench', 'examples', 'scripts']
const counted = /\.(h|cpp|cuh?|ts|mjs|js|py)$/

function filesUnder(folder) {
  try {
    return readdirSync(join(root, folder), { recursive: true })
      .map((file) => join(folder, file))
      .filter((file) => counted.test(file) && statSync(join(root, file)).isFile())
  } catch (error) {
    if (error.code === 'ENOENT') return []
    throw error
  }
}

const files = folders.flatMap(filesUnder).map((file) => {
  const text = readFileSync(join(root, file), 'utf8')
  return { file, folder: dirname(file), lines: text.split('\n').length - 1 }
})
const perFolder = new Map(files.map(({ folder }) => [folder, []]))
for (const entry of files) perFolder.get(entry.folder).push(entry)

const total = (entries) => entries.reduce((sum, { lines }) => sum + lines, 0)
const row = (name, count, lines) =>
  console.log(`${name.padEnd(24)}${String(count).padStart(6)}${String(lines).padStart(8)}`)
row('folder', 'files', 'lines')
for (const [folder, entries] of [...perFolder].sort(([a], [b]) => a.localeCompare(b))) {
  row(folder, entries.length, total(entries))
}
row('all', files.length, total(files))
console.log('\nlongest')
for (const { file, lines } of files.sort((a, b) => b.lines - a.lines).slice(0, 8)) row(file, '', lines)
