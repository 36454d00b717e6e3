// Every way to release the target task's network, and what each gives away of the source task.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Dataset, fit, type FitOptions, type Model, PalimpsestError, piggyback, scrub } from '../../lib/index.js'
import { distil } from './distil.js'
import type { Transfer } from './tasks.js'

export interface Arm {
  arm: 'before' | 'fine-tuned' | 'disposed' | 'disposed, source head' | 'distilled'
  /** Accuracy on the target task's test rows; NaN where the method did not converge. */
  target: number
  /** PL for every budget, and its place between floor and ceiling. */
  learned: { accuracy: number; recovered: number }[]
  seconds: number
}

export interface SeedResult {
  seed: number
  /** Test accuracy of the source task before the transfer. */
  source: number
  floor: number[]
  ceiling: number[]
  arms: Arm[]
}

export interface ArmOptions {
  /** Draws of the adversary. */
  seeds?: number[]
  budgets?: number
  /** Of the arm under the head from before the transfer. */
  withSourceHead?: boolean
  /** Folder for the checkpoints of the two long fits, which a later call goes on from. */
  keep?: string
  /** What wraps each part, so that a finished one need not be run again. */
  part?: <T>(key: string, work: () => Promise<T>) => Promise<T>
}

const accuracies = (results: { accuracy: number }[]) => results.map(({ accuracy }) => accuracy)

/** Pretraining, transfer, and all arms of one seed. */
export async function runSeed(
  { source, target, fresh, pretraining, transfer, budgets, disposal }: Transfer,
  seed: number,
  options: ArmOptions = {},
): Promise<SeedResult> {
  const { seeds = [1, 2], budgets: count = budgets.length, withSourceHead = false, keep, part } = options
  const once: typeof part & {} = (key, work) => part?.(`seed ${seed}, ${key}`, work) ?? work()
  const learn = (model: Model, rows: Dataset, how: FitOptions, name: string) => {
    const checkpoint = keep === undefined ? undefined : join(keep, `${name}-${seed}.safetensors`)
    const files = checkpoint && { checkpoint, ...(existsSync(checkpoint) && { resume: checkpoint }) }
    return fit(model, rows, { ...how, seed, ...files })
  }
  const before = fresh(seed)
  await learn(before, source.train, pretraining, 'source')
  const model = await before.withHead(target.train.classes, { seed })
  await learn(model, target.train, transfer, 'target')
  const budget = budgets.slice(0, count).map(({ steps, share, fit }) => ({ steps, share, fit }))
  const attack = async (released: Model) =>
    (await piggyback(released, source.train, { budget, testSet: source.test, seeds })).results
  const known = await once('source', async () => (await before.measure(source.test)).accuracy)
  const floor = await once('floor', async () => accuracies(await attack(fresh(seed + 100))))
  const ceiling = await once('ceiling', async () => accuracies(await attack(model)))
  const arms: Arm[] = []
  const measured = async (arm: Arm['arm'], make: (copy: Model) => Promise<Model>): Promise<Arm> => {
    const start = performance.now()
    const released = await make(await model.clone()).catch((error: unknown) => {
      // Published as what it is: no weights were found that keep the target task.
      if (error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED') return undefined
      throw error
    })
    const seconds = (performance.now() - start) / 1000
    if (released === undefined) {
      const none = { accuracy: NaN, recovered: NaN }
      return { arm, target: NaN, learned: budget.map(() => none), seconds }
    }
    const learned = (await attack(released)).map(({ accuracy }, i) => ({
      accuracy,
      recovered: (accuracy - floor[i]) / (ceiling[i] - floor[i]),
    }))
    const { accuracy } = await released.measure(target.test)
    released.dispose()
    return { arm, target: accuracy, learned, seconds }
  }
  const release = async (arm: Arm['arm'], make: (copy: Model) => Promise<Model>) =>
    void arms.push(await once(arm, () => measured(arm, make)))
  await release('before', (copy) => Promise.resolve(copy))
  await release('fine-tuned', async (copy) => {
    await scrub(copy, { method: 'fineTune', retainSet: target.train, fit: { epochs: 4, seed } })
    return copy
  })
  const dispose = { method: 'dispose', source: source.train, target: target.train, ...disposal, seed } as const
  await release('disposed', async (copy) => {
    await scrub(copy, dispose)
    return copy
  })
  if (withSourceHead) {
    await release('disposed, source head', async (copy) => {
      await scrub(copy, { ...dispose, head: 'source', sourceHead: before })
      return copy
    })
  }
  await release('distilled', () => distil(fresh(seed + 200), model, target.train, { epochs: 8, learningRate: 0.02 }))
  for (const each of [before, model]) each.dispose()
  return { seed, source: known, floor, ceiling, arms }
}
