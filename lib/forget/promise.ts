// What a release promises, fixed before anything is solved: noise scale, then target; nothing of the user's rows is read.
import type { PassOptions } from '../model/passes.js'
import { native } from '../native.js'
import { check, describe, invalid, is } from '../options.js'
import { guaranteeOf, type Guarantee, type Release } from '../tangent/ledger.js'
import { automaticNoiseScale } from '../tangent/noise_scale.js'
import type { TangentModel } from '../tangent.js'

/** What may be left: KL divergence in nats, or (epsilon, delta). */
export type Target = { nats: number } | { epsilon: number; delta: number }

export const targetCheck = check<Target>(
  '{ nats } above 0, or { epsilon, delta } with epsilon above 0 and delta between 0 and 1',
  (value): value is Target => {
    if (!is.plainObject(value)) return false
    const { nats, epsilon, delta, ...rest } = value
    if (Object.keys(rest).length > 0) return false
    if (nats !== undefined) return epsilon === undefined && delta === undefined && is.number(nats) && nats > 0
    return is.number(epsilon) && epsilon > 0 && is.number(delta) && delta > 0 && delta < 1
  },
)

export interface PromiseOptions {
  noise: 'auto' | 'none' | number
  noiseShape: 'isotropic' | 'curvature'
  target: Target | undefined
  delta: number | undefined
}

export interface Promised {
  noiseScale: number
  shape: Release['noiseShape']
  /** D_T; null without noise. */
  distance: number | null
  guaranteed: Guarantee | null
  /** Undefined without noise. */
  target: Target | undefined
  delta: number
}

const defaultTarget: Target = { nats: 0.01 }
const defaultDelta = 1e-6

/** Noise scale first, then the target: from options, core and public rows alone. */
export async function promise(model: TangentModel, options: PromiseOptions, passes: PassOptions): Promise<Promised> {
  const wanted = options.target ?? defaultTarget
  const delta = 'nats' in wanted ? (options.delta ?? defaultDelta) : wanted.delta
  if (options.noise === 'none') {
    return { noiseScale: 0, shape: 'none', distance: null, guaranteed: null, target: undefined, delta }
  }
  const noiseScale = options.noise === 'auto' ? await automatic(model, passes) : options.noise
  const distance = 'nats' in wanted ? native().distanceOfNats(wanted.nats) : native().distanceOf(wanted.epsilon, delta)
  requireAboveGrid(model, options, noiseScale, distance)
  const guaranteed = guaranteeOf(distance, delta)
  // sqrt(2 nats) may have been rounded down: what is promised is the target.
  if ('nats' in wanted) guaranteed.nats = wanted.nats
  return { noiseScale, shape: options.noiseShape, distance, guaranteed, target: wanted, delta }
}

async function automatic(model: TangentModel, passes: PassOptions): Promise<number> {
  const { publicData, parameters, targetScale } = model
  if (publicData === undefined) {
    throw invalid('noise', "a number, or 'auto' on a model made with publicData", "'auto' without publicData")
  }
  const scale = await automaticNoiseScale(model.core.engine, publicData, parameters, targetScale, passes)
  if (Number.isFinite(scale) && scale > 0) return scale
  throw invalid('noise', 'a number, where the outputs at the public rows do not depend on the parameters', 'auto')
}

/**
 * Rounding the mean to the grid alone moves it by h sqrt(P/12) (root mean square), h = 2^(floor(log2 s) - 16): a target
 * below that cannot be met, whatever the rows are, and is refused before they are read.
 */
function requireAboveGrid(model: TangentModel, options: PromiseOptions, scale: number, distance: number): void {
  const chosen = new Set(model.parameters)
  const size = model.core.parameters.reduce(
    (sum, { name, shape }) => sum + (chosen.has(name) ? shape.reduce((a, b) => a * b, 1) : 0),
    0,
  )
  const spacing = 2 ** (Math.floor(Math.log2(scale)) - (size > 1e7 ? 20 : 16))
  const metric = options.noiseShape === 'curvature' ? Math.sqrt(model.damping) : 1
  const least = (metric * spacing * Math.sqrt(size / 12)) / scale
  if (distance >= least) return
  throw invalid(
    'target',
    `at least ${native().natsOf(least).toPrecision(2)} nats (what ${size} parameters lose on the grid of their noise)`,
    `${native().natsOf(distance).toPrecision(2)} nats (${describe(options.target)})`,
  )
}
