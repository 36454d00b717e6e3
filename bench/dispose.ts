// Disposable transfer learning beside fine-tuning alone and re-initialising and distilling: target accuracy and PL.
//
//     npx tsx bench/dispose.ts [--seeds 1,2,3] [--keep FOLDER]                MNIST: digits 0 to 5, then 6 to 9
//     npx tsx bench/dispose.ts --cifar FOLDER [--rows 30000]                  CIFAR-10: animals, then vehicles
//     npx tsx bench/dispose.ts --small                                        one seed of MNIST at small size
// --keep's FOLDER takes results and checkpoints as they come, and a later run goes on from there. --cifar's holds
// CIFAR-10's binary files (data_batch_1.bin to 5, test_batch.bin).
import { mkdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runSeed, type SeedResult } from '../examples/disposal/arms.js'
import { cifar, mnist } from '../examples/disposal/tasks.js'
import { devices } from '../lib/index.js'
import { FinishedParts, revision } from './finished_parts.js'
import { markdown } from './tables.js'

const { values: given } = parseArgs({
  options: {
    cifar: { type: 'string' },
    rows: { type: 'string', default: '30000' },
    seeds: { type: 'string', default: '1,2,3' },
    small: { type: 'boolean', default: false },
    keep: { type: 'string' },
  },
})

const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length
const percent = (share: number) => (100 * share).toFixed(1)

console.log(
  `${cpus()[0].model}, ${devices().find(({ available }) => available)?.description}, ${revision()}: ${process.argv.slice(2).join(' ')}`,
)
const task =
  given.cifar === undefined ? await mnist({ small: given.small }) : await cifar(given.cifar, Number(given.rows))
const { keep } = given
if (keep !== undefined) mkdirSync(keep, { recursive: true })
const { name, disposal, budgets, pretraining, transfer } = task
const sizes = { source: task.source.train.size, target: task.target.train.size }
const settings = {
  name,
  sizes,
  disposal: { ...disposal, evaluation: disposal.evaluation?.size },
  budgets,
  pretraining,
  transfer,
}
const parts = new FinishedParts(keep === undefined ? undefined : join(keep, 'dispose.json'), settings)
const part = parts.part.bind(parts)
const results: SeedResult[] = []
for (const seed of given.small ? [1] : given.seeds.split(',').map(Number)) {
  const found = await runSeed(task, seed, { withSourceHead: true, part, ...(keep !== undefined && { keep }) })
  results.push(found)
  const known = percent(mean(results.map((r) => r.source)))
  const done = results.map((r) => r.seed).join(', ')
  console.log(`\n${name}; seeds ${done}, at ${parts.revisions.join(', ')}; source test accuracy ${known} %\n`)
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
