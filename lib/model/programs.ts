// Planned programs of one network, made when first needed and kept, least recently used ones given up first.
import { native, type NativeNetwork, type NativeProgram, type ProgramOptions } from '../native.js'

const mostPrograms = 12
/** Memory that one program may plan before the micro-batch is halved, and the most rows: a GPU fills up later. */
const limits = {
  cpu: { arena: 256 * 2 ** 20, rows: 256 },
  gpu: { arena: 2 ** 31, rows: 1024 },
}

export class Programs {
  readonly #network: NativeNetwork
  readonly #made = new Map<string, Promise<NativeProgram>>()
  readonly #batches = new Map<string, Promise<number>>()

  constructor(network: NativeNetwork) {
    this.#network = network
  }

  /** The program of these options. Do not dispose it. */
  async get(options: ProgramOptions): Promise<NativeProgram> {
    const key = JSON.stringify(options)
    let program = this.#made.get(key)
    if (program === undefined) {
      program = native().createProgram(this.#network, options)
      program.catch(() => this.#made.delete(key))
    } else {
      this.#made.delete(key)
    }
    this.#made.set(key, program)
    if (this.#made.size > mostPrograms) {
      const [oldest, old] = this.#made.entries().next().value as [string, Promise<NativeProgram>]
      this.#made.delete(oldest)
      void old.then((p) => p.dispose()).catch(() => undefined)
    }
    return program
  }

  /**
   * Rows of a micro-batch for these options: `rows` where they fit, else the largest power of two up to 256 whose plan
   * stays under 256 MiB (1,024 and 2 GiB on a GPU). A function of kind of device, network, quantity and row count alone,
   * so results repeat bit for bit.
   *
   * @param wanted - what the caller asked for, in place of what fits
   */
  async batchSize(
    options: Omit<ProgramOptions, 'batch'>,
    rows: number,
    least = 1,
    wanted: number | undefined = undefined,
  ): Promise<number> {
    const most = wanted ?? (await this.#largest(options))
    return Math.max(least, Math.min(most, rows))
  }

  #largest(options: Omit<ProgramOptions, 'batch'>): Promise<number> {
    const key = JSON.stringify(options)
    let found = this.#batches.get(key)
    if (found === undefined) {
      found = this.#measure(options)
      found.catch(() => this.#batches.delete(key))
      this.#batches.set(key, found)
    }
    return found
  }

  async #measure(options: Omit<ProgramOptions, 'batch'>): Promise<number> {
    const { arena, rows } = this.#network.device === 'cpu' ? limits.cpu : limits.gpu
    let batch = rows
    while (batch > 2 && (await native().plannedBytes(this.#network, { ...options, batch })) > arena) batch /= 2
    return batch
  }

  dispose(): void {
    for (const program of this.#made.values()) void program.then((p) => p.dispose()).catch(() => undefined)
    this.#made.clear()
  }
}
