// Sums of gradients and of products with the Hessian over rows of a shard, by the rows' own weights.
import { batches } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import type { SgdOptions } from '../fit/options.js'
import type { Model } from '../model.js'
import { targetsOf } from '../model/products.js'
import type { NativeVector, Quantity } from '../native.js'

export interface SumOptions {
  /** Where the network is looked at. */
  weights: NativeVector
  out: NativeVector
  /** A weight for each row; those of their mean where left out. */
  shares?: Float64Array
  /** Rows are changed as in this epoch; as they came where left out. */
  epoch?: number | undefined
  tangents?: NativeVector
}

/** Rows that a program for so many has: few sizes, so that one that was planned serves other lists too. */
export const roomFor = (rows: number): number => 2 ** Math.ceil(Math.log2(rows))

export class RowSums {
  readonly #model: Model
  readonly #data: Dataset
  /** For each position the number that its crops and flips are drawn by. */
  readonly #draws: Uint32Array
  #visits = 0

  constructor(model: Model, data: Dataset, draws: Uint32Array) {
    this.#model = model
    this.#data = data
    this.#draws = draws
  }

  /** Rows that went through the network so far. */
  get visits(): number {
    return this.#visits
  }

  /** out = sum over rows of weight times a quantity of the row's loss. */
  async sum(
    quantity: Extract<Quantity, 'gradient' | 'hessianProduct'>,
    positions: Int32Array,
    options: SgdOptions,
    { weights, out, shares, epoch, tangents }: SumOptions,
  ): Promise<void> {
    if (positions.length === 0) return out.fill(0)
    const { loss, parameters, augment, seed } = options
    const wanted = { quantity, loss, ...(parameters && { parameters }) }
    const { programs } = this.#model.engine
    const size = await programs.batchSize(wanted, roomFor(positions.length))
    using lease = await programs.lease({ ...wanted, batch: size })
    const changed = epoch !== undefined && (augment.pad > 0 || augment.flip)
    const how = changed && { augment: { ...augment, seed, epoch, draws: this.#draws } }
    const queued: Promise<unknown>[] = []
    let start = 0
    for (const batch of batches(this.#data, { size, order: positions, ...how })) {
      const targets = targetsOf(this.#model.engine, options, batch)
      const given = shares ? Float32Array.from(shares.subarray(start, start + batch.rows)) : 1 / positions.length
      const call = { rows: batch.rows, inputs: batch.inputs, targets, parameters: weights, weights: given }
      const sums = { sums: out, accumulate: start > 0, outputs: false, ...(tangents && { tangents }) }
      queued.push(lease.program.run({ ...call, ...sums }))
      start += batch.rows
    }
    await Promise.all(queued)
    this.#visits += positions.length
  }
}
