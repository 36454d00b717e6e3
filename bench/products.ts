// Speed and memory of the products beside PyTorch's: repetitions of both sides, of the gradient and of the machine's limit
// alternate in one run.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { peakMemory, type PeakMemory } from './memory.js'
import { OnnxRuntime } from './onnxruntime.js'
import { Peer, type NoPeer } from './peer.js'
import { summarize, timedResult, undisturbed, type Sample, type Summary } from './statistics.js'
import { Limit, productOf, Workload, type Place } from './workload.js'
import { formulas, quantitiesOf, workloads, type LimitName, type Quantity, type WorkloadName } from './workloads.js'

export interface ProductOptions {
  workloads: readonly WorkloadName[]
  place: Place
  /** Rows of the batches; the workload's own where there are none. */
  batches: readonly number[]
  /** Text that a quantity's name must hold. */
  only: string
  /** Interleaved repetitions at least. */
  repeats: number
  threads: number
  tiny: boolean
  peer: Peer | NoPeer
  onRow: (row: ProductRow) => void
}

interface Times {
  wall: Summary
  cpu: Summary
  /** On the wall, of the repetitions that the machine's host left alone; null where they are few. */
  undisturbed: Summary | null
}

interface Ratio {
  wall: number
  cpu: number
  undisturbed: number | null
}

export interface ProductRow {
  workload: WorkloadName
  batch: number
  /** Rows of the micro-batches that the product was cut into. */
  microBatch: number
  quantity: Quantity
  repeats: number
  ours: Times
  /** Why there is none, or what it reached in which way. */
  peer: NoPeer | ({ way: string; tried: [string, number][]; failed: [string, string][] } & Times)
  /** Peer's median over ours: above 1 we are quicker. */
  ratio: Ratio | null
  /** onnxruntime's, of a forward pass, where it can be loaded. */
  onnxruntime: (Times & { ratio: Ratio }) | null
  /** Ours over one gradient in the same repetitions. */
  gradientRatio: Ratio | null
  /** Of a call that has planned nothing yet; the peer's highest resident memory over what it had before. */
  memory: { ours: PeakMemory; peer: number | null }
  /** |ours - peer's| / |peer's| of the whole result. */
  difference: number | null
  flops: {
    formula: string
    /** Of the shortest schedule for the batch, convolutions and products only. */
    shortest: number
    /** What the planned graph counts, elementwise rows included; of a linearised product the forward pass too. */
    planned: number
  }
  /** Operands of every node of the planned graph, each once: passes that are fused move less. */
  bytes: number
  gflops: number
  /** The limit's GFLOP/s in the same repetitions, and our share of it by wall clock and by processor time. */
  limit: { kind: LimitName; gflops: number; share: number; cpuShare: number; undisturbedShare: number | null }
  /** Mean over our repetitions of the share of the processors' time that went elsewhere; null where no one says. */
  stolen: number | null
}

const both = (samples: readonly Sample[]): Times => ({
  wall: summarize(samples.map(({ wall }) => wall)),
  cpu: summarize(samples.map(({ cpu }) => cpu)),
  undisturbed: undisturbed(samples) ?? null,
})

const over = (a: Times, b: Times): Ratio => ({
  wall: a.wall.median / b.wall.median,
  cpu: a.cpu.median / b.cpu.median,
  undisturbed: a.undisturbed && b.undisturbed && a.undisturbed.median / b.undisturbed.median,
})

function meanStolen(samples: readonly Sample[]): number | null {
  const shares = samples.flatMap(({ stolen }) => stolen ?? [])
  return shares.length > 0 ? shares.reduce((a, b) => a + b) / shares.length : null
}

/** |ours - theirs| / |theirs|; two programs that compute different things have no ratio of times. */
function difference(ours: Float32Array, theirs: Float32Array, what: string): number {
  if (ours.length !== theirs.length) {
    throw new Error(`${what}: expected ${theirs.length} values as the peer has, got ${ours.length}`)
  }
  let off = 0
  let size = 0
  ours.forEach((value, i) => {
    off += (value - theirs[i]) ** 2
    size += theirs[i] ** 2
  })
  const relative = Math.sqrt(off / size)
  if (!(relative < 1e-3)) throw new Error(`${what}: expected the peer's result, got one that is off by ${relative}`)
  return relative
}

async function differenceTo(peer: Peer, workload: Workload, quantity: Quantity): Promise<number> {
  const path = join(workload.folder, 'result.f32')
  await peer.ask('result', { path })
  const bytes = await readFile(path)
  await rm(path)
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  return difference(await workload.result(quantity), theirs, `${workload.name} ${quantity}`)
}

/** Samples of every side, by name; a side that is timed elsewhere gives its own times. */
type Sides = Map<string, { run: () => Promise<Sample | void>; samples: Sample[] }>

/** A row takes at least so long: fifteen calls of milliseconds fall into one mood of a machine that others use. */
const leastSeconds = 8

/** The sides in turn, who goes first changing, so that none always follows the same other; how many turns. */
async function alternate(sides: Sides, repeats: number, seconds: number): Promise<number> {
  const list = [...sides.values()]
  const start = performance.now()
  let turns = 0
  for (; turns < repeats || performance.now() - start < seconds * 1000; turns++) {
    for (let j = 0; j < list.length; j++) {
      const { run, samples } = list[(turns + j) % list.length]
      const { result: own, sample } = await timedResult(run)
      samples.push({ ...sample, ...own })
    }
  }
  return turns
}

class Case {
  readonly #workload: Workload
  readonly #limit: Limit
  readonly #quantity: Quantity
  readonly #options: ProductOptions
  readonly #sides: Sides = new Map()

  constructor(workload: Workload, limit: Limit, quantity: Quantity, options: ProductOptions) {
    this.#workload = workload
    this.#limit = limit
    this.#quantity = quantity
    this.#options = options
  }

  #add(name: string, run: () => Promise<Sample | void>): void {
    this.#sides.set(name, { run, samples: [] })
  }

  #times(name: string): Times | undefined {
    const side = this.#sides.get(name)
    return side && both(side.samples)
  }

  async measure(): Promise<ProductRow> {
    const [workload, quantity] = [this.#workload, this.#quantity]
    const { peer, repeats, threads, tiny, place } = this.#options
    const there = peer instanceof Peer ? peer : undefined
    const prepared = await there?.ask('prepare', { quantity: productOf(quantity) })
    await workload.prepare(quantity)
    for (let i = 0; i < 2; i++) await workload.repeat(quantity)
    await this.#limit.run()
    const memory = {
      ours: await peakMemory(() => workload.repeatAfresh(quantity), place.device),
      peer: prepared?.memory ?? null,
    }
    const off = there ? await differenceTo(there, workload, quantity) : null
    const { inputs } = workload.batch
    const onnx =
      quantity === 'forward' && place.device === 'cpu'
        ? await OnnxRuntime.of(workload.model, inputs, threads)
        : undefined
    if (onnx) difference(await workload.result('forward'), await onnx.run(), `${workload.name}, onnxruntime`)

    this.#add('ours', () => workload.repeat(quantity))
    if (there) this.#add('peer', () => there.ask('time'))
    if (onnx) this.#add('onnxruntime', async () => void (await onnx.run()))
    if (quantity !== 'forward' && quantity !== 'gradient') this.#add('gradient', () => workload.repeat('gradient'))
    this.#add('limit', () => this.#limit.run())
    const turns = await alternate(this.#sides, repeats, tiny ? 0 : leastSeconds)
    await onnx?.dispose()
    return this.#row(turns, prepared, memory, off)
  }

  async #row(
    turns: number,
    prepared: { way: string; tried: [string, number][]; failed: [string, string][] } | undefined,
    memory: ProductRow['memory'],
    off: number | null,
  ): Promise<ProductRow> {
    const [workload, quantity] = [this.#workload, this.#quantity]
    const { peer } = this.#options
    const [ours, top] = [this.#times('ours') as Times, this.#times('limit') as Times]
    const other = this.#times('peer')
    const [gradient, onnx] = [this.#times('gradient'), this.#times('onnxruntime')]
    const batch = workload.batch.labels.length
    const shortest = formulas[quantity].of(workload.flops) * batch
    const planned = await workload.program(quantity)
    const gflops = shortest / ours.wall.median / 1e6
    const limitRate = this.#limit.flops / top.wall.median / 1e6
    return {
      workload: workload.name,
      batch,
      microBatch: planned.batch,
      quantity,
      repeats: turns,
      ours,
      peer: prepared && other ? { ...prepared, ...other } : (peer as NoPeer),
      ratio: other ? over(other, ours) : null,
      onnxruntime: onnx ? { ...onnx, ratio: over(onnx, ours) } : null,
      gradientRatio: gradient
        ? over(ours, gradient)
        : quantity === 'gradient'
          ? { wall: 1, cpu: 1, undisturbed: 1 }
          : null,
      memory,
      difference: off,
      flops: { formula: formulas[quantity].text, shortest, planned: (planned.flops * batch) / planned.batch },
      bytes: (planned.bytes * batch) / planned.batch,
      gflops,
      limit: {
        kind: this.#limit.kind,
        gflops: limitRate,
        share: gflops / limitRate,
        cpuShare: ((shortest / this.#limit.flops) * top.cpu.median) / ours.cpu.median,
        undisturbedShare:
          top.undisturbed &&
          ours.undisturbed &&
          ((shortest / this.#limit.flops) * top.undisturbed.median) / ours.undisturbed.median,
      },
      stolen: meanStolen(this.#sides.get('ours')?.samples ?? []),
    }
  }
}

/** Every product of every workload; rows are told as they come. */
export async function benchProducts(options: ProductOptions): Promise<ProductRow[]> {
  const rows: ProductRow[] = []
  const folder = await mkdtemp(join(tmpdir(), 'palimpsest-bench-'))
  try {
    for (const name of options.workloads) {
      const chosen = quantitiesOf(name).filter((q) => q.toLowerCase().includes(options.only.toLowerCase()))
      if (chosen.length === 0) continue
      const limit = new Limit(workloads[name].bound, options.tiny, options.place)
      for (const batch of options.batches.length > 0 ? options.batches : [undefined]) {
        const workload = new Workload(name, folder, options.tiny, options.place, batch)
        if (options.peer instanceof Peer) await workload.hand(options.peer)
        for (const quantity of chosen.filter((one) => workload.has(one))) {
          const row = await new Case(workload, limit, quantity, options).measure()
          rows.push(row)
          options.onRow(row)
        }
        workload.dispose()
      }
      limit.dispose()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return rows
}
