// fitLogged(): trains one model with checkpoints and an update log, and writes the record that can undo it directly.
import { Dataset } from '../dataset.js'
import { Model } from '../model.js'
import { integer, invalid, number, object, optional, readOptions, withDefault } from '../options.js'
import type { TrainingRecord } from '../record.js'
import { settingsOf, sliceEpochs } from '../record/settings.js'
import { fitRecord, recordOptions, type FitShardedOptions, type FitShardedReport } from './sharded.js'

export interface FitLoggedOptions extends Omit<FitShardedOptions, 'shards'> {
  /** R (default 1): parts of the rows that come in one after the other, a checkpoint after each. */
  slices?: number
  log?: {
    /** Steps from one logged state to the next; as few as the cap allows where left out, but half an epoch at least. */
    every?: number
    /** Most bytes of the log, in those of the checkpoints (default 10). */
    cap?: number
  }
}

const { shards: _, ...shared } = recordOptions

const table = {
  ...shared,
  slices: withDefault(integer({ min: 1, max: 4096 }), 1),
  log: withDefault(object({ every: optional(integer({ min: 1 })), cap: withDefault(number({ min: 0 }), 10) }), {
    every: undefined,
    cap: 10,
  }),
}

/**
 * Trains one model with a checkpoint after each slice and an update log: its weights and momentum every so many steps.
 * Batches are not logged, as they follow from seed and keys; nor are gradients, which follow from the weights. With the log
 * forget() can take rows out by a direct update; retraining needs only the checkpoints. Else all is as in fitSharded() with
 * one shard, its errors too.
 *
 * Errors besides: ERR_INVALID_ARGUMENT where `log.every` would make a log above its cap.
 */
export async function fitLogged(
  model: Model,
  data: Dataset,
  options: FitLoggedOptions,
): Promise<{ record: TrainingRecord; report: FitShardedReport }> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  const { log, ...read } = readOptions(options, table, 'fitLogged()')
  const fit = settingsOf(read.fit, model)
  const epochs = sliceEpochs(read.epochs, read.slices)
  const logEvery = (rows: readonly number[], begun?: number) => {
    const steps = stepsOf(rows, epochs, fit.batchSize ?? 128)
    return everyOf(steps, steps[steps.length - 1] / epochs[epochs.length - 1], { ...log, begun })
  }
  return fitRecord(model, data, { ...read, fit, shards: 1, kind: 'logged', logEvery })
}

/** Steps of each slice's run. */
function stepsOf(rows: readonly number[], epochs: readonly number[], batch: number): number[] {
  let seen = 0
  return rows.map((count, i) => {
    seen += count
    return epochs[i] * Math.ceil(seen / batch)
  })
}

/**
 * The smallest stride of half an epoch (of the last slice) or more whose log is within the cap: a logged state is as large
 * as a checkpoint, and takes as much of a direct update's time as hundreds of rows. A record that was begun keeps
 * its stride where the cap allows: the default may be another than it was then.
 */
function everyOf(
  steps: readonly number[],
  stepsPerEpoch: number,
  { every, cap, begun }: { every?: number | undefined; cap: number; begun?: number | undefined },
): number {
  const states = (stride: number) => steps.reduce((sum, each) => sum + Math.max(0, Math.ceil(each / stride) - 1), 0)
  const most = Math.floor(cap * steps.filter((each) => each > 0).length)
  if (every !== undefined) {
    if (states(every) <= most) return every
    throw invalid(
      'log.every',
      `a stride that logs at most ${most} states (log.cap ${cap}), not ${states(every)}`,
      every,
    )
  }
  if (begun !== undefined && states(begun) <= most) return begun
  const [whole, halfEpoch] = [steps.reduce((a, b) => a + b, 0), Math.floor(stepsPerEpoch / 2)]
  let stride = Math.max(1, halfEpoch, Math.ceil(whole / (most + steps.length)))
  while (states(stride) > most) stride++
  return stride
}
