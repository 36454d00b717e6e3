// scrub() with method 'dispose': the skill that a network was transferred from goes, the one it was transferred to stays.
import { shuffled } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { Model } from '../model.js'
import { findLastLayer } from '../model/last_layer.js'
import { checkData, checkSignal, type PassOptions } from '../model/passes.js'
import { measureLoss } from '../model/products.js'
import { native, type NativeVector } from '../native.js'
import { check, integer, invalid, number, oneOf, optional, withDefault, type OptionsOf } from '../options.js'
import { datasetCheck } from './fine_tune.js'
import { collide, type CollisionForm } from './gradient_collision.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod } from './method.js'
import { Retention } from './retention.js'
import { checkSameBackbone, TwoHeads } from './two_heads.js'

/**
 * Disposable transfer learning (after Koh et al. 2023, reconstructed from the abstract: the equations are this library's).
 * The model is one that was fitted to a source task, given a fresh last layer and fitted to a target task.
 */
export interface DisposeOptions extends CommonScrubOptions {
  method: 'dispose'
  /** Rows of the source task, labelled with its classes. */
  source: Dataset
  /**
   * The last layer that the collision loss is taken under. 'fresh' (default): one drawn anew at every step, as whoever
   * learns the task again starts from. 'source': the one from before the transfer, which stays as it is; on a network that
   * solves the source task gradients of different batches collide anyhow, and less is unlearned.
   */
  head?: 'fresh' | 'source'
  /** With 'source' the model before the transfer: its last layer is the source head, its other weights are not read. */
  sourceHead?: Model
  /** Rows of the target task. Their labels are read by the accuracy alone. */
  target: Dataset
  /** Rows of the target task on which accuracy is watched; `target` where left out. */
  evaluation?: Dataset
  /** Of the collision loss (default 'cosine'). */
  form?: CollisionForm
  /** n, disjoint source batches a step (default 4). */
  batches?: number
  /** Rows of each of them, and of the target batch (default 64). */
  batchSize?: number
  /** Weight of the gradient-collision loss (default 1). */
  collision?: number
  /** Weight of the knowledge-retention loss (default 10). */
  retention?: number
  /** tau of the retention loss (default 2). */
  temperature?: number
  /** Default 300. */
  steps?: number
  /** Of the first step (default 0.02); it falls to 0 along half a cosine. */
  learningRate?: number
  /** Default 0.9. */
  momentum?: number
  /** Longest gradient of either loss; a longer one is shortened (default 1). */
  clip?: number
  /** Steps between two looks at the target accuracy (default 25). */
  every?: number
  /** How far the accuracy may fall below the model's before (default 0.005); the weights kept are the last within it. */
  tolerance?: number
  /** Looks in a row below it after which the run ends (default 8). */
  patience?: number
  /** Of the order of rows, default 0. */
  seed?: number
}

/** A look at the target accuracy. */
export interface DisposeLook {
  step: number
  accuracy: number
  /** Means over the steps since the look before: of the collision loss, of the gradients' lengths, of the retention loss. */
  collision: number
  length: number
  retention: number
}

export interface DisposeReport extends CommonScrubReport {
  method: 'dispose'
  /** Steps of the weights that were kept, and of the run. */
  kept: number
  steps: number
  /** Target accuracy before and of the weights that were kept. */
  accuracy: { before: number; after: number }
  looks: DisposeLook[]
}

const aModel = check('a Model, the one before the transfer,', (v): v is Model => v instanceof Model)
const table = {
  source: datasetCheck,
  head: withDefault(oneOf('fresh', 'source'), 'fresh'),
  sourceHead: optional(aModel),
  target: datasetCheck,
  evaluation: optional(datasetCheck),
  form: withDefault(oneOf('cosine', 'dot'), 'cosine'),
  batches: withDefault(integer({ min: 2, max: 1024 }), 4),
  batchSize: withDefault(integer({ min: 1 }), 64),
  collision: withDefault(number({ above: 0 }), 1),
  retention: withDefault(number({ min: 0 }), 10),
  temperature: withDefault(number({ above: 0 }), 2),
  steps: withDefault(integer({ min: 1 }), 300),
  learningRate: withDefault(number({ above: 0 }), 0.02),
  momentum: withDefault(number({ min: 0, below: 1 }), 0.9),
  clip: withDefault(number({ above: 0 }), 1),
  every: withDefault(integer({ min: 1 }), 25),
  tolerance: withDefault(number({ min: 0, max: 1 }), 0.005),
  patience: withDefault(integer({ min: 1 }), 8),
  seed: withDefault(integer(), 0),
}
type Options = OptionsOf<typeof table>
type Details = Omit<DisposeReport, keyof CommonScrubReport>

export const dispose: ScrubMethod<typeof table, Details> = {
  table,
  check(model, { source, head, sourceHead, target, evaluation, batches, batchSize }) {
    if (head === 'source') checkSourceHead(model, sourceHead)
    else if (sourceHead) throw invalid('sourceHead', "nothing with head 'fresh'", sourceHead)
    findLastLayer(model.description, "method 'dispose'")
    checkData(source, { inputShape: model.inputShape, classes: sourceHead?.classes ?? source.classes }, true)
    for (const rows of [target, evaluation]) if (rows) checkData(rows, model.engine, true)
    if (source.size < batches * batchSize) {
      throw invalid('source', `rows for ${batches} disjoint batches of ${batchSize}`, source.size)
    }
  },
  async run({ work, passes }, options) {
    const heads = await TwoHeads.of(work, options.sourceHead ?? options.source.classes, options.temperature)
    const run = new DisposeRun(heads, options, passes)
    try {
      const details = await run.go()
      const weights = work.vector(heads.values())
      await work.setWeights(weights)
      weights.dispose()
      return { sampleVisits: run.sampleVisits, details }
    } finally {
      run.dispose()
      heads.dispose()
    }
  },
}

function checkSourceHead(model: Model, sourceHead: Model | undefined): void {
  const given = aModel.read(sourceHead, 'sourceHead')
  if (given.disposed) {
    throw new PalimpsestError('ERR_DISPOSED', "expected a model in use for 'sourceHead', got one that was disposed")
  }
  checkSameBackbone(model, given)
}

/** Rows in shuffled order, so many at a time, none twice before all were drawn. */
class Draws {
  #order: Int32Array = new Int32Array(0)
  #epoch = 0

  constructor(
    readonly data: Dataset,
    readonly seed: number,
  ) {}

  next(count: number): Int32Array {
    if (this.#order.length < count) this.#order = shuffled(this.data.size, this.seed, this.#epoch++)
    const drawn = this.#order.subarray(0, count)
    this.#order = this.#order.subarray(count)
    return drawn
  }
}

class DisposeRun {
  sampleVisits = 0
  readonly #heads: TwoHeads
  readonly #options: Options
  readonly #passes: PassOptions
  readonly #pass: PassOptions
  readonly #velocity: NativeVector
  readonly #kept: NativeVector
  readonly #source: Draws
  readonly #target: Draws

  constructor(heads: TwoHeads, options: Options, passes: PassOptions) {
    this.#heads = heads
    this.#options = options
    this.#passes = passes
    this.#pass = passes.signal ? { signal: passes.signal } : {}
    this.#velocity = new (native().Vector)(heads.weights, 'float32')
    this.#kept = new (native().Vector)(heads.weights, 'float32')
    this.#source = new Draws(options.source, options.seed)
    this.#target = new Draws(options.target, options.seed + 1)
  }

  /** Steps, looks at the target accuracy between them, and in the end the weights of the last look within tolerance. */
  async go(): Promise<Details> {
    const { steps, every, tolerance, patience, target, temperature } = this.#options
    const { tempered, released, weights } = this.#heads
    const retention = await Retention.of(tempered, temperature, released, target, this.#pass)
    const before = await this.#accuracy()
    const looks: DisposeLook[] = []
    let [kept, after, below, step, since] = [0, before, 0, 0, 0]
    let sums = { collision: 0, length: 0, retention: 0 }
    while (step < steps && below < patience) {
      checkSignal(this.#passes.signal)
      const found = await this.#step(retention, step)
      for (const key of ['collision', 'length', 'retention'] as const) sums[key] += found[key]
      step++
      since++
      this.#passes.onProgress?.({ phase: 'dispose', done: step, total: steps, residual: found.collision })
      if (step % every !== 0 && step !== steps) continue
      const accuracy = await this.#accuracy()
      const mean = (sum: number) => sum / since
      const { collision, length, retention: kept_ } = sums
      looks.push({ step, accuracy, collision: mean(collision), length: mean(length), retention: mean(kept_) })
      ;[since, sums] = [0, { collision: 0, length: 0, retention: 0 }]
      if (accuracy >= before - tolerance) {
        await this.#kept.copyFrom(weights)
        ;[kept, after, below] = [step, accuracy, 0]
      } else below++
    }
    const details = { kept, steps: step, accuracy: { before, after }, looks }
    if (kept === 0) {
      const wanted = `expected a target accuracy of at least ${before - tolerance} at one look or more`
      const message = `${wanted}, got ${looks.map((look) => look.accuracy).join(', ')}: a lower learningRate helps; ${asBefore}`
      throw new PalimpsestError('ERR_NOT_CONVERGED', message, { report: details })
    }
    await weights.copyFrom(this.#kept)
    return details
  }

  /** w = w - rate v of the two losses' gradients, each shortened to `clip`. */
  async #step(retention: Retention, step: number): Promise<{ collision: number; length: number; retention: number }> {
    const { head, batches, batchSize, form, clip, momentum, learningRate, steps, seed } = this.#options
    const rate = (learningRate * (1 + Math.cos((Math.PI * step) / steps))) / 2
    if (head === 'fresh') await this.#heads.redraw(seed, step)
    const rows = this.#source.next(batches * batchSize)
    const parts = Array.from({ length: batches }, (_, i) =>
      this.#source.data.subset(rows.subarray(i * batchSize, (i + 1) * batchSize)),
    )
    const { source, theta, weights } = this.#heads
    const total = new (native().Vector)(weights, 'float32')
    try {
      const collision = await collide(source, parts, { ...this.#pass, parameters: theta }, { form, least: 1e-12 })
      if (collision.gradient)
        await this.#add(total, this.#options.collision, await this.#heads.withoutHead(collision.gradient), clip)
      const positions = this.#target.next(Math.min(batchSize, this.#target.data.size))
      const kept = await retention.gradient(positions, this.#pass)
      await this.#add(total, this.#options.retention, kept.gradient, clip)
      await weights.sgdStep({ rate, momentum }, total, this.#velocity)
      this.sampleVisits += 2 * rows.length + positions.length
      if (!Number.isFinite(collision.value + kept.value)) throw diverged()
      return { collision: collision.value, length: collision.length, retention: kept.value }
    } finally {
      total.dispose()
      for (const part of parts) part.dispose()
    }
  }

  async #add(total: NativeVector, weight: number, gradient: NativeVector, clip: number): Promise<void> {
    const length = Math.sqrt(await gradient.dot(gradient))
    await total.axpy(weight * Math.min(1, clip / length), gradient)
    gradient.dispose()
  }

  async #accuracy(): Promise<number> {
    const { target, evaluation = target } = this.#options
    this.sampleVisits += evaluation.size
    return (await measureLoss(this.#heads.target, evaluation, this.#pass)).accuracy
  }

  dispose(): void {
    this.#velocity.dispose()
    this.#kept.dispose()
  }
}

const asBefore = 'the model is as before'
const diverged = () =>
  new PalimpsestError('ERR_NOT_CONVERGED', `expected finite losses, got NaN or infinite ones; ${asBefore}`)
