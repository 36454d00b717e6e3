// Data linearised at one point: as many micro-batches held as memory allows, the others recomputed in every sweep.
import { PalimpsestError } from '../errors.js'
import { native, type DType, type NativeLinearization, type NativeVector, type ProgramOptions } from '../native.js'
import { checkData, type Held } from './held_data.js'
import { runSteps, slices, type PassOptions, type Slice } from './passes.js'
import type { Engine } from './products.js'

export interface LinearizedOptions {
  dtype: DType
  /** float32 whose products may round their factors to TF32. */
  tf32?: boolean
  /** Names of the parameters that are differentiated; all where left out. */
  parameters?: readonly string[]
  /** Most bytes to take, all in all. */
  memory: number
  /** Of these, what the caller takes for itself. */
  reserved?: number
  /** Whether all of the data must be held. */
  whole?: boolean
}

/** How much of the data is held. */
export interface HeldReport {
  /** Micro-batches that are linearised once, and those that are linearised again in every sweep. */
  held: number
  recomputed: number
  /** Memory of the held ones, and of everything that the linearisation takes. */
  heldBytes: number
  bytes: number
}

/** The weights must not change while this is in use. */
export class LinearizedBatches {
  readonly rows: number
  readonly classes: number
  readonly report: HeldReport
  readonly #data: Held
  readonly #native: NativeLinearization
  readonly #ready = new Set<number>()

  private constructor(engine: Engine, data: Held, made: NativeLinearization, report: HeldReport) {
    this.#data = data
    this.#native = made
    this.rows = checkData(data, engine, false)
    this.classes = engine.classes
    this.report = report
  }

  /**
   * Plans; nothing is linearised yet. Micro-batches are as large as those of products, whatever the memory, so that results
   * do not depend on it. What is not held whole is read in every sweep: `data` must last as long.
   *
   * Throws ERR_OUT_OF_MEMORY where `memory` is too small for one micro-batch, or (`whole`) for all of them.
   */
  static async plan(engine: Engine, data: Held, options: LinearizedOptions): Promise<LinearizedBatches> {
    const { memory, reserved = 0, whole = false } = options
    const rows = checkData(data, engine, false)
    const program = programOf(options)
    const batch = await engine.programs.batchSize(program, rows)
    // Before anything is allocated: what is planned holds one slot and what the slots share, but for arrays of [B, K].
    const planned = await native().plannedBytes(engine.network, { ...program, batch })
    const batches = Math.ceil(rows / batch)
    if (reserved + planned > memory) throw tooSmall(reserved + planned, memory, 1, batch)
    const made = await native().createLinearization(engine.network, { ...program, batch })
    const { slotBytes, sharedBytes } = made
    const slots = Math.min(batches, Math.floor((memory - reserved - sharedBytes) / slotBytes))
    const least = whole ? batches : 1
    if (slots < least) {
      made.dispose()
      throw tooSmall(reserved + sharedBytes + slotBytes * least, memory, least, batch)
    }
    // One slot is for the batches that come and go.
    const held = slots === batches ? batches : slots - 1
    return new LinearizedBatches(engine, data, made, {
      held,
      recomputed: batches - held,
      heldBytes: held * slotBytes,
      bytes: sharedBytes + slots * slotBytes,
    })
  }

  /** What the smallest linearisation of the data takes: one micro-batch, and what products work in. */
  static async leastBytes(
    engine: Engine,
    data: Held,
    options: Pick<LinearizedOptions, 'dtype' | 'tf32' | 'parameters'>,
  ): Promise<number> {
    const program = programOf(options)
    const batch = await engine.programs.batchSize(program, checkData(data, engine, false))
    const made = await native().createLinearization(engine.network, { ...program, batch })
    try {
      return made.sharedBytes + made.slotBytes
    } finally {
      made.dispose()
    }
  }

  /** Bytes taken now. */
  get bytes(): number {
    return this.#native.bytes
  }

  /** Linearises what is to be held, so that the data need not be read again where that is everything. */
  async hold(parameters: NativeVector, phase: string, options: PassOptions): Promise<void> {
    await this.sweep(parameters, phase, options, () => [])
  }

  /** One sweep over the rows: `work` queues its products on the slot of each micro-batch. */
  async sweep(
    parameters: NativeVector,
    phase: string,
    options: PassOptions,
    work: (linearization: NativeLinearization, slot: number, slice: Slice) => Promise<unknown>[],
  ): Promise<void> {
    let index = 0
    const step = async (slice: Slice): Promise<number> => {
      const slot = Math.min(index++, this.report.held)
      const queued: Promise<unknown>[] = []
      if (!this.#ready.has(slot)) {
        const { rows, inputs } = slice
        queued.push(this.#native.hold(slot, { rows, inputs, parameters }))
        if (slot < this.report.held) this.#ready.add(slot)
      }
      try {
        queued.push(...work(this.#native, slot, slice))
      } finally {
        // One that fails is told of; none is left unheard.
        await Promise.all(queued)
      }
      return slice.rows
    }
    try {
      await runSteps(slices(this.#data, this.#native.batch), step, this.rows, phase, options)
    } catch (error) {
      this.#ready.clear()
      throw error
    }
  }

  /** As `sweep` where everything is held: the data are not read. */
  async sweepHeld(
    phase: string,
    options: PassOptions,
    work: (linearization: NativeLinearization, slot: number, part: { start: number; rows: number }) => Promise<unknown>,
  ): Promise<void> {
    const { batch } = this.#native
    const parts = Array.from({ length: this.report.held }, (_, slot) => {
      const start = slot * batch
      return { slot, start, rows: Math.min(batch, this.rows - start) }
    })
    await runSteps(
      parts,
      async ({ slot, start, rows }) => {
        await work(this.#native, slot, { start, rows })
        return rows
      },
      this.rows,
      phase,
      options,
    )
  }

  /** Frees everything once no queued step needs it. Idempotent. */
  dispose(): void {
    this.#native.dispose()
  }
}

function programOf(options: Pick<LinearizedOptions, 'dtype' | 'tf32' | 'parameters'>): Omit<ProgramOptions, 'batch'> {
  const { dtype, tf32, parameters } = options
  return { quantity: 'linearization', dtype, ...(tf32 && { tf32 }), ...(parameters && { parameters }) }
}

function tooSmall(needed: number, memory: number, batches: number, batch: number): PalimpsestError {
  const what = batches === 1 ? 'one batch' : `${batches} batches`
  return new PalimpsestError(
    'ERR_OUT_OF_MEMORY',
    `expected at least ${needed} bytes for 'memory' (${what} of ${batch} rows), got ${memory}`,
  )
}
