// Disposable transfer learning beside fine-tuning alone and re-initialising and distilling: target accuracy and PL.
//
//     npx tsx bench/dispose.ts [--seeds 3] [--json FILE]                      MNIST: digits 0 to 5, then 6 to 9
//     npx tsx bench/dispose.ts --cifar FOLDER [--rows 30000] [--seeds 3]      CIFAR-10: animals, then vehicles
//     npx tsx bench/dispose.ts --small                                        one seed of MNIST at small size
// FOLDER holds CIFAR-10's binary files (data_batch_1.bin to 5, test_batch.bin).
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { runSeed, type SeedResult } from '../examples/disposal/arms.js'
import { cifar, mnist } from '../examples/disposal/tasks.js'
import { devices } from '../lib/index.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    cifar: { type: 'string' },
    rows: { type: 'string', default: '30000' },
    seeds: { type: 'string', default: '3' },
    small: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
})

function revision(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}

const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length
const percent = (share: number) => (100 * share).toFixed(1)

console.log(
  `${cpus()[0].model}, ${devices().find(({ available }) => available)?.description}, ${revision()}: ${process.argv.slice(2).join(' ')}`,
)
const task =
  given.cifar === undefined ? await mnist({ small: given.small }) : await cifar(given.cifar, Number(given.rows))
const seeds = given.small ? 1 : Number(given.seeds)
const results: SeedResult[] = []
for (let seed = 1; seed <= seeds; seed++) {
  const found = await runSeed(task, seed, { withSourceHead: true })
  results.push(found)
  if (given.json !== undefined) writeFileSync(given.json, JSON.stringify({ task: task.name, results }, null, 1))
  console.log(
    `\n${task.name}; ${seed} seeds; source test accuracy before the transfer ${percent(mean(results.map((r) => r.source)))} %\n`,
  )
  const arms = found.arms.map(({ arm }) => arm)
  const of = (arm: string) => results.flatMap((result) => result.arms.filter((each) => each.arm === arm))
  const floor = task.budgets.map((_, i) => mean(results.map((result) => result.floor[i])))
  const ceiling = task.budgets.map((_, i) => mean(results.map((result) => result.ceiling[i])))
  const place = (accuracy: number, i: number) => (accuracy - floor[i]) / (ceiling[i] - floor[i])
  const rows = arms.map((arm) => {
    const learned = task.budgets.map((_, i) => mean(of(arm).map((each) => each.learned[i].accuracy)))
    return [
      arm,
      percent(mean(of(arm).map((each) => each.target))),
      ...learned.map((accuracy, i) => `${percent(accuracy)} (${place(accuracy, i).toFixed(2)})`),
      mean(of(arm).map(({ seconds }) => seconds)).toFixed(0),
    ]
  })
  rows.unshift(['from scratch (floor)', '', ...floor.map((accuracy) => `${percent(accuracy)} (0)`), ''])
  console.log(markdown(['', 'target %', ...task.budgets.map(({ name }) => `PL %, ${name}`), 's'], rows))
}
