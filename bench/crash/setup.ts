// What crash rounds train and forget: small, but several shards and slices long.
import { Dataset, fitSharded, forget, Model, networks, processPool, type JobRunner } from '../../lib/index.js'
import { environmentOf } from '../../lib/jobs/environment.js'
import { runJob } from '../../lib/jobs/run.js'
import { TrainingRecord } from '../../lib/record.js'

export const rows = 90

/** Rows with ids `r0`, `r1`, ... and labels that can be learned. */
export function makeData(): Dataset {
  const values = Array.from({ length: rows * 16 }, (_, i) => {
    const [row, j] = [Math.floor(i / 16), i % 16]
    return Math.sin((row + 1) * (j + 2)) + Number(j % 3 === row % 3)
  })
  return Dataset.fromArrays({
    inputs: Float32Array.from(values),
    labels: Array.from({ length: rows }, (_, row) => row % 3),
    shape: [1, 4, 4],
    classes: 3,
    ids: (row) => `r${row}`,
  })
}

export const makeModel = (): Model =>
  Model.fromNetwork(networks.mlp({ inputShape: [1, 4, 4], hidden: [16], classes: 3, seed: 2 }))

/** Jobs in the calling process, so that a kill meets training itself. */
export const here: JobRunner = { run: (job, options = {}) => runJob(job, options), close: async () => undefined }

export const runnerOf = (name: string): JobRunner => (name === 'pool' ? processPool({ workers: 2 }) : here)

export const optionsOf = (folder: string, runner: JobRunner) => ({
  folder,
  runner,
  shards: 3,
  slices: 3,
  epochs: 6,
  seed: 5,
  threads: environmentOf('cpu').threads,
  fit: { batchSize: 7 },
})

export const revoked = ['r3', 'r17', 'r41', 'r80']

/** The arm that serves the request of a phase. */
export const preferOf = (phase: string): 'exact' | 'direct' => (phase === 'direct' ? 'direct' : 'exact')

/** The call that is killed, or not. */
export async function work(phase: string, folder: string, runner: JobRunner): Promise<void> {
  if (phase === 'fit') {
    const { record } = await fitSharded(makeModel(), makeData(), optionsOf(folder, runner))
    return record.close()
  }
  const record = await TrainingRecord.open(folder, { data: makeData() })
  try {
    await forget(record, { keys: revoked, runner, prefer: preferOf(phase) })
  } finally {
    await record.close()
  }
}
