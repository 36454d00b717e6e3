// The steps of a shard's run as a record knows them: which rows each had, and between which states they lie.
import type { LogRef, CheckpointRef, Manifest, ShardState } from '../record/format.js'
import { keyWords, orderOf, type PlacedRow } from '../record/rows.js'
import type { Loss } from './direct_update.js'

/** The run of a slice: epochs over the rows of slices 1 to this one. */
export interface SliceRun {
  /** From 1. */
  slice: number
  /** Canonical order within each slice. */
  rows: PlacedRow[]
  words: Uint32Array[]
  epochs: number
  /** Of the runs before. */
  epochsBefore: number
  stepsBefore: number
  stepsPerEpoch: number
  steps: number
}

/** Runs of a shard's slices; those that have no rows yet have none. */
export function sliceRuns(
  { epochs, fit }: Pick<Manifest, 'epochs' | 'fit'>,
  slices: readonly (readonly PlacedRow[])[],
): SliceRun[] {
  const batch = fit.batchSize ?? 128
  const runs: SliceRun[] = []
  let [epochsBefore, stepsBefore] = [0, 0]
  slices.forEach((_, i) => {
    const rows = slices.slice(0, i + 1).flat()
    if (rows.length === 0) return
    const stepsPerEpoch = Math.ceil(rows.length / batch)
    const steps = epochs[i] * stepsPerEpoch
    const words = rows.map(({ key }) => keyWords(key))
    runs.push({ slice: i + 1, rows, words, epochs: epochs[i], epochsBefore, stepsBefore, stepsPerEpoch, steps })
    epochsBefore += epochs[i]
    stepsBefore += steps
  })
  return runs
}

/** Indices into a run's rows in the order of one of its epochs. */
export const epochOrder = (run: SliceRun, seed: number, epoch: number): Int32Array =>
  orderOf(run.words, seed, run.epochsBefore + epoch)

/** Steps of a run whose batches lose rows. */
export function lossesOf(run: SliceRun, { seed, fit }: Manifest, gone: ReadonlySet<PlacedRow>): Loss[] {
  const batch = fit.batchSize ?? 128
  const losses: Loss[] = []
  if (!run.rows.some((row) => gone.has(row))) return losses
  for (let epoch = 0; epoch < run.epochs; epoch++) {
    const order = epochOrder(run, seed, epoch)
    for (let k = 0; k < run.stepsPerEpoch; k++) {
      const members = order.subarray(k * batch, (k + 1) * batch)
      const rows = members.filter((i) => gone.has(run.rows[i])).map((i) => run.rows[i].position)
      if (rows.length === 0) continue
      const step = run.stepsBefore + epoch * run.stepsPerEpoch + k
      losses.push({ step, size: members.length, rows, epoch: run.epochsBefore + epoch })
    }
  }
  return losses
}

/** States of a run after its first step, ascending; the last is its checkpoint. */
export function statesOf({ checkpoints, logs }: ShardState, run: SliceRun): (LogRef | CheckpointRef)[] {
  const [logged, ends] = [logs, checkpoints].map((refs) => refs.filter(({ slice }) => slice === run.slice))
  return [...logged.filter(({ step }) => step > run.stepsBefore && step < run.stepsBefore + run.steps), ...ends]
}

/** How a run is cut by its states: the steps of each segment, and the losses in it. */
export function segmentsOf(states: readonly { step: number }[], run: SliceRun, losses: readonly Loss[]) {
  let from = run.stepsBefore
  return states.map(({ step: to }) => {
    const segment = { from, to, losses: losses.filter(({ step }) => step >= from && step < to) }
    from = to
    return segment
  })
}

/** Where a state of a run stands in the run that is left, which may have fewer steps. */
export function stepAfter(step: number, run: SliceRun, left: SliceRun): number {
  const share = (step - run.stepsBefore) / run.steps
  return left.stepsBefore + Math.round(share * left.steps)
}
