// The direct update of one shard: its states from the first slice that lost rows on, rewritten as if without them.
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { checkpointBytes, readTensors, type FitTensors, type RunIdentity } from '../fit/checkpoint.js'
import { readFitOptions, settle, type SgdOptions } from '../fit/options.js'
import { rateFactors } from '../fit/schedule.js'
import { normalizationsOf } from '../fit/statistics.js'
import type { Model } from '../model.js'
import { networkDigest } from '../model/network_digest.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import { native, type NativeVector } from '../native.js'
import type { CheckpointRef, DirectSettings, LogRef, Manifest, ShardState } from '../record/format.js'
import type { PlacedRow } from '../record/rows.js'
import type { RecordStore } from '../record/store.js'
import { amendBy, lostOf } from './amend.js'
import { Deviation, type StepRule } from './deviation.js'
import { crossSegment, together, type DirectProducts, type Segment } from './direct_update.js'
import { ProductDrift, SecantDrift, type Drift } from './drift.js'
import { epochOrder, lossesOf, segmentsOf, sliceRuns, statesOf, stepAfter, type SliceRun } from './logged_run.js'
import { RowSums } from './row_sums.js'

/** What the update of a shard reads. */
export interface ShardUpdate {
  shard: number
  /** The first slice that loses a row, from 1. */
  first: number
  /** Rows of each slice, before and after. */
  slices: readonly (readonly PlacedRow[])[]
  remaining: readonly (readonly PlacedRow[])[]
  gone: ReadonlySet<PlacedRow>
}

export interface UpdatedShard {
  state: ShardState
  visits: number
}

/** ERR_UNSUPPORTED where batches were normalised together: a row's own gradient is then not defined. */
function checkSupported(options: SgdOptions): void {
  if (options.batchNorm !== 'training') return
  throw new PalimpsestError(
    'ERR_UNSUPPORTED',
    "expected a record without batch normalisation in training mode (fit.batchNorm 'evaluation') for the direct arm; prefer: 'exact' serves this one",
  )
}

/** Losses of an epoch are taken together by so many groups at most. */
const groupsPerEpoch = 4

/** Steps whose losses are taken together, at most. */
export const groupLength = ({ stepsPerEpoch }: SliceRun): number =>
  Math.max(1, Math.floor(stepsPerEpoch / groupsPerEpoch))

/** Updates a shard of a record; its new files are in the folder, the manifest is as it was. */
export class ShardUpdater {
  readonly #store: RecordStore
  readonly #data: Dataset
  readonly #model: Model
  readonly #update: ShardUpdate
  readonly #settings: DirectSettings
  readonly #passes: PassOptions
  readonly #draws: Uint32Array
  readonly #sums: RowSums
  readonly #drift: Drift | undefined
  #amended = 0

  constructor(
    store: RecordStore,
    data: Dataset,
    model: Model,
    update: ShardUpdate,
    settings: DirectSettings,
    passes: PassOptions,
  ) {
    this.#store = store
    this.#data = data
    this.#model = model
    this.#update = update
    this.#settings = settings
    this.#passes = passes
    this.#draws = new Uint32Array(data.size)
    this.#sums = new RowSums(model, data, this.#draws)
    const { drift, products } = settings
    if (drift === 'log') this.#drift = new SecantDrift(this.#sums)
    if (drift === 'products') this.#drift = new ProductDrift(this.#sums, products)
  }

  get #manifest(): Manifest {
    return this.#store.manifest
  }

  async run(): Promise<UpdatedShard> {
    const { shard, first, slices, remaining } = this.#update
    const old = this.#manifest.states[shard]
    const [runs, left] = [slices, remaining].map((rows) => sliceRuns(this.#manifest, rows))
    const earlier = <T extends { slice: number }>(refs: readonly T[]) => refs.filter(({ slice }) => slice < first)
    const state: ShardState = {
      rows: remaining.map((rows) => rows.length),
      checkpoints: earlier(old.checkpoints),
      logs: earlier(old.logs),
    }
    const [start, end] = [this.#state(), this.#state()]
    const deviation = new Deviation(start.weights)
    try {
      await this.#begin(state.checkpoints.at(-1), start)
      for (const run of runs.filter(({ slice }) => slice >= first)) {
        const after = left.find(({ slice }) => slice === run.slice)
        await this.#cross(run, after, deviation, [start, end], state)
      }
      return { state, visits: this.#sums.visits + this.#amended }
    } finally {
      deviation.dispose()
      this.#drift?.dispose()
      for (const { weights, velocity } of [start, end]) [weights, velocity].forEach((vector) => vector.dispose())
    }
  }

  #state(): FitTensors {
    const vector = () => new (native().Vector)(this.#model.engine.network, 'float32')
    return { weights: vector(), velocity: vector(), statistics: new Map() }
  }

  /** The state before the first slice that is updated. */
  async #begin(checkpoint: CheckpointRef | undefined, start: FitTensors): Promise<void> {
    if (checkpoint === undefined) await start.weights.copyFrom(await this.#model.engine.weights('float32'))
    else await this.#read(checkpoint, start, this.#optionsOf(1, 1))
  }

  async #read(ref: CheckpointRef | LogRef, into: FitTensors, options: SgdOptions): Promise<void> {
    await readTensors(await this.#store.read(ref), this.#model.engine.network, options, into)
  }

  #optionsOf(rows: number, epochs: number): SgdOptions {
    const { fit, seed } = this.#manifest
    const read = readFitOptions({ ...fit, seed, epochs })
    const { options } = settle(read, this.#model, Math.max(rows, 2), normalizationsOf(this.#model.description))
    checkSupported(options)
    return options
  }

  /** Crosses the segments of a slice's run and adds their rewritten ends to the state. */
  async #cross(
    run: SliceRun,
    after: SliceRun | undefined,
    deviation: Deviation,
    ends: [FitTensors, FitTensors],
    state: ShardState,
  ): Promise<void> {
    const { shard } = this.#update
    const options = this.#optionsOf(run.rows.length, run.epochs)
    const states = statesOf(this.#manifest.states[shard], run)
    const losses = lossesOf(run, this.#manifest, this.#update.gone)
    const rule = ruleOf(options, run)
    const products = this.#products(run, options)
    this.#drift?.restart()
    run.rows.forEach(({ position }, i) => (this.#draws[position] = run.words[i][0]))
    for (const [i, part] of segmentsOf(states, run, losses).entries()) {
      checkSignal(this.#passes.signal)
      const [start, end] = ends
      await this.#read(states[i], end, options)
      const grouped = together(part.losses, groupLength(run))
      const segment: Segment = { ...part, losses: grouped, rule, start, end: end.weights }
      await crossSegment(deviation, segment, products)
      await checkSize(deviation, end.weights)
      if (after !== undefined) await this.#keep(states[i], { run, after, options, end, deviation, state })
      ends.reverse()
    }
  }

  /** Adds a state to those of the shard as it is without the rows: logged ones as they are, a checkpoint amended. */
  async #keep(ref: CheckpointRef | LogRef, { run, after, options, end, deviation, state }: Kept): Promise<void> {
    const { shard } = this.#update
    const [moved, step] = [this.#state(), stepAfter(ref.step, run, after)]
    const tensors = { ...moved, statistics: end.statistics }
    try {
      await Promise.all([
        moved.weights.copyFrom(end.weights),
        moved.weights.axpy(1, deviation.weights),
        moved.velocity.copyFrom(end.velocity),
        moved.velocity.axpy(1, deviation.velocity),
      ])
      const isLast = run.slice === this.#manifest.slices && 'exact' in ref
      if (isLast) this.#amended += await this.#amend(after, options, tensors)
      const identity = this.#identity(options)
      const counters = { step: step - after.stepsBefore, seconds: 0, epochs: [], running: nothing }
      const bytes = await checkpointBytes(this.#model.engine.network, identity, counters, tensors)
      if ('exact' in ref) {
        const file = await this.#store.put(`shards/${shard}/slice-${run.slice}`, bytes, '.safetensors')
        const epoch = after.epochsBefore + after.epochs
        state.checkpoints.push({ ...file, slice: run.slice, epoch, step, exact: false })
      } else if (
        step > after.stepsBefore &&
        step < after.stepsBefore + after.steps &&
        step > (state.logs.at(-1)?.step ?? 0)
      ) {
        const file = await this.#store.put(`logs/${shard}/slice-${run.slice}-step-${step}`, bytes, '.safetensors')
        state.logs.push({ ...file, slice: run.slice, step })
      }
    } finally {
      for (const vector of [moved.weights, moved.velocity]) vector.dispose()
    }
  }

  /** No digest of rows: it would be a trace of those that went. */
  #identity(options: SgdOptions): RunIdentity {
    return { options, network: networkDigest(this.#model.description, new Map()), data: 'direct' }
  }

  async #amend(after: SliceRun, options: SgdOptions, tensors: FitTensors): Promise<number> {
    const { slices, remaining, gone } = this.#update
    const amending = { model: this.#model, data: this.#data, options, passes: this.#passes }
    const scope = { manifest: this.#manifest, run: after, slices: remaining, ...lostOf(slices, gone) }
    return amendBy(this.#settings.amend, { ...amending, ...scope }, tensors)
  }

  #products(run: SliceRun, options: SgdOptions): DirectProducts {
    const drift = this.#drift
    return {
      gradient: ({ rows, weights: shares, epoch }, weights, out) =>
        this.#sums.sum('gradient', rows, options, { weights, out, shares, epoch }),
      ...(options.parameters && { mask: (vector) => zeroOthers(vector, options.parameters as string[]) }),
      ...(drift && {
        curvature: (segment, deviation) => {
          const epoch = Math.floor((segment.from - run.stepsBefore) / run.stepsPerEpoch)
          return drift.curvature(segment, deviation, () => this.#probe(run, epoch), options)
        },
      }),
    }
  }

  /** Rows that stay, the first of an epoch. */
  #probe(run: SliceRun, epoch: number): Int32Array {
    const stay = epochOrder(run, this.#manifest.seed, epoch).filter((i) => !this.#update.gone.has(run.rows[i]))
    return stay.subarray(0, this.#settings.rows).map((i) => run.rows[i].position)
  }
}

interface Kept {
  run: SliceRun
  after: SliceRun
  options: SgdOptions
  end: FitTensors
  deviation: Deviation
  state: ShardState
}

const nothing = { loss: 0, right: 0, rows: 0, seconds: 0 }

function ruleOf(options: SgdOptions, run: SliceRun): StepRule {
  const factor = rateFactors(options.schedule, options.steps, run.stepsPerEpoch)
  const { learningRate, momentum, nesterov, weightDecay } = options
  return { rate: (step) => learningRate * factor(step - run.stepsBefore), momentum, nesterov, weightDecay }
}

async function zeroOthers(vector: NativeVector, fitted: readonly string[]): Promise<void> {
  const others = vector.layout.filter(({ name }) => !fitted.includes(name))
  await Promise.all(others.map(({ name, size }) => vector.set(name, new Float32Array(size))))
}

/** A deviation as large as the weights is no small change: the update's premise does not hold. */
async function checkSize(deviation: Deviation, weights: NativeVector): Promise<void> {
  const [moved, whole] = await Promise.all([deviation.weights.dot(deviation.weights), weights.dot(weights)])
  if (moved <= whole) return
  throw new PalimpsestError(
    'ERR_NOT_CONVERGED',
    "expected a direct update that is small beside the weights, got one that grows beyond them; prefer: 'exact' serves the request, the record is as before",
  )
}
