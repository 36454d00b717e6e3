// Planned programs of one network, made when first needed and kept, least recently used ones given up first.
import { native, type NativeNetwork, type NativeProgram, type ProgramOptions } from '../native.js'

const mostPrograms = 12
/** Memory that one program may plan before the micro-batch is halved, and the most rows: a GPU fills up later. */
const limits = {
  cpu: { arena: 256 * 2 ** 20, rows: 256 },
  gpu: { arena: 2 ** 31, rows: 1024 },
}

interface Made {
  readonly program: Promise<NativeProgram>
  users: number
  /** Whether it is kept for others; given up while it is used it goes with its last user. */
  kept: boolean
}

/** A program in use; do not dispose of the program itself. */
export interface Lease extends Disposable {
  readonly program: NativeProgram
}

const disposed = (program: Promise<NativeProgram>): void => void program.then((p) => p.dispose()).catch(() => undefined)

function free({ program, users, kept }: Made): void {
  if (users === 0 && !kept) disposed(program)
}

export class Programs {
  readonly #network: NativeNetwork
  readonly #made = new Map<string, Made>()
  readonly #batches = new Map<string, Promise<number>>()

  constructor(network: NativeNetwork) {
    this.#network = network
  }

  /** The program of these options, held until the lease is disposed of; without that until nothing refers to it. */
  async lease(options: ProgramOptions): Promise<Lease> {
    const key = JSON.stringify(options)
    const made = this.#made.get(key) ?? this.#make(key, options)
    // Last in order: used last.
    this.#made.delete(key)
    this.#made.set(key, made)
    made.users++
    if (this.#made.size > mostPrograms) {
      const [oldest, old] = this.#made.entries().next().value as [string, Made]
      this.#made.delete(oldest)
      old.kept = false
      free(old)
    }
    let held = true
    const release = (): void => {
      if (!held) return
      held = false
      made.users--
      free(made)
    }
    return { program: await made.program, [Symbol.dispose]: release }
  }

  #make(key: string, options: ProgramOptions): Made {
    const program = native().createProgram(this.#network, options)
    program.catch(() => this.#made.delete(key))
    return { program, users: 0, kept: true }
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
    for (const { program } of this.#made.values()) disposed(program)
    this.#made.clear()
  }
}
