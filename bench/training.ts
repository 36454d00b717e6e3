// One step of training: gradient in training mode, SGD with Nesterov momentum and weight decay, running statistics.
import { GradientPrograms } from '../lib/fit/gradient.js'
import { settle, readFitOptions } from '../lib/fit/options.js'
import { normalizationsOf, RunningStatistics } from '../lib/fit/statistics.js'
import { batches } from '../lib/data/batches.js'
import { Dataset, type Model } from '../lib/index.js'
import { native, type FloatArray, type NativeVector } from '../lib/native.js'

/** As in bench/peers/ways.py. */
export const sgd = { rate: 0.01, momentum: 0.9, weightDecay: 5e-4, nesterov: true } as const

export class TrainingStep {
  readonly #programs: GradientPrograms
  readonly #statistics: RunningStatistics
  readonly #data: Dataset
  readonly #weights: NativeVector
  readonly #velocity: NativeVector
  readonly #gradient: NativeVector
  readonly #rows: number

  private constructor(programs: GradientPrograms, statistics: RunningStatistics, data: Dataset, weights: NativeVector) {
    this.#programs = programs
    this.#statistics = statistics
    this.#data = data
    this.#rows = data.size
    this.#weights = weights
    this.#velocity = new (native().Vector)(weights, 'float32')
    this.#gradient = new (native().Vector)(weights, 'float32')
  }

  /** Of a copy of the model's weights. */
  static async of(model: Model, batch: { inputs: Float32Array; labels: Int32Array }): Promise<TrainingStep> {
    const data = Dataset.fromArrays({ ...batch, shape: model.inputShape, classes: model.classes })
    const given = readFitOptions({ batchSize: data.size, steps: 1 })
    const normalizations = normalizationsOf(model.description)
    const { options, epoch } = settle(given, model, data.size, normalizations)
    const programs = await GradientPrograms.of(model, options, data.size, epoch)
    const { network } = model.engine
    const statistics = await RunningStatistics.of(normalizations, 0.1, (i) => network.getConstant(i))
    const weights = new (native().Vector)(network, 'float32')
    await weights.copyFrom(await model.engine.weights('float32'))
    return new TrainingStep(programs, statistics, data, weights)
  }

  /** Back to the model's weights, at rest. */
  async restart(model: Model): Promise<void> {
    await Promise.all([this.#weights.copyFrom(await model.engine.weights('float32')), this.#velocity.fill(0)])
  }

  async run(): Promise<void> {
    const [batch] = batches(this.#data, { size: this.#rows })
    const outputs: Promise<FloatArray[]>[] = []
    this.#programs.queue(batch, this.#weights, this.#gradient, outputs)
    await this.#weights.sgdStep(sgd, this.#gradient, this.#velocity)
    const [[, , ...statistics]] = await Promise.all(outputs)
    this.#statistics.update(statistics, this.#rows)
  }

  /** The weights, by position in the model's layout. */
  async values(model: Model): Promise<Float32Array> {
    const flat = (await this.#weights.read()) as Float32Array
    return Float32Array.from(
      model.engine.network.layout.flatMap(({ offset, size }) => [...flat.subarray(offset, offset + size)]),
    )
  }

  dispose(): void {
    for (const part of [this.#weights, this.#velocity, this.#gradient, this.#data]) part.dispose()
  }
}
