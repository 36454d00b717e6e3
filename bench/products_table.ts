// The products' table: one about speed, one about what it is compared with.
import { mebibytes } from './memory.js'
import type { ProductRow } from './products.js'
import { digits, spread } from './statistics.js'
import { markdown } from './tables.js'

const two = (value: number | null | undefined): string => value?.toFixed(2) ?? ''
const percent = (share: number): string => `${(100 * share).toFixed(0)} %`

const speedHead = [
  'workload', 'quantity', 'batch', 'ours, ms', 'peer, ms', 'peer / ours', 'ours / gradient', 'ours, CPU ms',
  'peer, CPU ms', 'CPU ratio', 'undisturbed', 'ORT / ours', 'undisturbed', 'stolen', 'ours, MiB', 'resident',
  'peer, resident',
] // prettier-ignore

export function speedCells(row: ProductRow): string[] {
  const { ours, peer, ratio, memory } = row
  const other = 'reason' in peer ? ['none', ''] : [spread(peer.wall), digits(peer.cpu.median)]
  const bytes = (value: number | null) => (value === null ? '' : mebibytes(value))
  return [
    row.workload,
    row.quantity,
    row.microBatch < row.batch ? `${row.batch} by ${row.microBatch}` : String(row.batch),
    spread(ours.wall),
    other[0],
    two(ratio?.wall),
    two(row.gradientRatio?.wall),
    digits(ours.cpu.median),
    other[1],
    two(ratio?.cpu),
    two(ratio?.undisturbed),
    two(row.onnxruntime?.ratio.wall),
    two(row.onnxruntime?.ratio.undisturbed),
    row.stolen === null ? '' : percent(row.stolen),
    bytes(memory.ours.engine),
    bytes(memory.ours.resident),
    bytes(memory.peer),
  ]
}

const costHead = [
  'workload', 'quantity', 'FLOPs', 'GFLOP', 'planned', 'GB of operands', 'GFLOP/s', 'limit', 'of it', 'CPU', 'undisturbed',
  'difference', "peer's way",
] // prettier-ignore

function costCells(row: ProductRow): string[] {
  const { flops, limit, peer } = row
  return [
    row.workload,
    row.quantity,
    flops.formula,
    digits(flops.shortest / 1e9),
    two(flops.planned / flops.shortest),
    digits(row.bytes / 1e9),
    row.gflops.toFixed(0),
    `${limit.gflops.toFixed(0)} ${limit.kind}`,
    percent(limit.share),
    percent(limit.cpuShare),
    limit.undisturbedShare === null ? '' : percent(limit.undisturbedShare),
    row.difference === null ? '' : row.difference.toExponential(0),
    'way' in peer ? peer.way : '',
  ]
}

export function productsTable(rows: readonly ProductRow[]): string {
  return [markdown(speedHead, rows.map(speedCells), 3), '', markdown(costHead, rows.map(costCells), 3)].join('\n')
}
