// How leaving rows out of steps of SGD moves the weights that come later: momentum's echo, weight decay and curvature in it.
import { native, type NativeVector } from '../native.js'

/** A run of SGD: v = m v + g + d w, then w = w - rate (g + d w + m v) with Nesterov's momentum, w = w - rate v without. */
export interface StepRule {
  rate(step: number): number
  momentum: number
  nesterov: boolean
  weightDecay: number
}

/** What steps with one gradient g make: w' = ww w + wv v + wg g and v' = vw w + vv v + vg g. */
export interface Transition {
  ww: number
  wv: number
  wg: number
  vw: number
  vv: number
  vg: number
}

/** Steps from `from` up to `to`: the two numbers of each input, iterated, as coupled weight decay has no product form. */
export function transition(rule: StepRule, from: number, to: number): Transition {
  const { momentum, nesterov, weightDecay } = rule
  const [w, v] = [
    [1, 0, 0],
    [0, 1, 0],
  ]
  for (let step = from; step < to; step++) {
    const rate = rule.rate(step)
    for (let i = 0; i < 3; i++) {
      const g = weightDecay * w[i] + Number(i === 2)
      v[i] = momentum * v[i] + g
      w[i] -= rate * (nesterov ? g + momentum * v[i] : v[i])
    }
  }
  return { ww: w[0], wv: w[1], wg: w[2], vw: v[0], vv: v[1], vg: v[2] }
}

/** The one gradient of all steps that takes the weights from `start` to `end`: of a single step the very one it took. */
export async function meanGradient(
  of: Transition,
  start: { weights: NativeVector; velocity: NativeVector },
  end: NativeVector,
  out: NativeVector,
): Promise<void> {
  await Promise.all([
    out.copyFrom(end),
    out.axpy(-of.ww, start.weights),
    out.axpy(-of.wv, start.velocity),
    out.scale(1 / of.wg),
  ])
}

/** A curvature H = Q T Q^T + rest (I - Q Q^T): q_i = sum_j basis[i][j] directions[j] orthonormal, T [k, k] by rows. */
export interface Subspace {
  directions: readonly NativeVector[]
  /** [k, directions]; the identity where left out: the directions are orthonormal. */
  basis?: readonly (readonly number[])[]
  products: readonly (readonly number[])[]
  /** Zero where left out. */
  rest?: number
  /** Frees directions that nobody else holds. */
  dispose?(): void
}

/** Coordinates of delta and nu in a subspace. */
interface Coordinates {
  weights: readonly number[]
  velocity: readonly number[]
}

/**
 * The difference (delta, nu) between weights and velocity of a run without some rows and of the run with them. Where the
 * gradients differ by c + H delta it obeys the step rule itself: nu' = m nu + c + H delta + d delta, and so on.
 *
 * Between enter() and leave() the vectors go by the rest of a subspace's curvature alone, and what the subspace adds is
 * kept in its coordinates: it enters the vectors once, however many passes there are.
 */
export class Deviation {
  readonly weights: NativeVector
  readonly velocity: NativeVector
  readonly #kept: NativeVector
  #within: { subspace: Subspace; whole: Coordinates; plain: Coordinates } | undefined
  /** Whether it is still zero. */
  #none = true

  constructor(like: NativeVector) {
    const make = () => new (native().Vector)(like, like.dtype)
    this.weights = make()
    this.velocity = make()
    this.#kept = make()
  }

  get none(): boolean {
    return this.#none
  }

  /** Curvature for the passes to come. */
  async enter(subspace: Subspace): Promise<void> {
    const [weights, velocity] = await Promise.all([this.weights, this.velocity].map((x) => along(subspace, x)))
    this.#within = { subspace, whole: { weights, velocity }, plain: { weights, velocity } }
  }

  /** Adds what the subspace did to the vectors. */
  async leave(): Promise<void> {
    if (this.#within === undefined) return
    const { subspace, whole, plain } = this.#within
    this.#within = undefined
    const add = (to: NativeVector, part: keyof Coordinates) =>
      addAlong(
        subspace,
        whole[part].map((x, i) => x - plain[part][i]),
        to,
      )
    await Promise.all([...add(this.weights, 'weights'), ...add(this.velocity, 'velocity')])
  }

  /** Steps whose gradients are others by `change`, the same in each, curvature aside; none: no row is left out of them. */
  async pass(rule: StepRule, from: number, to: number, change?: NativeVector): Promise<void> {
    if ((this.#none && change === undefined) || from >= to) return
    const within = this.#within
    const weightDecay = rule.weightDecay + (within?.subspace.rest ?? 0)
    const of = transition({ ...rule, weightDecay }, from, to)
    const { weights, velocity } = this
    const moved = Promise.all([
      this.#kept.copyFrom(weights),
      weights.scale(of.ww),
      weights.axpy(of.wv, velocity),
      velocity.scale(of.vv),
      velocity.axpy(of.vw, this.#kept),
      ...(change ? [weights.axpy(of.wg, change), velocity.axpy(of.vg, change)] : []),
    ])
    const [forced] = await Promise.all([within && change && along(within.subspace, change), moved])
    if (within !== undefined) {
      const { products } = within.subspace
      const f = forced ?? products.map(() => 0)
      const { weights: a, velocity: c } = within.plain
      within.plain = {
        weights: a.map((x, i) => of.ww * x + of.wv * c[i] + of.wg * f[i]),
        velocity: a.map((x, i) => of.vw * x + of.vv * c[i] + of.vg * f[i]),
      }
      within.whole = stepped(within.whole, products, f, rule, from, to)
    }
    this.#none = false
  }

  dispose(): void {
    for (const vector of [this.weights, this.velocity, this.#kept]) vector.dispose()
  }
}

const inner = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0)

/** Coordinates Q^T x. */
async function along({ directions, basis }: Subspace, x: NativeVector): Promise<number[]> {
  const dots = await Promise.all(directions.map((each) => x.dot(each)))
  return basis ? basis.map((row) => inner(row, dots)) : dots
}

/** to += Q c. */
function addAlong({ directions, basis }: Subspace, c: readonly number[], to: NativeVector): Promise<void>[] {
  return directions.map((each, j) => to.axpy(basis ? c.reduce((sum, x, i) => sum + x * basis[i][j], 0) : c[j], each))
}

/** Steps in the coordinates of a subspace: gradients T w + d w + f. */
function stepped(
  start: Coordinates,
  products: Subspace['products'],
  f: readonly number[],
  rule: StepRule,
  from: number,
  to: number,
): Coordinates {
  const [w, v] = [[...start.weights], [...start.velocity]]
  const { momentum, nesterov, weightDecay } = rule
  for (let step = from; step < to; step++) {
    const rate = rule.rate(step)
    const g = products.map((row, i) => inner(row, w) + weightDecay * w[i] + f[i])
    g.forEach((each, i) => {
      v[i] = momentum * v[i] + each
      w[i] -= rate * (nesterov ? each + momentum * v[i] : v[i])
    })
  }
  return { weights: w, velocity: v }
}

/** A symmetric operator: out = H x. */
export type Product = (x: NativeVector, out: NativeVector) => Promise<void>

/**
 * The operator on the Krylov space of some vectors, by a block Lanczos method with full reorthogonalisation: what repeated
 * steps need of H on those vectors (Saad 1992). Dispose it.
 */
export async function krylov(product: Product, starts: readonly NativeVector[], most: number): Promise<Subspace> {
  const [like] = starts
  const make = () => new (native().Vector)(like, like.dtype)
  const directions: NativeVector[] = []
  const images: NativeVector[] = []
  const products: number[][] = []
  try {
    for (let next = 0; directions.length < most && next < starts.length + images.length; next++) {
      const unit = make()
      directions.push(unit)
      const independent = await orthonormal(unit, starts[next] ?? images[next - starts.length], directions.slice(0, -1))
      if (!independent) {
        directions.pop()
        unit.dispose()
        continue
      }
      const image = make()
      images.push(image)
      await product(unit, image)
      products.push(await Promise.all(directions.map((each) => image.dot(each))))
    }
    const symmetric = products.map((row, i) => products.map((other, j) => (j <= i ? row[j] : other[i])))
    return { directions, products: symmetric, dispose: () => directions.forEach((each) => each.dispose()) }
  } catch (error) {
    for (const each of directions) each.dispose()
    throw error
  } finally {
    for (const each of images) each.dispose()
  }
}

/** unit = what x has beyond the directions, of length 1; false where that is nothing but rounding. */
async function orthonormal(unit: NativeVector, x: NativeVector, directions: readonly NativeVector[]): Promise<boolean> {
  const whole = Math.sqrt(await x.dot(x))
  await unit.copyFrom(x)
  for (let round = 0; round < 2; round++) {
    const along = await Promise.all(directions.map((each) => unit.dot(each)))
    await Promise.all(directions.map((each, i) => unit.axpy(-along[i], each)))
  }
  const length = Math.sqrt(await unit.dot(unit))
  if (!(length > whole * (x.dtype === 'float64' ? 1e-10 : 1e-4))) return false
  await unit.scale(1 / length)
  return true
}
