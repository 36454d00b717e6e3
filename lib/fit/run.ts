// One run of SGD on a copy of the model: batches, steps queued ahead, counters, checkpoints, and the swap at the end.
import { batches, shuffled } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import type { Data } from '../model/held_data.js'
import { networkDigest } from '../model/network_digest.js'
import { checkSignal } from '../model/passes.js'
import { largest } from '../model/products.js'
import { memory, native, type FloatArray, type NativeVector } from '../native.js'
import {
  dataDigest,
  readCheckpoint,
  readTensors,
  writeCheckpoint,
  type FitState,
  type FitTensors,
  type RunIdentity,
} from './checkpoint.js'
import { withCodes, type FitBatch } from './codes.js'
import { GradientPrograms } from './gradient.js'
import { mnemonicRecord, settle, type EpochShape, type ReadOptions, type SgdOptions } from './options.js'
import type { FitReport } from './report.js'
import { rateFactors } from './schedule.js'
import { normalizationsOf, requireNames, RunningStatistics } from './statistics.js'

/** Steps that are queued before the first of them has to be done: the native thread never waits for this one. */
const mostInFlight = 2

/** A run that is one of a series, over rows whose order and crops do not depend on where they lie. */
export interface RunSeries {
  /** Positions of an epoch's rows, in place of a shuffle by position. */
  order(epoch: number): Int32Array
  /** For each position the number that its crops and flips are drawn by. */
  draws: Uint32Array
  /** Epochs of the runs before. */
  epochsBefore: number
  /** What stands for the rows in checkpoints. */
  data: string
  /** Checkpoint of the run before: weights, momentum and statistics to begin with, in place of the model's and zeros. */
  begin?: Uint8Array
  /** Where states of the run are written after every so many steps, but for the last. */
  log?: { every: number; path(step: number): string }
}

/** What a run works with; made before the first step. */
interface Parts {
  series: RunSeries | undefined
  model: Model
  /** Of the model when the run began. */
  revision: number
  /** A copy that is fitted in the model's place. */
  work: Model
  data: Dataset
  given: ReadOptions
  options: SgdOptions
  epoch: EpochShape
  tensors: FitTensors
  statistics: RunningStatistics
  gradient: NativeVector
  programs: GradientPrograms
  /** Weight decay by parameter, where it concerns some of them only. */
  decay: NativeVector | undefined
  /** Where checkpoints are written or read. */
  identity: RunIdentity | undefined
}

/** What a step gives once it is done. */
interface StepResult {
  batch: FitBatch
  /** Plain outputs, one list for each piece of the batch. */
  outputs: FloatArray[][]
}

export class SgdRun {
  readonly #started = performance.now()
  readonly #parts: Parts
  readonly #inFlight: Promise<StepResult>[] = []
  #state: FitState = { step: 0, seconds: 0, epochs: [], running: { loss: 0, right: 0, rows: 0, seconds: 0 } }
  readonly #rateFactor: (step: number) => number
  #epochStarted = this.#started
  #resumedAt: number | undefined

  private constructor(parts: Parts) {
    this.#parts = parts
    this.#rateFactor = rateFactors(parts.options.schedule, parts.options.steps, parts.epoch.steps)
  }

  static async prepare(model: Model, data: Dataset, given: ReadOptions, series?: RunSeries): Promise<SgdRun> {
    const normalizations = normalizationsOf(model.description)
    const { options, epoch } = settle(given, model, data.size, normalizations)
    const { revision } = model
    const work = await model.clone()
    try {
      const { network } = work.engine
      const used = options.batchNorm === 'training' ? normalizations : []
      requireNames(used, network)
      const statistics = await RunningStatistics.of(used, options.batchNormMomentum, (i) => network.getConstant(i))
      const programs = await GradientPrograms.of(work, options, data.size, epoch)
      const vector = () => new (native().Vector)(network, 'float32')
      const tensors = {
        weights: await work.engine.weights('float32'),
        velocity: vector(),
        statistics: statistics.values,
      }
      const decay = decayOf(work, options)
      const identity = await identityOf(work, data, given, options, statistics, series)
      const gradient = vector()
      const parts = {
        series,
        model,
        revision,
        work,
        data,
        given,
        options,
        epoch,
        tensors,
        statistics,
        gradient,
        programs,
        decay,
        identity,
      }
      if (series?.begin) await readTensors(series.begin, network, options, tensors)
      const run = new SgdRun(parts)
      if (given.resume !== undefined && identity !== undefined) {
        run.#state = await readCheckpoint(given.resume, network, identity, tensors)
        run.#resumedAt = run.#state.step
      }
      return run
    } catch (error) {
      work.dispose()
      throw error
    }
  }

  /** Epochs of batches, a few steps ahead of what has been looked at. */
  async fit(): Promise<void> {
    const { options, epoch } = this.#parts
    while (this.#state.step < options.steps) {
      this.#epochStarted = performance.now() - this.#state.running.seconds * 1000
      const index = Math.floor(this.#state.step / epoch.steps)
      try {
        await this.#fitEpoch(index, Math.min((index + 1) * epoch.steps, options.steps))
      } catch (error) {
        await Promise.allSettled(this.#inFlight)
        throw error
      }
    }
  }

  /** Gives the model what was fitted, in one step. */
  async release(): Promise<void> {
    const { model, tensors, given } = this.#parts
    await this.#checkFinite()
    checkSignal(given.signal)
    if (model.revision !== this.#parts.revision) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        "expected the model's weights as they were when fit() began, got others that were set meanwhile",
      )
    }
    await model.replace(tensors.weights, tensors.statistics)
    if (given.mnemonic) model.record({ verb: 'fit', codes: given.mnemonic.codes.digest })
  }

  /** @param last - steps after which the epoch ends */
  async #fitEpoch(epoch: number, last: number): Promise<void> {
    const { signal, checkpoint } = this.#parts.given
    let queued = this.#state.step
    for (const batch of this.#batches(epoch)) {
      if (queued === last) break
      checkSignal(signal)
      const begun = this.#step(batch, queued++)
      // Where it fails while an earlier one is awaited: it is heard in #finish.
      begun.catch(() => undefined)
      this.#inFlight.push(begun)
      if (this.#inFlight.length > mostInFlight) await this.#finish(epoch)
      if (this.#logIsDue(queued)) {
        await this.#drain(epoch)
        await this.#log(queued)
      }
      if (queued < last && isDue(checkpoint, queued)) {
        await this.#drain(epoch)
        checkSignal(signal)
        await this.#checkpoint()
      }
    }
    await this.#drain(epoch)
    checkSignal(signal)
    await this.#endEpoch(epoch)
    if (last === this.#parts.options.steps || isDue(checkpoint, last, epoch + 1)) await this.#checkpoint()
  }

  #logIsDue(steps: number): boolean {
    const { series, options } = this.#parts
    return series?.log !== undefined && steps % series.log.every === 0 && steps < options.steps
  }

  async #log(steps: number): Promise<void> {
    const path = this.#parts.series?.log?.path(steps)
    if (path !== undefined) await this.save(path)
  }

  /** The batches of an epoch that are still to come; a last one that is left out among them. */
  #batches(epoch: number): Iterable<FitBatch> {
    const { data, given, options, epoch: shape, series } = this.#parts
    const { batchSize, seed } = options
    const done = (this.#state.step - epoch * shape.steps) * batchSize
    const order = (series?.order(epoch) ?? shuffled(data.size, seed, epoch)).subarray(done)
    const changed = options.augment.pad > 0 || options.augment.flip
    const drawn = { seed, epoch: (series?.epochsBefore ?? 0) + epoch, ...(series && { draws: series.draws }) }
    const plain = batches(data, {
      size: batchSize,
      order,
      ...(changed && { augment: { ...options.augment, ...drawn } }),
    })
    return given.mnemonic ? withCodes(plain, given.mnemonic, seed, epoch) : plain
  }

  /** Queues gradient and update. */
  async #step(batch: FitBatch, step: number): Promise<StepResult> {
    const { options, tensors, gradient, programs, decay } = this.#parts
    const { weights, velocity } = tensors
    const { momentum, nesterov } = options
    const rate = options.learningRate * this.#rateFactor(step)
    const outputs: Promise<FloatArray[]>[] = []
    const updates: Promise<void>[] = []
    try {
      programs.queue(batch, weights, gradient, outputs)
      if (decay) updates.push(gradient.addProduct(1, decay, weights))
      const weightDecay = decay ? 0 : options.weightDecay
      updates.push(weights.sgdStep({ rate, momentum, nesterov, weightDecay }, gradient, velocity))
      await Promise.all(updates)
      return { batch, outputs: await Promise.all(outputs) }
    } catch (error) {
      await Promise.allSettled([...outputs, ...updates])
      throw error
    }
  }

  /** Waits for the oldest step in flight and takes its results in. */
  async #finish(epoch: number): Promise<void> {
    const { batch, outputs } = await (this.#inFlight.shift() as Promise<StepResult>)
    const { model, statistics, options, given } = this.#parts
    const { running } = this.#state
    const k = model.classes
    let loss = 0
    let row = 0
    for (const [logits, losses] of outputs) {
      for (let i = 0; i < losses.length; i++, row++) {
        loss += losses[i]
        running.right += Number(largest(logits, i * k, k) === batch.labels[row])
      }
    }
    this.#state.step++
    if (!Number.isFinite(loss)) throw this.#diverged(`a finite loss at step ${this.#state.step}, got ${loss}`)
    statistics.update(outputs[0].slice(2), batch.rows)
    running.loss += loss * batch.rows
    running.rows += batch.rows
    const progress = { phase: 'fit', done: this.#state.step, total: options.steps, epoch }
    given.onProgress?.({ ...progress, loss: running.loss / running.rows })
  }

  async #drain(epoch: number): Promise<void> {
    while (this.#inFlight.length > 0) await this.#finish(epoch)
  }

  async #endEpoch(epoch: number): Promise<void> {
    const { running, epochs } = this.#state
    const { loss, right, rows } = running
    const { evaluation } = this.#parts.given
    const steps = this.#state.step - epochs.reduce((sum, each) => sum + each.steps, 0)
    const measured = evaluation && { evaluation: await this.#evaluate(evaluation) }
    epochs.push({ epoch, steps, loss: loss / rows, accuracy: right / rows, ...measured, seconds: this.#epochSeconds() })
    this.#state.running = { loss: 0, right: 0, rows: 0, seconds: 0 }
  }

  async #evaluate(data: Data): Promise<{ loss: number; accuracy: number }> {
    const { work, tensors, options, given } = this.#parts
    const { loss, targetScale } = options
    await work.setStatistics(tensors.statistics)
    return work.measure(data, {
      loss,
      ...(targetScale && { targetScale }),
      ...(given.signal && { signal: given.signal }),
    })
  }

  async #checkpoint(): Promise<void> {
    const { given, work, tensors, identity } = this.#parts
    const { checkpoint } = given
    if (checkpoint === undefined) return
    await this.#checkFinite()
    const state = structuredClone(this.#state)
    state.seconds = this.#seconds()
    if (state.running.rows > 0) state.running.seconds = this.#epochSeconds()
    const path = typeof checkpoint === 'string' ? checkpoint : checkpoint.path
    await writeCheckpoint(path, work.engine.network, identity as RunIdentity, state, tensors)
  }

  /** Writes a checkpoint whose bytes are a function of the run's result alone: no times. */
  async save(path: string): Promise<void> {
    const { work, tensors, identity } = this.#parts
    await this.#checkFinite()
    const epochs = this.#state.epochs.map((each) => ({ ...each, seconds: 0 }))
    const state = { ...this.#state, seconds: 0, epochs }
    await writeCheckpoint(path, work.engine.network, identity as RunIdentity, state, tensors)
  }

  async #checkFinite(): Promise<void> {
    const { tensors, statistics } = this.#parts
    const sizes = await Promise.all([tensors.weights, tensors.velocity].map((vector) => vector.dot(vector)))
    if (sizes.every(Number.isFinite) && statistics.finite) return
    throw this.#diverged(`finite weights at step ${this.#state.step}, got NaN or infinite ones`)
  }

  #diverged(expected: string): PalimpsestError {
    const cure = 'a lower learningRate or a longer warmup helps; the model is as before'
    return new PalimpsestError('ERR_NOT_CONVERGED', `expected ${expected}: ${cure}`, { report: this.report() })
  }

  #seconds(): number {
    return this.#state.seconds + (performance.now() - this.#started) / 1000
  }

  #epochSeconds(): number {
    return (performance.now() - this.#epochStarted) / 1000
  }

  report(): FitReport {
    const { work, data, given, options, epoch } = this.#parts
    const { epochs, step } = this.#state
    const { device, layout } = work.engine.network
    const last = epochs.at(-1)
    const chosen = options.parameters
    const count = (entries: typeof layout) => entries.reduce((sum, { size }) => sum + size, 0)
    const fitted = chosen ? layout.filter(({ name }) => chosen.includes(name)) : layout
    return structuredClone({
      verb: 'fit' as const,
      options,
      ...mnemonicRecord(given),
      rows: data.size,
      leftOut: epoch.leftOut,
      parameters: { fitted: count(fitted), total: count(layout) },
      steps: step,
      epochs,
      loss: last?.loss ?? NaN,
      accuracy: last?.accuracy ?? NaN,
      ...(last?.evaluation && { evaluation: last.evaluation }),
      ...(this.#resumedAt !== undefined && { resumedAt: this.#resumedAt }),
      device,
      deviceDescription: native().describeDevice(device),
      seconds: this.#seconds(),
      peakMemoryBytes: memory().peak,
    })
  }

  dispose(): void {
    const { gradient, tensors, decay, work } = this.#parts
    gradient.dispose()
    tensors.velocity.dispose()
    decay?.dispose()
    work.dispose()
  }
}

/** The decay of each value, zero for parameters that are not fitted; undefined where all are, or there is none. */
function decayOf(work: Model, { parameters, weightDecay }: SgdOptions): NativeVector | undefined {
  if (parameters === undefined || weightDecay === 0) return undefined
  const { network } = work.engine
  const fitted = network.layout.filter(({ name }) => parameters.includes(name))
  const values = fitted.map(({ name, size }) => [name, new Float32Array(size).fill(weightDecay)] as const)
  return new (native().Vector)(network, 'float32', Object.fromEntries(values))
}

async function identityOf(
  work: Model,
  data: Dataset,
  given: ReadOptions,
  options: SgdOptions,
  statistics: RunningStatistics,
  series: RunSeries | undefined,
): Promise<RunIdentity | undefined> {
  if (given.checkpoint === undefined && given.resume === undefined && series === undefined) return undefined
  const decisive = { ...options, ...mnemonicRecord(given) }
  const drawn = options.augment.pad > 0 || options.augment.flip || given.mnemonic !== undefined
  return {
    options: decisive,
    network: networkDigest(work.description, statistics.values),
    data: series?.data ?? (await dataDigest(data, drawn)),
  }
}

/** Whether a checkpoint is due after so many steps, and epochs where one has just ended. */
function isDue(checkpoint: ReadOptions['checkpoint'], steps: number, epochs?: number): boolean {
  const every = typeof checkpoint === 'object' ? checkpoint.every : undefined
  if (every !== undefined && 'steps' in every) return steps % every.steps === 0
  return epochs !== undefined && epochs % (every?.epochs ?? 1) === 0
}
