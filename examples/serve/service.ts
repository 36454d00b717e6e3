// What the service does, without HTTP: predictions, deletion requests one after another, and the public ledger.
import {
  bound,
  forget,
  forgetAll,
  type Bound,
  type ForgetOptions,
  type ForgetReport,
  type Guarantee,
  type Release,
  type TangentModel,
} from '../../lib/index.js'
import { ServedModel, type Prediction } from './served_model.js'

export interface ServiceOptions {
  /** A fitted model whose rows have owners. */
  user: TangentModel
  /** Noise and target of every request, fixed for all of them. */
  request?: Pick<ForgetOptions, 'noise' | 'noiseShape' | 'target' | 'delta'>
  /** Writes the model down before it is served, so that a restart cannot bring the old one back. */
  save?: (user: TangentModel) => Promise<void>
  /** The whole report, measured values included: for the operator's private log only. */
  log?: (report: ForgetReport) => void
}

/** What anybody may see of a release. */
export interface PublicRecord {
  release: number
  guaranteed: Guarantee | null
  statement: string
}

export class Service {
  readonly #options: ServiceOptions
  readonly #served = new ServedModel()
  /** Deletion requests run one after another; predictions do not wait for them. */
  #queue: Promise<unknown> = Promise.resolve()

  private constructor(options: ServiceOptions) {
    this.#options = options
  }

  static async open(options: ServiceOptions): Promise<Service> {
    const service = new Service(options)
    await service.#serve()
    return service
  }

  get inputShape(): number[] {
    return this.#options.user.inputShape
  }

  predict(inputs: Float32Array): Promise<Prediction> {
    return this.#served.predict(inputs, this.inputShape)
  }

  /** Forgets an owner's rows and serves the new model; undefined where the owner has no rows (any more). */
  forgetOwner(owner: string): Promise<PublicRecord | undefined> {
    const done = this.#queue.then(() => this.#forgetNow(owner))
    this.#queue = done.catch(() => undefined)
    return done
  }

  async #forgetNow(owner: string): Promise<PublicRecord | undefined> {
    const { user, request, save, log } = this.#options
    const rows = user.data?.select({ owner }).length ?? 0
    if (rows === 0) return undefined
    let result: Bound
    if (rows === user.data?.size) {
      result = await forgetAll(user)
    } else {
      const report = await forget(user, { where: { owner }, ...request })
      log?.(report)
      result = report.bound
    }
    await save?.(user)
    await this.#serve()
    return { release: user.ledger.length, guaranteed: result.guaranteed, statement: result.statement }
  }

  /** Every release with its preset target; nothing here depends on the rows that were forgotten. */
  ledger(): { releases: Release[]; total: Guarantee | null; statement: string } {
    const { user } = this.#options
    const { total, statement } = bound(user)
    return { releases: user.ledger, total, statement }
  }

  async close(): Promise<void> {
    await this.#queue
    await this.#served.close()
  }

  async #serve(): Promise<void> {
    const { user } = this.#options
    await this.#served.replace(await user.exportOnnx(), user.ledger.length)
  }
}
