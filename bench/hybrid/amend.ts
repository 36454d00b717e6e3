// How much to amend: direct updates amended by so many rows for each that was lost, beside training anew, by size of a request.
import { forget } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { onCopy, range, readout, standing, train, type Readout, type Setup, type Shape } from './setup.js'

/** Rows visited for each lost one. */
const amounts = [3, 10, 20, 30]

interface Found {
  rows: number
  arm: string
  visits: number
  accuracy: number
  loss: number
}

export async function amendTable(
  setup: Setup,
  shape: Shape,
  sizes: readonly number[],
  seeds: readonly number[],
): Promise<void> {
  const { data } = setup
  const found: Found[] = []
  for (const seed of seeds) {
    const { folder } = await train(setup, data, shape, standing, seed)
    for (const size of sizes) {
      // Other rows with every seed.
      const gone = new Set(range(size).map((i) => Math.floor(((i + ((0.37 * (seed - 1)) % 1)) * data.size) / size)))
      const revoked = data.subset([...gone])
      const left = data.subset(range(data.size).filter((i) => !gone.has(i)))
      const add = (arm: string, { accuracy, loss }: Readout, visits = 0) => {
        found.push({ rows: size, arm, visits, accuracy, loss })
        console.log(JSON.stringify({ seed, ...found.at(-1) }))
      }
      const read = (from: string, rows: typeof data) => onCopy(from, rows, (record) => readout(record, setup, revoked))
      add('before', await read(folder, data))
      const anew = await train(setup, left, shape, standing, seed)
      add('anew', await read(anew.folder, left), anew.visits)
      const batch = setup.fit.batchSize
      const steps = amounts.map((amount) => Math.round((amount * size) / shape.shards / batch))
      for (const amend of ['none' as const, ...new Set(steps.filter((count) => count > 0))]) {
        await onCopy(folder, data, async (record) => {
          const { visits } = await forget(record, { where: { indices: [...gone] }, prefer: 'direct', amend })
          const amount = amend === 'none' ? 'none' : `${((amend * batch * shape.shards) / size).toFixed(0)} a lost row`
          add(amount, await readout(record, setup, revoked), visits)
        })
      }
    }
  }
  const keys = [...new Set(found.map(({ rows, arm }) => `${rows} ${arm}`))]
  const lines = keys.map((key) => {
    const all = found.filter(({ rows, arm }) => `${rows} ${arm}` === key)
    const mean = (of: (each: Found) => number) => all.reduce((sum, each) => sum + of(each), 0) / all.length
    const { rows, arm, visits } = all[0]
    return [
      String(rows),
      arm,
      (100 * mean((each) => each.accuracy)).toFixed(2),
      mean((each) => each.loss).toFixed(3),
      String(visits),
    ]
  })
  console.log(`\n${setup.name}, ${data.size} rows, ${JSON.stringify(shape)}, means of seeds ${seeds.join(', ')}\n`)
  console.log(markdown(['rows', 'amended by', 'accuracy', 'loss on them', 'visits'], lines, 2))
}
