// The grid of requests, with a worker that stands by: which arm is quicker to accuracy within half a point of exact, and which one the plan takes.
import { forget, plan, type Plan } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { median } from '../statistics.js'
import { mnist, standing, onCopy, range, readout, train, type Setup, type Shape } from './setup.js'

/** Accuracy that the direct arm may lose to exact. */
const margin = 0.005

const shapes: Shape[] = [
  { shards: 1, slices: 4, epochs: 2 },
  { shards: 1, slices: 2, epochs: 8 },
  { shards: 4, slices: 8, epochs: 4 },
  { shards: 2, slices: 2, epochs: 8 },
]
/** Requests: so many rows, spread over all rows or out of one shard's last slice, or spread over one slice of all shards. */
const wheres = ['spread', 'late', 'late in one'] as const
const sizes = [1, 4, 16, 128]

interface Cell {
  name: string
  planned: Plan
  seconds: { exact: number; direct: number }
  /** Processor seconds: what others do at the same time is not in them. */
  processor: { exact: number; direct: number }
  visits: { exact: number; direct: number }
  accuracy: { exact: number; direct: number }
}

export async function grid(rows: number, only: readonly number[] = sizes): Promise<void> {
  const setup = await mnist(rows)
  const cells: Cell[] = []
  for (const shape of shapes) {
    const trained = await train(setup, setup.data, shape, standing)
    for (const where of wheres) {
      if (shape.shards === 1 && where === 'late in one') continue
      for (const size of only) {
        const cell = await measure(setup, shape, trained.folder, where, size)
        cells.push(cell)
        console.log(line(cell).join('  '))
      }
    }
  }
  report(cells)
}

/** Positions of a request's rows. */
async function chosen(setup: Setup, folder: string, where: (typeof wheres)[number], size: number): Promise<number[]> {
  return onCopy(folder, setup.data, async (record) => {
    const all = record.rows.flatMap((shard, s) => shard.flatMap((list, r) => list.map((row) => ({ ...row, s, r }))))
    const last = record.slices - 1
    const fits = all.filter(({ s, r }) => where === 'spread' || (r === last && (where === 'late' || s === 0)))
    const sorted = fits.sort((a, b) => a.position - b.position)
    const count = Math.min(size, sorted.length - 1)
    return range(count).map((i) => sorted[Math.floor((i * sorted.length) / count)].position)
  })
}

async function measure(
  setup: Setup,
  shape: Shape,
  folder: string,
  where: (typeof wheres)[number],
  size: number,
): Promise<Cell> {
  const indices = await chosen(setup, folder, where, size)
  const revoked = setup.data.subset(indices)
  const request = { where: { indices } }
  const serve = (prefer: 'exact' | 'direct') =>
    onCopy(folder, setup.data, async (record) => {
      const planned = await plan(record, { ...request, prefer: 'fast' })
      const begun = process.cpuUsage()
      const served = await forget(record, { ...request, prefer, runner: standing })
      const { user, system } = process.cpuUsage(begun)
      return {
        planned,
        served,
        processor: (user + system) / 1e6,
        accuracy: (await readout(record, setup, revoked)).accuracy,
      }
    })
  const [direct, exact] = [await serve('direct'), await serve('exact')]
  return {
    name: `${shape.shards} x ${shape.slices}, ${indices.length} ${where}`,
    planned: direct.planned,
    seconds: { exact: exact.served.seconds, direct: direct.served.seconds },
    processor: { exact: exact.processor, direct: direct.processor },
    visits: { exact: exact.served.visits, direct: direct.served.visits },
    accuracy: { exact: exact.accuracy, direct: direct.accuracy },
  }
}

/** The arm that reaches the accuracy with less processor time. */
function quicker({ processor, accuracy }: Cell): 'exact' | 'direct' {
  return processor.direct < processor.exact && accuracy.direct >= accuracy.exact - margin ? 'direct' : 'exact'
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
  const { name, planned, seconds, processor, visits, accuracy } = cell
  const s = (value: number | undefined) => (value ?? NaN).toFixed(2)
  const percent = (value: number) => (100 * value).toFixed(2)
  return [
    name,
    s(processor.exact),
    s(processor.direct),
    s(seconds.exact),
    s(planned.exact.seconds),
    s(seconds.direct),
    s(planned.direct?.seconds),
    String(visits.exact),
    String(visits.direct),
    percent(accuracy.exact),
    percent(accuracy.direct),
    quicker(cell),
    planned.arm,
  ]
}

function report(cells: readonly Cell[]): void {
  console.log(markdown(head, cells.map(line)))
  const exact = cells.filter((cell) => quicker(cell) === 'exact').length
  const right = cells.filter((cell) => quicker(cell) === cell.planned.arm).length
  const counted = cells.filter(({ visits, planned }) => visits.exact === planned.exact.visits).length
  const off = (arm: 'exact' | 'direct') =>
    cells.map(({ seconds, planned }) => Math.abs((planned[arm]?.seconds ?? NaN) / seconds[arm] - 1))
  const within = (arm: 'exact' | 'direct') => off(arm).filter((each) => each <= 0.3).length
  console.log(`exact is the quicker one in ${exact} of ${cells.length}, the plan takes the quicker one in ${right}`)
  console.log(`rows of the exact arm as planned in ${counted}`)
  for (const arm of ['exact', 'direct'] as const) {
    console.log(
      `${arm}: planned seconds within 30 % in ${within(arm)}, median error ${(100 * median(off(arm))).toFixed(0)} %`,
    )
  }
}
