// A loaded workload: our model with its batch and a tangent, and the same in a file for the peer.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Model, type ModelOptions, type ParameterVector } from '../lib/index.js'
import type { Peer } from './peer.js'
import { TrainingStep } from './training.js'
import {
  batchFor,
  filled,
  flopsOf,
  limits,
  tinyWorkloads,
  workloads,
  type Flops,
  type LimitName,
  type Quantity,
  type WorkloadName,
} from './workloads.js'

/** A batch that is held at one point, where the library has that. */
interface Linearized {
  jvp(v: ParameterVector): Promise<Float32Array | Float64Array>
  ggnProduct(v: ParameterVector): Promise<ParameterVector>
  dispose(): void
}

type Linearize = (
  batch: ReturnType<typeof batchFor>,
  options: { precision?: 'float32' | 'tf32' },
) => Promise<Linearized>

const linearizeOf = (model: Model): Linearize | undefined =>
  'linearize' in model ? (model.linearize as Linearize).bind(model) : undefined

/** The product that is timed on the other side, and whose program is planned. */
export const productOf = (quantity: Quantity): Quantity => quantity.split(',')[0] as Quantity

/** Where a model computes, and how. */
export interface Place {
  device: NonNullable<ModelOptions['device']>
  precision?: 'float32' | 'tf32'
}

const cpu: Place = { device: 'cpu' }

export class Workload {
  readonly folder: string
  readonly name: WorkloadName
  readonly model: Model
  readonly batch: ReturnType<typeof batchFor>
  readonly tangent: ParameterVector
  readonly flops: Flops
  readonly #values: Record<string, Float32Array>
  #training: TrainingStep | undefined
  #linearized: Linearized | undefined
  readonly #place: Place

  /** `rows` of the batch, where not the workload's own. */
  constructor(name: WorkloadName, folder: string, tiny: boolean, place: Place = cpu, rows?: number) {
    const { network, batch } = (tiny ? tinyWorkloads : workloads)[name]
    this.#place = place
    this.name = name
    this.folder = folder
    const source = network()
    this.flops = flopsOf(source)
    this.model = Model.fromNetwork(source, { device: place.device })
    this.batch = batchFor(this.model, rows ?? batch)
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
  #product(
    quantity: Exclude<Quantity, 'trainingStep'>,
    model = this.model,
  ): Promise<Float32Array | Float64Array | ParameterVector> {
    const { batch, tangent } = this
    const options = { precision: this.#place.precision ?? 'float32' } as const
    switch (quantity) {
      case 'forward':
        return model.evaluate(batch, options)
      case 'jvp':
        return model.jvp(batch, tangent, options)
      case 'gradient':
        return model.gradient(batch, options)
      case 'fisherDiagonal':
        return model.fisherDiagonal(batch, options)
      case 'ggnProduct':
        return model.ggnProduct(batch, tangent, options)
      case 'hessianProduct':
        return model.hessianProduct(batch, tangent, options)
      case 'jvp, linearised':
        return (this.#linearized as Linearized).jvp(tangent)
      case 'ggnProduct, linearised':
        return (this.#linearized as Linearized).ggnProduct(tangent)
    }
  }

  /** Whether the library has it. */
  has(quantity: Quantity): boolean {
    if (quantity === 'trainingStep' && this.#place.precision === 'tf32') return false
    return productOf(quantity) === quantity || linearizeOf(this.model) !== undefined
  }

  /** What is not part of a repetition. */
  async prepare(quantity: Quantity): Promise<void> {
    if (productOf(quantity) !== quantity)
      this.#linearized ??= await linearizeOf(this.model)?.(this.batch, { precision: this.#place.precision })
    if (quantity === 'trainingStep') this.#training ??= await TrainingStep.of(this.model, this.batch)
  }

  async repeat(quantity: Quantity): Promise<void> {
    if (quantity === 'trainingStep') return this.#training?.run()
    await this.#finish(await this.#product(quantity))
  }

  /** Waits for what a device may not have computed yet, and lets go of it. */
  async #finish(result: Float32Array | Float64Array | ParameterVector): Promise<void> {
    if (ArrayBuffer.isView(result)) return
    if (this.#place.device !== 'cpu') await result.norm()
    result.dispose()
  }

  /** A repetition on a model that has planned nothing yet. */
  async repeatAfresh(quantity: Quantity): Promise<void> {
    if (quantity === 'trainingStep') {
      const step = await TrainingStep.of(this.model, this.batch)
      await step.run()
      return step.dispose()
    }
    const model = await this.model.clone()
    if (productOf(quantity) !== quantity) {
      const linearized = await (linearizeOf(model) as Linearize)(this.batch, { precision: this.#place.precision })
      const product = quantity.startsWith('jvp') ? linearized.jvp(this.tangent) : linearized.ggnProduct(this.tangent)
      await this.#finish(await product)
      linearized.dispose()
      return model.dispose()
    }
    await this.#finish(await this.#product(quantity, model))
    model.dispose()
  }

  /** The result flat, in the parameters' order. */
  async result(quantity: Quantity): Promise<Float32Array> {
    if (quantity === 'trainingStep') {
      const step = this.#training as TrainingStep
      await step.restart(this.model)
      await step.run()
      return step.values(this.model)
    }
    const result = await this.#product(quantity)
    if (ArrayBuffer.isView(result)) return Float32Array.from(result)
    const parts = this.model.parameters.map(({ name }) => result.get(name))
    result.dispose()
    return Float32Array.from(parts.flatMap((part) => [...part]))
  }

  /** The program that ran, for what it plans. */
  async program(given: Quantity): Promise<{ batch: number; flops: number; bytes: number }> {
    const { programs } = this.model.engine
    const quantity = productOf(given)
    const own = { forward: 'evaluate', fisherDiagonal: 'fisherEmpirical', trainingStep: 'gradient' } as Record<
      string,
      string
    >
    const name = (own[quantity] ?? quantity) as Parameters<typeof programs.lease>[0]['quantity']
    const loss = quantity === 'forward' || quantity === 'jvp' ? {} : ({ loss: 'crossEntropy' } as const)
    const rows = this.batch.labels.length
    if (quantity === 'trainingStep') {
      using lease = await programs.lease({ quantity: name, ...loss, training: true, batch: rows })
      const { flops, bytes } = lease.program
      return { batch: rows, flops, bytes }
    }
    const parameters =
      quantity === 'fisherDiagonal' ? { parameters: this.model.parameters.map((parameter) => parameter.name) } : {}
    const options = { quantity: name, dtype: 'float32' as const, ...loss, ...parameters }
    const batch = await programs.batchSize(options, rows, quantity === 'fisherDiagonal' ? 2 : 1)
    using lease = await programs.lease({ ...options, batch })
    const { flops, bytes } = lease.program
    return { batch, flops, bytes }
  }

  dispose(): void {
    this.#training?.dispose()
    this.#linearized?.dispose()
    this.tangent.dispose()
    this.model.dispose()
  }
}

/** A stack that is timed beside every product. */
export class Limit {
  readonly kind: LimitName
  readonly #model: Model
  readonly #batch: ReturnType<typeof batchFor>
  readonly flops: number

  constructor(kind: LimitName, tiny: boolean, place: Place = cpu) {
    const source = limits[kind].network()
    const rows = tiny ? 2 : limits[kind].batch
    this.kind = kind
    this.#model = Model.fromNetwork(source, { device: place.device })
    this.#batch = batchFor(this.#model, rows)
    this.flops = flopsOf(source).all * rows
  }

  async run(): Promise<void> {
    await this.#model.evaluate(this.#batch)
  }

  dispose(): void {
    this.#model.dispose()
  }
}
