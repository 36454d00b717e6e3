// Every way to release the target task's network, and what each gives away of the source task.
import { fit, type Model, PalimpsestError, piggyback, scrub } from '../../lib/index.js'
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
}

/** Pretraining, transfer, and all arms of one seed. */
export async function runSeed(
  { source, target, fresh, pretraining, transfer, budgets, steps }: Transfer,
  seed: number,
  { seeds = [1, 2], budgets: count = budgets.length, withSourceHead = false }: ArmOptions = {},
): Promise<SeedResult> {
  const before = fresh(seed)
  await fit(before, source.train, { ...pretraining, seed })
  const model = await before.withHead(target.train.classes, { seed })
  await fit(model, target.train, { ...transfer, seed })
  const budget = budgets.slice(0, count).map(({ steps, share, fit }) => ({ steps, share, fit }))
  const attack = async (released: Model) =>
    (await piggyback(released, source.train, { budget, testSet: source.test, seeds })).results
  const [floor, ceiling] = [await attack(fresh(seed + 100)), await attack(model)]
  const accuracies = (results: { accuracy: number }[]) => results.map(({ accuracy }) => accuracy)
  const arms: Arm[] = []
  const release = async (arm: Arm['arm'], make: (copy: Model) => Promise<Model>) => {
    const start = performance.now()
    const released = await make(await model.clone()).catch((error: unknown) => {
      // Published as what it is: no weights were found that keep the target task.
      if (error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED') return undefined
      throw error
    })
    const seconds = (performance.now() - start) / 1000
    if (released === undefined) {
      const none = { accuracy: NaN, recovered: NaN }
      return void arms.push({ arm, target: NaN, learned: budget.map(() => none), seconds })
    }
    const learned = (await attack(released)).map(({ accuracy }, i) => ({
      accuracy,
      recovered: (accuracy - floor[i].accuracy) / (ceiling[i].accuracy - floor[i].accuracy),
    }))
    arms.push({ arm, target: (await released.measure(target.test)).accuracy, learned, seconds })
    released.dispose()
  }
  await release('before', (copy) => Promise.resolve(copy))
  await release('fine-tuned', async (copy) => {
    await scrub(copy, { method: 'fineTune', retainSet: target.train, fit: { epochs: 4, seed } })
    return copy
  })
  const options = { method: 'dispose', source: source.train, target: target.train, steps, seed } as const
  await release('disposed', async (copy) => {
    await scrub(copy, options)
    return copy
  })
  if (withSourceHead) {
    await release('disposed, source head', async (copy) => {
      await scrub(copy, { ...options, head: 'source', sourceHead: before })
      return copy
    })
  }
  await release('distilled', () => distil(fresh(seed + 200), model, target.train, { epochs: 8, learningRate: 0.02 }))
  const known = (await before.measure(source.test)).accuracy
  for (const each of [before, model]) each.dispose()
  return { seed, source: known, floor: accuracies(floor), ceiling: accuracies(ceiling), arms }
}
