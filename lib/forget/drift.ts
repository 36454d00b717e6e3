// Drift correction: where the curvature comes from that carries a deviation on, the update log's own steps or products.
import type { SgdOptions } from '../fit/options.js'
import { native, type NativeVector } from '../native.js'
import { krylov, type Deviation, type Subspace } from './deviation.js'
import type { Segment } from './direct_update.js'
import { held, quasiNewton, type Secant } from './quasi_newton.js'
import type { RowSums } from './row_sums.js'

export interface Drift {
  /** Curvature over a segment, measured on some rows that stay; undefined where there is nothing to carry on. */
  curvature(
    segment: Segment,
    deviation: Deviation,
    probe: () => Int32Array,
    options: SgdOptions,
  ): Promise<Subspace | undefined>
  /** A run over other rows follows. */
  restart(): void
  dispose(): void
}

/** Products with the Hessian at the start of a segment, on the Krylov space of the deviation. */
export class ProductDrift implements Drift {
  readonly #sums: RowSums
  readonly #most: number

  /** @param most - products a segment */
  constructor(sums: RowSums, most: number) {
    this.#sums = sums
    this.#most = most
  }

  async curvature(
    segment: Segment,
    deviation: Deviation,
    probe: () => Int32Array,
    options: SgdOptions,
  ): Promise<Subspace | undefined> {
    if (deviation.none) return undefined
    const { weights } = segment.start
    const rows = probe()
    const found = await krylov(
      (tangents, out) => this.#sums.sum('hessianProduct', rows, options, { weights, out, tangents }),
      [deviation.weights, deviation.velocity],
      this.#most,
    )
    return { ...found, products: held(found.products, segment) }
  }

  restart(): void {}
  dispose(): void {}
}

/** Secants that are kept, the newest: of the run's steps, and of the deviation itself. */
const mostSecants = 4
const mostOwn = 2
/** Secants whose cosine between step and change is below this are noise or negative curvature. */
const leastCosine = 0.1
/** Of the least curvature along a step of the run: taken for all directions that no secant has. By measurement. */
const restShare = 2

/**
 * The quasi-Newton matrix of the steps between logged states, and of the deviation itself (the pairs of DeltaGrad, Wu et
 * al. 2020), gradients at both ends on the same few rows: no product with a Hessian, two small gradients a logged state.
 */
export class SecantDrift implements Drift {
  readonly #sums: RowSums
  /** Of the run's steps, and of the deviation itself. */
  readonly #secants: Secant[] = []
  readonly #own: Secant[] = []
  /** Of a run's rows, and their gradient at the start of the segment. */
  #probe: Int32Array | undefined
  #gradient: NativeVector | undefined
  #least = Infinity

  constructor(sums: RowSums) {
    this.#sums = sums
  }

  async curvature(
    segment: Segment,
    deviation: Deviation,
    probe: () => Int32Array,
    options: SgdOptions,
  ): Promise<Subspace | undefined> {
    this.#probe ??= probe()
    const { start, end } = segment
    const before = (this.#gradient ??= await this.#gradientAt(start.weights, options))
    if (!deviation.none) {
      const moved = this.#make(end)
      await Promise.all([moved.copyFrom(start.weights), moved.axpy(1, deviation.weights)])
      const change = await this.#gradientAt(moved, options)
      await Promise.all([moved.copyFrom(deviation.weights), change.axpy(-1, before)])
      await this.#add(this.#own, { step: moved, change }, mostOwn)
    }
    const after = (this.#gradient = await this.#gradientAt(end, options))
    const step = this.#make(end)
    await Promise.all([step.copyFrom(end), step.axpy(-1, start.weights), before.scale(-1), before.axpy(1, after)])
    const curved = await this.#add(this.#secants, { step, change: before }, mostSecants)
    if (curved > 0) this.#least = Math.min(this.#least, curved)
    if (deviation.none && segment.losses.length === 0) return undefined
    const rest = restShare * (Number.isFinite(this.#least) ? this.#least : 0)
    return quasiNewton([...this.#secants, ...this.#own], rest, segment)
  }

  #make(like: NativeVector): NativeVector {
    return new (native().Vector)(like, like.dtype)
  }

  async #gradientAt(weights: NativeVector, options: SgdOptions): Promise<NativeVector> {
    const out = this.#make(weights)
    await this.#sums.sum('gradient', this.#probe as Int32Array, options, { weights, out })
    return out
  }

  /** Adds a secant that tells of positive curvature; gives its curvature, 0 where it does not. */
  async #add(secants: Secant[], { step, change }: Secant, most: number): Promise<number> {
    const [sy, ss, yy] = await Promise.all([step.dot(change), step.dot(step), change.dot(change)])
    const curved = sy > leastCosine * Math.sqrt(ss * yy)
    if (curved) secants.push({ step, change })
    for (const old of [...(curved ? [] : [{ step, change }]), ...secants.splice(0, secants.length - most)]) {
      old.step.dispose()
      old.change.dispose()
    }
    return curved ? sy / ss : 0
  }

  restart(): void {
    this.#probe = undefined
    this.#gradient?.dispose()
    this.#gradient = undefined
  }

  dispose(): void {
    this.restart()
    for (const { step, change } of [...this.#secants.splice(0), ...this.#own.splice(0)]) {
      step.dispose()
      change.dispose()
    }
  }
}
