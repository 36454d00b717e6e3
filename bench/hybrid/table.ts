// Both arms beside training anew, request size by request size: time, accuracy, agreement, membership, distance, storage.
import { forget } from '../../lib/index.js'
import { markdown } from '../tables.js'
import { agreement, distance, onCopy, range, readout, train, type Readout, type Setup, type Shape } from './setup.js'

const head = ['rows', 'arm', 'faster', 'visits', 'accuracy', 'agreement', 'loss on them', 'AUC', 'distance']

/** Speed-up is over training anew without the rows, and agreement and distance are to what that gives. */
export async function table(setup: Setup, shape: Shape, sizes: readonly number[]): Promise<void> {
  const { data } = setup
  const trained = await train(setup, data, shape)
  const lines: string[][] = []
  for (const size of sizes) {
    const gone = new Set(range(size).map((i) => Math.floor((i * data.size) / size)))
    const [revoked, left] = [data.subset([...gone]), data.subset(range(data.size).filter((i) => !gone.has(i)))]
    const anew = await train(setup, left, shape)
    const wanted = await onCopy(anew.folder, left, (record) => readout(record, setup, revoked))
    const before = await onCopy(trained.folder, data, (record) => readout(record, setup, revoked))
    const add = (name: string, found: Readout, seconds: number | undefined, visits: number) => {
      const cells = lineOf(name, found, wanted)
      lines.push([
        String(size),
        cells[0],
        seconds === undefined ? '' : (anew.seconds / seconds).toFixed(1),
        visits ? String(visits) : '',
        ...cells.slice(1),
      ])
      console.log(lines.at(-1)?.join('  '))
    }
    add('before', before, undefined, 0)
    for (const arm of ['exact', 'direct'] as const) {
      await onCopy(trained.folder, data, async (record) => {
        const served = await forget(record, { where: { indices: [...gone] }, prefer: arm })
        add(arm, await readout(record, setup, revoked), served.seconds, served.visits)
      })
    }
    add('anew', wanted, anew.seconds, anew.visits)
  }
  const { name } = setup
  const { shards, slices, epochs } = shape
  console.log(`${name}, ${data.size} rows, ${shards} x ${slices} shards x slices, ${epochs} epochs\n`)
  console.log(markdown(head, lines, 2))
  const { total, shards: each } = trained.storage
  const sum = (of: (one: (typeof each)[number]) => number) => each.reduce((all, one) => all + of(one), 0)
  const [checkpoints, logs] = [sum((one) => one.checkpoints), sum((one) => one.logs)]
  const whole = (bytes: number) => Math.round(bytes).toString()
  console.log(
    markdown(
      ['bytes', 'all', 'a shard', 'a slice', 'a row'],
      [
        [
          'checkpoints',
          whole(checkpoints),
          whole(checkpoints / shards),
          whole(checkpoints / shards / slices),
          whole(checkpoints / data.size),
        ],
        ['log', whole(logs), whole(logs / shards), whole(logs / shards / slices), whole(logs / data.size)],
        [
          'index, weights to begin with, manifest',
          whole(total - checkpoints - logs),
          '',
          '',
          whole((total - checkpoints - logs) / data.size),
        ],
      ],
    ),
  )
}

function lineOf(name: string, found: Readout, wanted: Readout): string[] {
  return [
    name,
    (100 * found.accuracy).toFixed(2),
    (100 * agreement(found, wanted)).toFixed(2),
    found.loss.toFixed(3),
    found.auc.toFixed(3),
    distance(found, wanted).toFixed(2),
  ]
}
