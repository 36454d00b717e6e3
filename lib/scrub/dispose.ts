// scrub() with method 'dispose': the skill that a network was transferred from goes, the one it was transferred to stays.
import { shuffled } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { Model } from '../model.js'
import { findLastLayer } from '../model/last_layer.js'
import { checkData } from '../model/held_data.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
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
  /** With the collision loss (default 300). */
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
  /** Looks in a row below it after which no more is unlearned (default 20: more than there are by default). */
  patience?: number
  /**
   * Where the last look is below it: most looks during which the retention loss alone brings the accuracy back, `every`
   * steps over `batches` times `batchSize` target rows before each (default 40).
   */
  recovery?: number
  /** Of the order of rows, default 0. */
  seed?: number
}

/** A look at the target accuracy. */
export interface DisposeLook {
  step: number
  accuracy: number
  /**
   * Means over the steps since the look before: of the collision loss and of the gradients' lengths, both undefined where
   * the steps were of retention alone, and of the retention loss.
   */
  collision: number | undefined
  length: number | undefined
  retention: number
}

export interface DisposeReport extends CommonScrubReport {
  method: 'dispose'
  /** Steps of the weights that were kept, and of the run, those of retention alone among them. */
  kept: number
  steps: number
  /** Of the run's steps those of retention alone. */
  recovering: number
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
  patience: withDefault(integer({ min: 1 }), 20),
  recovery: withDefault(integer({ min: 0 }), 40),
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

/** Rows in shuffled order, so many at a time; where fewer are left than that, they are shuffled anew. */
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

type Steps = Omit<DisposeLook, 'step' | 'accuracy'> & { count: number }

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
    const { steps, tolerance, patience, recovery, target, temperature } = this.#options
    const { tempered, released, weights } = this.#heads
    const retention = await Retention.of(tempered, temperature, released, target, this.#pass)
    this.sampleVisits += target.size
    const before = await this.#accuracy()
    const looks: DisposeLook[] = []
    let [kept, after, below, done, recovering] = [0, before, 0, 0, 0]
    const look = async (means: Omit<Steps, 'count'>) => {
      const [step, accuracy] = [done + recovering, await this.#accuracy()]
      looks.push({ step, accuracy, ...means })
      if (accuracy >= before - tolerance) {
        await this.#kept.copyFrom(weights)
        ;[kept, after, below] = [step, accuracy, 0]
      } else below++
    }
    while (done < steps && below < patience) {
      const { count, ...means } = await this.#unlearn(retention, done)
      done += count
      await look(means)
    }
    // Momentum from the other loss would carry the weights on.
    if (below > 0) await this.#velocity.fill(0)
    for (let i = 0; i < recovery && below > 0 && this.#options.retention > 0; i++) {
      const { count, ...means } = await this.#recover(retention, i)
      recovering += count
      await look(means)
    }
    const details = { kept, steps: done + recovering, recovering, accuracy: { before, after }, looks }
    if (kept === 0) {
      const wanted = `expected a target accuracy of at least ${before - tolerance} at one look or more`
      const message = `${wanted}, got ${looks.map((look) => look.accuracy).join(', ')}: a lower learningRate helps; ${asBefore}`
      throw new PalimpsestError('ERR_NOT_CONVERGED', message, { report: details })
    }
    await weights.copyFrom(this.#kept)
    return details
  }

  /** Steps of both losses until the next look. */
  async #unlearn(retention: Retention, done: number): Promise<Steps> {
    const { steps, every, learningRate, retention: weight, collision, clip } = this.#options
    const count = Math.min(every - (done % every), steps - done)
    const sums = { collision: 0, length: 0, retention: 0 }
    for (let step = done; step < done + count; step++) {
      checkSignal(this.#passes.signal)
      const rate = (learningRate * (1 + Math.cos((Math.PI * step) / steps))) / 2
      const total = new (native().Vector)(this.#heads.weights, 'float32')
      try {
        const { gradient, value, length } = await this.#collision(step)
        if (gradient) await this.#add(total, collision, await this.#heads.withoutHead(gradient), clip)
        const kept = await this.#retention(retention)
        await this.#add(total, weight, kept.gradient, clip)
        await this.#move(rate, total, value + kept.value)
        sums.collision += value
        sums.length += length
        sums.retention += kept.value
        this.#passes.onProgress?.({ phase: 'dispose', done: step + 1, total: steps, residual: value })
      } finally {
        total.dispose()
      }
    }
    const mean = (sum: number) => sum / count
    return { count, collision: mean(sums.collision), length: mean(sums.length), retention: mean(sums.retention) }
  }

  /**
   * Steps of retention alone until the next look, at a quarter of the rate (at all of it they would not settle), which
   * falls to 0 before every look: one sees settled weights.
   */
  async #recover(retention: Retention, turn: number): Promise<Steps> {
    const { every, learningRate, retention: weight, clip, batches, recovery } = this.#options
    let sum = 0
    for (let step = 0; step < every; step++) {
      checkSignal(this.#passes.signal)
      const total = new (native().Vector)(this.#heads.weights, 'float32')
      try {
        const kept = await this.#retention(retention, batches)
        await this.#add(total, weight, kept.gradient, clip)
        await this.#move((learningRate * (every - step)) / (4 * every), total, kept.value)
        sum += kept.value
        this.#passes.onProgress?.({
          phase: 'recover',
          done: turn * every + step + 1,
          total: recovery * every,
          residual: kept.value,
        })
      } finally {
        total.dispose()
      }
    }
    return { count: every, collision: undefined, length: undefined, retention: sum / every }
  }

  /** The collision loss of disjoint source batches, and its gradient. */
  async #collision(step: number): Promise<Awaited<ReturnType<typeof collide>>> {
    const { head, batches, batchSize, form, seed } = this.#options
    // Draw 0 is piggyback()'s: its probe must not begin with a head that was unlearned against.
    if (head === 'fresh') await this.#heads.redraw(seed, step + 1)
    const rows = this.#source.next(batches * batchSize)
    const parts = Array.from({ length: batches }, (_, i) =>
      this.#source.data.subset(rows.subarray(i * batchSize, (i + 1) * batchSize)),
    )
    const { source, theta } = this.#heads
    try {
      const found = await collide(source, parts, { ...this.#pass, parameters: theta }, { form, least: 1e-12 })
      this.sampleVisits += 2 * rows.length
      return found
    } finally {
      for (const part of parts) part.dispose()
    }
  }

  /** Of so many batches of target rows together. */
  #retention(retention: Retention, batches = 1): ReturnType<Retention['gradient']> {
    const rows = batches * this.#options.batchSize
    const positions = this.#target.next(Math.min(rows, this.#target.data.size))
    this.sampleVisits += positions.length
    return retention.gradient(positions, this.#pass)
  }

  /** w = w - rate v of the two losses' gradients, each shortened to `clip`. */
  async #move(rate: number, total: NativeVector, losses: number): Promise<void> {
    await this.#heads.weights.sgdStep({ rate, momentum: this.#options.momentum }, total, this.#velocity)
    if (!Number.isFinite(losses)) throw diverged()
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
