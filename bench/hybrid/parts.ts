// What each part of a direct update brings: with and without drift correction and amendment, beside training anew twice.
import { forget } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { mnist, onCopy, range, readout, standing, train, type Readout } from './setup.js'

const shape = { shards: 1, slices: 1, epochs: 6 }
const head = ['arm', 'accuracy', 'loss on them', 'AUC', 'rows', 'CPU s']
/** As the arms are told apart: [drift, amend]. */
const parts = [
  ['none', 'none'],
  ['none', 'slices'],
  ['log', 'none'],
  ['log', 'slices'],
  ['products', 'none'],
  ['products', 'slices'],
] as const

export async function partsTable(rows: number, sizes: readonly number[]): Promise<void> {
  const setup = await mnist(rows)
  const { data } = setup
  const { folder } = await train(setup, data, shape, standing)
  for (const size of sizes) {
    const indices = range(size).map((i) => Math.floor((i * rows) / size))
    const [gone, revoked] = [new Set(indices), data.subset(indices)]
    const left = data.subset(range(rows).filter((i) => !gone.has(i)))
    const lines: string[][] = []
    const add = (name: string, { accuracy, loss, auc }: Readout, visits?: number, processor?: number) => {
      const numbers = [(100 * accuracy).toFixed(2), loss.toFixed(3), auc.toFixed(3)]
      lines.push([name, ...numbers, visits?.toString() ?? '', processor?.toFixed(1) ?? ''])
    }
    add('before', await onCopy(folder, data, (record) => readout(record, setup, revoked)))
    for (const seed of [1, 2]) {
      const anew = await train(setup, left, shape, standing, seed)
      const found = await onCopy(anew.folder, left, (record) => readout(record, setup, revoked))
      add(`anew, seed ${seed}`, found, anew.visits, anew.processor)
    }
    for (const [drift, amend] of parts) {
      await onCopy(folder, data, async (record) => {
        const begun = process.cpuUsage()
        const { visits } = await forget(record, { where: { indices }, prefer: 'direct', drift, amend })
        const { user, system } = process.cpuUsage(begun)
        add(`drift ${drift}, amend ${amend}`, await readout(record, setup, revoked), visits, (user + system) / 1e6)
      })
    }
    console.log(`${size} of ${rows}\n`)
    console.log(markdown(head, lines))
  }
}
