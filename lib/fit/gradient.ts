// Gradients of the mean loss over a batch: whole where it is normalised together, else in pieces that fit in memory.
import type { Model } from '../model.js'
import { targetsOf } from '../model/products.js'
import type { FloatArray, NativeProgram, NativeVector, ProgramOptions, RowSource } from '../native.js'
import type { FitBatch } from './codes.js'
import type { EpochShape, SgdOptions } from './options.js'

export class GradientPrograms {
  readonly #model: Model
  readonly #options: SgdOptions
  /** Rows that a program takes at once, and the programs by their rows. */
  readonly #size: number
  readonly #programs: ReadonlyMap<number, NativeProgram>

  private constructor(model: Model, options: SgdOptions, size: number, programs: ReadonlyMap<number, NativeProgram>) {
    this.#model = model
    this.#options = options
    this.#size = size
    this.#programs = programs
  }

  /** A program for a whole batch and one for the last, or one for pieces of either. */
  static async of(model: Model, options: SgdOptions, rows: number, epoch: EpochShape): Promise<GradientPrograms> {
    const training = options.batchNorm === 'training'
    const { loss, parameters } = options
    const wanted: Omit<ProgramOptions, 'batch'> = {
      quantity: 'gradient',
      loss,
      training,
      ...(parameters && { parameters }),
    }
    const { programs } = model.engine
    const whole = Math.min(options.batchSize, rows)
    const size = training ? whole : await programs.batchSize(wanted, whole)
    const last = (rows - epoch.leftOut) % options.batchSize
    const made = new Map<number, NativeProgram>()
    for (const batch of training && last > 0 ? [size, last] : [size]) {
      if (!made.has(batch)) made.set(batch, (await programs.lease({ ...wanted, batch })).program)
    }
    return new GradientPrograms(model, options, size, made)
  }

  /**
   * Queues gradient = the mean loss's gradient over the batch, at these weights. `queued` gets the plain outputs piece by
   * piece: logits, each row's loss divided by the batch's rows, and statistics where the batch is normalised together.
   */
  queue(batch: FitBatch, weights: NativeVector, gradient: NativeVector, queued: Promise<FloatArray[]>[]): void {
    for (let start = 0; start < batch.rows; start += this.#size) {
      const { rows, inputs, labels } = cut(batch, start, Math.min(start + this.#size, batch.rows))
      const targets = targetsOf(this.#model.engine, this.#options, { labels })
      const call = { rows, inputs, targets, parameters: weights, weights: 1 / batch.rows }
      queued.push(this.#program(rows).run({ ...call, sums: gradient, accumulate: start > 0 }))
    }
  }

  /** A program takes any number of rows up to its own, but exactly its own where they are normalised together. */
  #program(rows: number): NativeProgram {
    return this.#programs.get(rows) ?? (this.#programs.get(this.#size) as NativeProgram)
  }
}

/** Rows start to end of a batch. */
function cut(batch: FitBatch, start: number, end: number): FitBatch {
  if (start === 0 && end === batch.rows) return batch
  const { positions, labels, inputs } = batch
  const width = inputs instanceof Float32Array ? inputs.length / batch.rows : 0
  return {
    rows: end - start,
    positions: positions.subarray(start, end),
    labels: labels.subarray(start, end),
    inputs: inputs instanceof Float32Array ? inputs.subarray(start * width, end * width) : part(inputs, start, end),
  }
}

function part(source: RowSource, start: number, end: number): RowSource {
  const { crops, flips, indices } = source
  return {
    ...source,
    indices: indices.subarray(start, end),
    ...(crops && { crops: crops.subarray(2 * start, 2 * end) }),
    ...(flips && { flips: flips.subarray(start, end) }),
  }
}
