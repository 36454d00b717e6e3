// Bytes of a record: all of it, a shard, a slice and a row.
import { markdown } from '../tables.js'
import type { Shape, Trained } from './setup.js'

export function storageTable({ total, shards: each }: Trained['storage'], shape: Shape, rows: number): string {
  const { shards, slices } = shape
  const sum = (of: (one: (typeof each)[number]) => number) => each.reduce((all, one) => all + of(one), 0)
  const [checkpoints, logs] = [sum((one) => one.checkpoints), sum((one) => one.logs)]
  const parts: [string, number][] = [
    ['checkpoints', checkpoints],
    ['log', logs],
    ['index, weights to begin with, manifest', total - checkpoints - logs],
  ]
  const cells = parts.map(([name, bytes]) => [
    name,
    ...[bytes, bytes / shards, bytes / shards / slices, bytes / rows].map((value) => Math.round(value).toString()),
  ])
  return markdown(['bytes', 'all', 'a shard', 'a slice', 'a row'], cells)
}
