// Batches of a dataset: which rows, in which order, cropped and flipped how; pure functions of seed and epoch.
import type { RowSource } from '../native.js'
import { RandomStream, streams } from '../philox.js'
import type { TableView } from './table.js'

/** Augmentation while fitting: random crops out of a zero border of `pad` pixels, random left-to-right flips. */
export interface Augmentation {
  pad?: number
  flip?: boolean
}

/** One micro-batch; the arrays may be views that later batches do not change. */
export interface Batch {
  /** Valid rows: the batch size, but for the last batch. The rest of a program's batch is padded with weight 0. */
  rows: number
  /** Positions in the dataset, [rows]. */
  positions: Int32Array
  /** Classes, [rows]. */
  labels: Int32Array
  /** What a program takes as `inputs`. */
  inputs: RowSource
}

export interface BatchOptions {
  /** Rows of a batch. */
  size: number
  /** Positions in the order they are wanted; ascending where left out. */
  order?: Int32Array
  /** Leave out a last batch that is not full. */
  dropLast?: boolean
  augment?: Augmentation & {
    seed: number
    epoch: number
    /** For each position the number that its crops and flips are drawn by; its row in the store where left out. */
    draws?: Uint32Array
  }
}

/** A permutation of 0 to size - 1, a function of seed and epoch alone (Fisher and Yates, on Philox). */
export function shuffled(size: number, seed: number, epoch = 0, stream: number = streams.shuffle): Int32Array {
  const order = Int32Array.from({ length: size }, (_, i) => i)
  const random = new RandomStream(seed, stream, epoch)
  for (let i = size - 1; i > 0; i--) {
    const j = random.below(i + 1)
    const kept = order[i]
    order[i] = order[j]
    order[j] = kept
  }
  return order
}

/** Crops and flips of rows: each a function of seed, epoch and the row's own number, whatever the batch. */
function augmented(numbers: ArrayLike<number>, augment: NonNullable<BatchOptions['augment']>) {
  const { pad = 0, flip = false, seed, epoch } = augment
  const crops = new Int32Array(2 * numbers.length)
  const flips = new Uint8Array(numbers.length)
  for (let i = 0; i < numbers.length; i++) {
    const random = new RandomStream(seed, streams.augment, epoch, numbers[i])
    crops[2 * i] = random.below(2 * pad + 1)
    crops[2 * i + 1] = random.below(2 * pad + 1)
    flips[i] = random.next() & 1
  }
  return { crops: pad > 0 ? crops : undefined, flips: flip ? flips : undefined }
}

function ascending(start: number, end: number): Int32Array {
  return Int32Array.from({ length: end - start }, (_, i) => start + i)
}

/** The batches of one pass. */
export function* batches(data: TableView, options: BatchOptions): Generator<Batch, void, undefined> {
  const { size, augment, dropLast = false } = options
  const { rows: store, gather } = data.table
  const { order } = options
  const total = order?.length ?? data.storeRows.length
  const spec = augment?.pad ? { ...gather, pad: augment.pad } : gather
  for (let start = 0; start < total; start += size) {
    // No array of all positions where they ascend: a pass needs no memory that grows with the rows.
    const positions = order?.subarray(start, start + size) ?? ascending(start, Math.min(start + size, total))
    if (dropLast && positions.length < size) return
    const indices = positions.map((position) => data.storeRows[position])
    const labels = indices.map((row) => data.table.labels[row])
    const numbers = augment?.draws ? Array.from(positions, (i) => augment.draws?.[i] as number) : indices
    const inputs: RowSource = { store, gather: spec, indices, ...(augment && augmented(numbers, augment)) }
    yield { rows: positions.length, positions, labels, inputs }
  }
}

/** How many batches a pass has. */
export function batchCount(rows: number, size: number, dropLast = false): number {
  return dropLast ? Math.floor(rows / size) : Math.ceil(rows / size)
}
