// A network is pretrained, transferred, and released without the skill it was pretrained for, beside the controls.
//
//   npx tsx examples/dispose.ts                     MNIST: digits 0 to 5, then 6 to 9; a few minutes on two cores
//   npx tsx examples/dispose.ts --small             fewer rows and steps
//   npx tsx examples/dispose.ts --cifar FOLDER      CIFAR-10's animals, then its vehicles (binary files); long
import { parseArgs } from 'node:util'
import { line, percent, seconds, table } from './demo/screen.js'
import { runSeed } from './disposal/arms.js'
import { cifar, mnist } from './disposal/tasks.js'

const { values: given } = parseArgs({
  options: { small: { type: 'boolean', default: false }, cifar: { type: 'string' } },
})
const task = given.cifar === undefined ? await mnist({ small: given.small }) : await cifar(given.cifar)
const { source, floor, ceiling, arms } = await runSeed(task, 1, { budgets: 1, seeds: [1, 2, 3] })

line(`${task.name}; the source task was known to ${percent(source)}`)
line(`PL: accuracy on the source task after ${task.budgets[0].name} of learning it again, all layers, a fresh last one`)
const rows = arms.map(({ arm, target, learned: [{ accuracy, recovered }], seconds }) => [
  arm,
  percent(target),
  percent(accuracy),
  recovered.toFixed(2),
  seconds.toFixed(1),
])
rows.push(['from scratch', '-', percent(floor[0]), '0.00', '-'])
table(['', 'target', 'PL', '(PL - floor) / (ceiling - floor)', 's'], rows)

const of = (name: string) => arms.find(({ arm }) => arm === name) as (typeof arms)[number]
const [before, tuned, disposed] = [of('before'), of('fine-tuned'), of('disposed')]
const apart = ceiling[0] - floor[0] >= 0.08
const kept = disposed.target >= before.target - 0.01
const gone = disposed.learned[0].recovered <= 0.5 && disposed.learned[0].accuracy < tuned.learned[0].accuracy
const verdict = !apart
  ? 'Floor and ceiling are less than 8 points apart: nothing follows.'
  : kept && gone
    ? 'Everything is as it should be.'
    : 'The target task was not kept, or the source task not unlearned.'
line(`${verdict} ${seconds().toFixed(0)} s`)
process.exitCode = apart && kept && gone ? 0 : 1
