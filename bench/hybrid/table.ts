// Both arms beside training anew, request size by request size: rows, time, accuracy, agreement, membership, distance, storage.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { forget } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { storageTable } from './storage.js'
import {
  agreement,
  distance,
  onCopy,
  range,
  readout,
  standing,
  train,
  type Readout,
  type Setup,
  type Shape,
  type Trained,
} from './setup.js'

/** One arm at one size of a request; agreement and distance are to training anew without the rows. */
export interface Line {
  rows: number
  arm: 'before' | 'exact' | 'direct' | 'anew'
  visits: number
  /** Processor seconds: what others do at the same time is not in them. */
  processor: number
  accuracy: number
  agreement: number
  loss: number
  auc: number
  distance: number
}

/** What is kept of a table: a call goes on from the sizes that are in the file. */
export interface Kept {
  name: string
  size: number
  shape: Shape
  storage: Trained['storage']
  lines: Line[]
}

const readKept = (file: string): Kept[] => (existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Kept[]) : [])

export async function table(setup: Setup, shape: Shape, sizes: readonly number[], file?: string): Promise<void> {
  const kept = file === undefined ? [] : readKept(file)
  const same = (each: Kept) =>
    each.name === setup.name && each.size === setup.data.size && JSON.stringify(each.shape) === JSON.stringify(shape)
  const done = kept.find(same)
  const missing = sizes.filter((size) => !done?.lines.some(({ rows }) => rows === size))
  if (missing.length === 0 && done !== undefined) return show(done)
  const trained = await train(setup, setup.data, shape, standing)
  const found: Kept = done ?? { name: setup.name, size: setup.data.size, shape, storage: trained.storage, lines: [] }
  if (done === undefined) kept.push(found)
  for (const size of missing) {
    found.lines.push(...(await linesOf(setup, shape, trained, size)))
    if (file !== undefined) writeFileSync(file, `${JSON.stringify(kept, null, 1)}\n`)
  }
  show(found)
}

async function linesOf(setup: Setup, shape: Shape, trained: Trained, size: number): Promise<Line[]> {
  const { data } = setup
  const gone = new Set(range(size).map((i) => Math.floor((i * data.size) / size)))
  const [revoked, left] = [data.subset([...gone]), data.subset(range(data.size).filter((i) => !gone.has(i)))]
  const anew = await train(setup, left, shape, standing)
  const wanted = await onCopy(anew.folder, left, (record) => readout(record, setup, revoked))
  const lines: Line[] = []
  const add = (arm: Line['arm'], of: Readout, took: Pick<Line, 'visits' | 'processor'>) => {
    const { accuracy, loss, auc } = of
    const beside = { agreement: agreement(of, wanted), distance: distance(of, wanted) }
    lines.push({ rows: size, arm, ...took, accuracy, loss, auc, ...beside })
    console.log(JSON.stringify(lines.at(-1)))
  }
  const before = await onCopy(trained.folder, data, (record) => readout(record, setup, revoked))
  add('before', before, { visits: 0, processor: 0 })
  for (const arm of ['exact', 'direct'] as const) {
    await onCopy(trained.folder, data, async (record) => {
      const begun = process.cpuUsage()
      const { visits } = await forget(record, {
        where: { indices: [...gone] },
        prefer: arm,
        runner: standing,
      })
      const { user, system } = process.cpuUsage(begun)
      add(arm, await readout(record, setup, revoked), { visits, processor: (user + system) / 1e6 })
    })
  }
  const { visits, processor } = anew
  add('anew', wanted, { visits, processor })
  return lines
}

const head = ['rows', 'arm', 'fewer rows', 'faster', 'accuracy', 'agreement', 'loss on them', 'AUC', 'distance']

function show({ name, size, shape, storage, lines }: Kept): void {
  const { shards, slices, epochs } = shape
  console.log(`\n${name}, ${size} rows, ${shards} x ${slices} shards x slices, ${epochs} epochs\n`)
  const cells = lines.map((line) => {
    const anew = lines.find(({ rows, arm }) => rows === line.rows && arm === 'anew') ?? line
    const times = (of: (each: Line) => number) => (of(line) > 0 ? (of(anew) / of(line)).toFixed(1) : '')
    return [
      String(line.rows),
      line.arm,
      times(({ visits }) => visits),
      times(({ processor }) => processor),
      (100 * line.accuracy).toFixed(2),
      (100 * line.agreement).toFixed(2),
      line.loss.toFixed(3),
      line.auc.toFixed(3),
      line.distance.toFixed(2),
    ]
  })
  console.log(markdown(head, cells, 2))
  console.log(storageTable(storage, shape, size))
}
