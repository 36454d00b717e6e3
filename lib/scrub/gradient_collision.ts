// The gradient-collision loss of several batches and its exact gradient, by one Hessian product a batch.
import { PalimpsestError } from '../errors.js'
import { Model } from '../model.js'
import { readLossOptions } from '../model/options.js'
import { checkData, holdData, letGo, type Data, type Held } from '../model/held_data.js'
import { checkSignal } from '../model/passes.js'
import { dtypeOf, lossProduct, type Engine, type LossOptions } from '../model/products.js'
import { native, type NativeVector } from '../native.js'
import { invalid, is, number, oneOf } from '../options.js'
import { ParameterVector } from '../vector.js'

/** 'cosine': mean cosine of two batches' gradients, in [-1/(n-1), 1]. 'dot': mean inner product, unbounded below. */
export type CollisionForm = 'cosine' | 'dot'

export interface CollisionOptions extends LossOptions {
  /** Default 'cosine', which does not change with the gradients' scale. */
  form?: CollisionForm
  /** Batches whose gradient is not longer than this are left out; default 1e-12. */
  least?: number
}

export interface GradientCollision {
  /** The loss. */
  value: number
  /** Its gradient. The caller disposes it. */
  gradient: ParameterVector
  /** n, the batches whose gradient is longer than `least`. */
  batches: number
  /** Root mean square of their lengths. */
  length: number
}

interface Collision extends Omit<GradientCollision, 'gradient'> {
  /** Undefined with fewer than two batches. */
  gradient: NativeVector | undefined
}

/**
 * GC over batches B_1 .. B_n with g_i the gradient of the mean loss over B_i (reconstruction after Koh et al. 2023, whose
 * equations could not be read):
 *
 *     dot:    1/(n(n-1)) sum_{i != j} <g_i, g_j>          cosine: the same of h_i = g_i / |g_i|
 *
 * A step of SGD on B_i changes the loss of B_j by -rate <g_i, g_j>: at 0 or below, what is learned from a few batches does
 * not carry over to others. The gradient is sum_i H_i u_i, H_i the Hessian of B_i's loss: n gradients and n products.
 *
 * The batches should be disjoint. Batch normalisation uses its running statistics. The loss's options are those of
 * `gradient()`.
 *
 * Errors: those of `gradient()`, and ERR_INVALID_ARGUMENT for fewer than two batches, or fewer with a gradient.
 */
export async function gradientCollision(
  model: Model,
  batches: readonly Data[],
  options: CollisionOptions = {},
): Promise<GradientCollision> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  if (!is.plainObject(options)) throw invalid('options', 'a plain object', options)
  const { form: givenForm = 'cosine', least: givenLeast = 1e-12, ...rest } = options
  const form = oneOf('cosine', 'dot').read(givenForm, 'form')
  const least = number({ min: 0 }).read(givenLeast, 'least')
  const read = readLossOptions(rest, 'gradientCollision()')
  if (!Array.isArray(batches) || batches.length < 2) throw invalid('batches', 'two batches or more', batches)
  const { revision } = model
  const held: Held[] = []
  let found: Collision
  try {
    for (const batch of batches as readonly Data[]) held.push(holdData(batch, model.engine, true))
    found = await collide(model.engine, held, read, { form, least })
  } finally {
    held.forEach(letGo)
  }
  const { gradient, ...collision } = found
  if (model.revision !== revision) {
    gradient?.dispose()
    throw invalid('model', 'a model that nothing else changes meanwhile', model)
  }
  if (gradient) return { ...collision, gradient: new ParameterVector(gradient) }
  throw invalid('batches', `two batches or more with a gradient longer than ${least}`, found.batches)
}

/** The same within a run. */
export async function collide(
  engine: Engine,
  batches: readonly Held[],
  options: LossOptions,
  { form, least }: { form: CollisionForm; least: number },
): Promise<Collision> {
  for (const batch of batches) checkData(batch, engine, true)
  const made: NativeVector[] = []
  try {
    const kept: { batch: Held; g: NativeVector; length: number }[] = []
    for (const batch of batches) {
      checkSignal(options.signal)
      const g = await lossProduct(engine, 'gradient', batch, undefined, options)
      made.push(g)
      const length = Math.sqrt(await g.dot(g))
      if (length > least) kept.push({ batch, g, length })
    }
    const n = kept.length
    const length = Math.sqrt(kept.reduce((sum, each) => sum + each.length ** 2, 0) / Math.max(1, n))
    if (n < 2) return { value: 0, gradient: undefined, batches: n, length }
    // From here on g_i is h_i in the cosine form: the dot form's formulas with unit vectors.
    if (form === 'cosine') await Promise.all(kept.map(({ g, length: norm }) => g.scale(1 / norm)))
    const sum = new (native().Vector)(kept[0].g, dtypeOf(options))
    made.push(sum)
    await Promise.all(kept.map(({ g }) => sum.axpy(1, g)))
    const squares = await Promise.all(kept.map(({ g }) => g.dot(g)))
    const pairs = n * (n - 1)
    const value = ((await sum.dot(sum)) - squares.reduce((a, b) => a + b, 0)) / pairs
    const gradient = new (native().Vector)(sum, dtypeOf(options))
    try {
      for (const { batch, g, length: norm } of kept) {
        checkSignal(options.signal)
        const u = await direction(form, { sum, g, norm, pairs })
        made.push(u)
        const product = await lossProduct(engine, 'hessianProduct', batch, u, options)
        await gradient.axpy(1, product)
        product.dispose()
      }
      return { value, gradient, batches: n, length }
    } catch (error) {
      gradient.dispose()
      throw error
    }
  } finally {
    for (const vector of made) vector.dispose()
  }
}

/**
 * u_i, the loss's derivative by g_i. dot: 2 (G - g_i) / (n(n-1)). cosine: 2 (s - <s, h> h) / (n(n-1) |g_i|) with
 * s = sum_j h_j - h_i; the part of s along h_i falls out, so sum_j h_j - <sum_j h_j, h_i> h_i is the same.
 */
async function direction(
  form: CollisionForm,
  { sum, g, norm, pairs }: { sum: NativeVector; g: NativeVector; norm: number; pairs: number },
): Promise<NativeVector> {
  const u = new (native().Vector)(sum, sum.dtype)
  await u.copyFrom(sum)
  await u.axpy(form === 'dot' ? -1 : -(await sum.dot(g)), g)
  await u.scale(2 / (form === 'dot' ? pairs : pairs * norm))
  return u
}
