// Speed of the products beside PyTorch's: repetitions of both sides and of the machine's limit alternate in one run.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Model, type ParameterVector } from '../lib/index.js'
import { Peer, type NoPeer } from './peer.js'
import { summarize, timed, type Sample, type Summary } from './statistics.js'
import {
  batchFor,
  filled,
  flopsOf,
  formulas,
  limits,
  quantities,
  workloads,
  type LimitName,
  type Quantity,
  type WorkloadName,
} from './workloads.js'

export interface ProductOptions {
  workloads: readonly WorkloadName[]
  /** Text that a quantity's name must hold. */
  only: string
  repeats: number
  peer: Peer | NoPeer
  onRow: (row: ProductRow) => void
}

export interface ProductRow {
  workload: WorkloadName
  batch: number
  /** Rows of the micro-batches that the product was cut into. */
  microBatch: number
  quantity: Quantity
  repeats: number
  ours: { wall: Summary; cpu: Summary }
  /** Why there is none, or what it reached in which way. */
  peer: NoPeer | { way: string; tried: [string, number][]; wall: Summary; cpu: Summary }
  /** Peer's median over ours: above 1 we are quicker. */
  ratio: { wall: number; cpu: number } | null
  /** |ours - peer's| / |peer's| of the whole result. */
  difference: number | null
  flops: {
    formula: string
    /** Of the shortest schedule for the batch, convolutions and products only. */
    shortest: number
    /** What the planned graph counts, elementwise rows included. */
    planned: number
  }
  gflops: number
  /** The limit's GFLOP/s in the same repetitions, and our share of it by wall clock and by processor time. */
  limit: { kind: LimitName; gflops: number; share: number; cpuShare: number }
}

/** A loaded workload: our model with its batch and a tangent, and the same in a file for the peer. */
class Workload {
  readonly folder: string
  readonly name: WorkloadName
  readonly model: Model
  readonly batch: ReturnType<typeof batchFor>
  readonly tangent: ParameterVector
  readonly #values: Record<string, Float32Array>

  constructor(name: WorkloadName, folder: string) {
    this.name = name
    this.folder = folder
    this.model = Model.fromNetwork(workloads[name].network(), { device: 'cpu' })
    this.batch = batchFor(this.model, workloads[name].batch)
    const sizes = this.model.parameters.map(({ name, shape }) => [name, shape.reduce((a, b) => a * b, 1)] as const)
    this.#values = Object.fromEntries(sizes.map(([name, size], i) => [name, filled(size, 100 + i)]))
    this.tangent = this.model.vector(this.#values)
  }

  /** Gives the peer the same weights, tangent and batch. */
  async hand(peer: Peer): Promise<void> {
    const { model, batch } = this
    const weights = await model.weights()
    await weights.native.read()
    const parts = [
      ...model.parameters.map(({ name }) => weights.get(name)),
      ...model.parameters.map(({ name }) => this.#values[name]),
      batch.inputs,
    ]
    weights.dispose()
    const path = join(this.folder, `${this.name}.f32`)
    await writeFile(
      path,
      Buffer.concat(parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))),
    )
    await peer.ask('load', {
      workload: this.name,
      path,
      parameters: model.parameters.map(({ name, shape }) => [name, shape]),
      inputs: [batch.labels.length, ...model.inputShape],
      labels: [...batch.labels],
    })
  }

  /** The product as a caller has it. */
  run(quantity: Quantity): Promise<Float32Array | Float64Array | ParameterVector> {
    const { model, batch, tangent } = this
    switch (quantity) {
      case 'forward':
        return model.evaluate(batch)
      case 'jvp':
        return model.jvp(batch, tangent)
      case 'gradient':
        return model.gradient(batch)
      case 'fisherDiagonal':
        return model.fisherDiagonal(batch)
      case 'ggnProduct':
        return model.ggnProduct(batch, tangent)
      case 'hessianProduct':
        return model.hessianProduct(batch, tangent)
    }
  }

  async repeat(quantity: Quantity): Promise<void> {
    const result = await this.run(quantity)
    if (!ArrayBuffer.isView(result)) result.dispose()
  }

  /** The result flat, in the parameters' order. */
  async result(quantity: Quantity): Promise<Float32Array> {
    const result = await this.run(quantity)
    if (ArrayBuffer.isView(result)) return Float32Array.from(result)
    const parts = this.model.parameters.map(({ name }) => result.get(name))
    result.dispose()
    return Float32Array.from(parts.flatMap((part) => [...part]))
  }

  /** The program that ran, for what it plans. */
  async program(quantity: Quantity): Promise<{ batch: number; flops: number }> {
    const { programs } = this.model.engine
    const own = { forward: 'evaluate', fisherDiagonal: 'fisherEmpirical' } as Record<string, string>
    const name = (own[quantity] ?? quantity) as Parameters<typeof programs.get>[0]['quantity']
    const loss = quantity === 'forward' || quantity === 'jvp' ? {} : ({ loss: 'crossEntropy' } as const)
    const parameters =
      quantity === 'fisherDiagonal' ? { parameters: this.model.parameters.map((parameter) => parameter.name) } : {}
    const options = { quantity: name, dtype: 'float32' as const, ...loss, ...parameters }
    const batch = await programs.batchSize(options, this.batch.labels.length)
    const { flops } = await programs.get({ ...options, batch })
    return { batch, flops }
  }

  dispose(): void {
    this.tangent.dispose()
    this.model.dispose()
  }
}

/** A stack that is timed beside every product. */
class Limit {
  readonly kind: LimitName
  readonly #model: Model
  readonly #batch: ReturnType<typeof batchFor>
  readonly flops: number

  constructor(kind: LimitName) {
    const source = limits[kind].network()
    this.kind = kind
    this.#model = Model.fromNetwork(source, { device: 'cpu' })
    this.#batch = batchFor(this.#model, limits[kind].batch)
    this.flops = flopsOf(source).all * limits[kind].batch
  }

  async run(): Promise<void> {
    await this.#model.evaluate(this.#batch)
  }

  dispose(): void {
    this.#model.dispose()
  }
}

const both = (samples: readonly Sample[]) => ({
  wall: summarize(samples.map(({ wall }) => wall)),
  cpu: summarize(samples.map(({ cpu }) => cpu)),
})

async function differenceTo(peer: Peer, workload: Workload, quantity: Quantity): Promise<number> {
  const path = join(workload.folder, 'result.f32')
  await peer.ask('result', { path })
  const bytes = await readFile(path)
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const ours = await workload.result(quantity)
  await rm(path)
  if (ours.length !== theirs.length) {
    throw new Error(
      `${workload.name} ${quantity}: expected ${theirs.length} values as the peer has, got ${ours.length}`,
    )
  }
  let off = 0
  let size = 0
  ours.forEach((value, i) => {
    off += (value - theirs[i]) ** 2
    size += theirs[i] ** 2
  })
  const difference = Math.sqrt(off / size)
  // Two programs that compute different things have no ratio.
  if (!(difference < 1e-3)) {
    throw new Error(`${workload.name} ${quantity}: expected the peer's result, got one that is off by ${difference}`)
  }
  return difference
}

async function measure(
  workload: Workload,
  limit: Limit,
  quantity: Quantity,
  { peer, repeats }: ProductOptions,
): Promise<ProductRow> {
  const there = peer instanceof Peer
  const prepared = there ? await peer.ask('prepare', { quantity }) : undefined
  for (let i = 0; i < 2; i++) await workload.repeat(quantity)
  await limit.run()
  const difference = there ? await differenceTo(peer, workload, quantity) : null
  const [ours, theirs, most] = [[], [], []] as [Sample[], Sample[], Sample[]]
  for (let i = 0; i < repeats; i++) {
    const sides = [
      async () => ours.push(await timed(() => workload.repeat(quantity))),
      async () => there && theirs.push(await peer.ask('time')),
    ]
    // Who goes first changes, so that neither always follows the limit.
    for (const side of i % 2 === 0 ? sides : sides.reverse()) await side()
    most.push(await timed(() => limit.run()))
  }
  const mine = both(ours)
  const other = there ? both(theirs) : undefined
  const batch = workload.batch.labels.length
  const shortest = formulas[quantity].of(flopsOf(workloads[workload.name].network())) * batch
  const planned = await workload.program(quantity)
  const gflops = shortest / mine.wall.median / 1e6
  const top = both(most)
  const limitRate = limit.flops / top.wall.median / 1e6
  const cpuShare = ((shortest / limit.flops) * top.cpu.median) / mine.cpu.median
  return {
    workload: workload.name,
    batch,
    microBatch: planned.batch,
    quantity,
    repeats,
    ours: mine,
    peer: there && prepared && other ? { way: prepared.way, tried: prepared.tried, ...other } : (peer as NoPeer),
    ratio: other ? { wall: other.wall.median / mine.wall.median, cpu: other.cpu.median / mine.cpu.median } : null,
    difference,
    flops: {
      formula: formulas[quantity].text,
      shortest,
      planned: (planned.flops * batch) / planned.batch,
    },
    gflops,
    limit: { kind: limit.kind, gflops: limitRate, share: gflops / limitRate, cpuShare },
  }
}

/** Every product of every workload; rows are told as they come. */
export async function benchProducts(options: ProductOptions): Promise<ProductRow[]> {
  const chosen = quantities.filter((quantity) => quantity.toLowerCase().includes(options.only.toLowerCase()))
  const rows: ProductRow[] = []
  if (chosen.length === 0) return rows
  const folder = await mkdtemp(join(tmpdir(), 'palimpsest-bench-'))
  try {
    for (const name of options.workloads) {
      const workload = new Workload(name, folder)
      const limit = new Limit(workloads[name].bound)
      if (options.peer instanceof Peer) await workload.hand(options.peer)
      for (const quantity of chosen) {
        const row = await measure(workload, limit, quantity, options)
        rows.push(row)
        options.onRow(row)
      }
      workload.dispose()
      limit.dispose()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return rows
}
