// The grid of requests, with a worker that stands by: which arm is quicker to accuracy within half a point of exact, and which one the plan takes.
import { writeFileSync } from 'node:fs'
import { forget, plan, type Plan } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { median } from '../statistics.js'
import { mnist, standing, onCopy, range, readout, train, type Setup, type Shape } from './setup.js'

/** Accuracy that the direct arm may lose to exact. */
const margin = 0.005

/** Requests: so many rows, spread over all of them or over the last slices only. */
type Where = 'spread' | 'late'

const few = [1, 10, 100, 400]
/** Of a short training one row costs either arm a tenth of a second: no choice worth planning. */
const many = [10, 100, 400, 800]
const shapes: (Shape & { where: Where; sizes: number[] })[] = [
  { shards: 1, slices: 1, epochs: 6, where: 'spread', sizes: few },
  { shards: 1, slices: 4, epochs: 8, where: 'spread', sizes: few },
  { shards: 5, slices: 4, epochs: 8, where: 'spread', sizes: few },
  { shards: 5, slices: 4, epochs: 2, where: 'spread', sizes: many },
  { shards: 5, slices: 4, epochs: 2, where: 'late', sizes: many },
]
/** Times that each arm serves a request, in turns. */
const times = 3

type Arm = 'exact' | 'direct'
const arms = ['exact', 'direct'] as const

interface Run {
  /** What plan() said just before. */
  planned: Pick<Plan, 'arm' | 'exact' | 'direct'>
  seconds: number
  /** Processor seconds: what others do at the same time is not in them. */
  processor: number
  visits: number
}

interface Cell {
  name: string
  runs: Record<Arm, Run[]>
  accuracy: Record<Arm, number>
}

export async function grid(rows: number, only?: readonly number[], keep?: string): Promise<void> {
  const setup = await mnist(rows)
  const cells: Cell[] = []
  for (const { where, sizes, ...shape } of shapes) {
    const { folder } = await train(setup, setup.data, shape, standing)
    for (const size of only ?? sizes) {
      const cell = await measure(setup, shape, folder, where, size)
      cells.push(cell)
      console.log(line(cell).join('  '))
      if (keep !== undefined) writeFileSync(keep, `${JSON.stringify(cells)}\n`)
    }
  }
  report(cells)
}

/** Positions of a request's rows. */
async function chosen(setup: Setup, folder: string, where: Where, size: number): Promise<number[]> {
  return onCopy(folder, setup.data, async (record) => {
    const slices = record.rows.flatMap((shard) => (where === 'spread' ? shard : [shard[record.slices - 1]]))
    const positions = slices
      .flat()
      .map(({ position }) => position)
      .sort((a, b) => a - b)
    return range(size).map((i) => positions[Math.floor((i * positions.length) / size)])
  })
}

async function measure(setup: Setup, shape: Shape, folder: string, where: Where, size: number): Promise<Cell> {
  const indices = await chosen(setup, folder, where, size)
  const revoked = setup.data.subset(indices)
  const request = { where: { indices } }
  const { shards, slices, epochs } = shape
  const cell: Cell = {
    name: `${shards} x ${slices}, ${epochs} epochs, ${size} ${where}`,
    runs: { exact: [], direct: [] },
    accuracy: { exact: NaN, direct: NaN },
  }
  for (let turn = 0; turn < times; turn++) {
    for (const arm of turn % 2 === 0 ? arms : arms.toReversed()) {
      await onCopy(folder, setup.data, async (record) => {
        const planned = await plan(record, { ...request, prefer: 'fast' })
        const begun = process.cpuUsage()
        const { seconds, visits } = await forget(record, { ...request, prefer: arm, runner: standing })
        const { user, system } = process.cpuUsage(begun)
        cell.runs[arm].push({ planned, seconds, processor: (user + system) / 1e6, visits })
        if (turn === 0) cell.accuracy[arm] = (await readout(record, setup, revoked)).accuracy
      })
    }
  }
  return cell
}

const middle = (cell: Cell, arm: Arm, of: (run: Run) => number) => median(cell.runs[arm].map(of))
const processor = (cell: Cell, arm: Arm) => middle(cell, arm, (run) => run.processor)
const seconds = (cell: Cell, arm: Arm) => middle(cell, arm, (run) => run.seconds)
const plannedOf = (run: Run, arm: Arm) => run.planned[arm]?.seconds ?? NaN
const all = (cell: Cell) => arms.flatMap((arm) => cell.runs[arm])

/** The arm that reaches the accuracy in less time. */
function quicker(cell: Cell, time: (cell: Cell, arm: Arm) => number = processor): Arm {
  const good = cell.accuracy.direct >= cell.accuracy.exact - margin
  return good && time(cell, 'direct') < time(cell, 'exact') ? 'direct' : 'exact'
}

const head = [
  'shards x slices, rows',
  'exact CPU s',
  'direct CPU s',
  'exact s',
  'planned',
  'direct s',
  'planned',
  'exact rows',
  'direct rows',
  'exact %',
  'direct %',
  'quicker',
  'plan',
]

function line(cell: Cell): string[] {
  const s = (value: number) => value.toFixed(2)
  const percent = (value: number) => (100 * value).toFixed(2)
  const direct = all(cell).filter(({ planned }) => planned.arm === 'direct').length
  return [
    cell.name,
    ...arms.map((arm) => s(processor(cell, arm))),
    ...arms.flatMap((arm) => [s(seconds(cell, arm)), s(middle(cell, arm, (run) => plannedOf(run, arm)))]),
    ...arms.map((arm) => String(cell.runs[arm][0].visits)),
    ...arms.map((arm) => percent(cell.accuracy[arm])),
    quicker(cell),
    direct === 0 ? 'exact' : direct === all(cell).length ? 'direct' : `direct ${direct} of ${all(cell).length}`,
  ]
}

function report(cells: readonly Cell[]): void {
  console.log(markdown(head, cells.map(line)))
  const share = (of: readonly boolean[]) => `${of.filter(Boolean).length} of ${of.length}`
  console.log(`exact is the quicker one in ${share(cells.map((cell) => quicker(cell) === 'exact'))} requests`)
  console.log(`by the clock on the wall in ${share(cells.map((cell) => quicker(cell, seconds) === 'exact'))}`)
  const first = cells.map((cell) => cell.runs.exact[0].planned.arm === quicker(cell))
  console.log(`the first plan of a request takes the quicker one in ${share(first)}`)
  const each = cells.flatMap((cell) => all(cell).map(({ planned }) => planned.arm === quicker(cell)))
  console.log(`any plan of a request in ${share(each)}`)
  for (const arm of arms) {
    const runs = cells.flatMap((cell) => cell.runs[arm])
    const counted = runs.map(({ visits, planned }) => visits === planned[arm]?.visits)
    const off = runs.map((run) => plannedOf(run, arm) / run.seconds - 1)
    const within = off.map((by) => Math.abs(by) <= 0.3)
    const error = (100 * median(off.map(Math.abs))).toFixed(0)
    console.log(`${arm}: rows as planned in ${share(counted)}, seconds within 30 % in ${share(within)}`)
    console.log(`${arm}: median error ${error} %, median of planned / taken ${(1 + median(off)).toFixed(2)}`)
  }
}
