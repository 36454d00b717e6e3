// Ensemble: the models of a record's shards, predicting together by mean softmax or by vote.
import { PalimpsestError } from './errors.js'
import { combined } from './ensemble/network.js'
import { Model } from './model.js'
import { withHeld, type Data, type Held } from './model/held_data.js'
import { readProductOptions } from './model/options.js'
import { evaluate, largest, type ProductOptions } from './model/products.js'
import { writeFileAtomically } from './model/files.js'
import { exportNetwork } from './onnx/index.js'
import { invalid, oneOf, readOptions, withDefault } from './options.js'
import type { Standing } from './record/standing.js'

/** How models predict together. */
export interface AggregateOptions {
  /**
   * 'mean' (default): mean over the models of softmax(f). 'vote': the share of models whose largest logit a class is; a
   * model in which several are largest splits its vote.
   */
  aggregate?: 'mean' | 'vote'
}

type Aggregate = NonNullable<AggregateOptions['aggregate']>
const aggregateOption = withDefault(oneOf('mean', 'vote'), 'mean')

/** Models with one input shape and one set of classes. They are the ensemble's: its `dispose` frees them. */
export class Ensemble {
  readonly #models: readonly Model[]
  readonly #standing: Standing | undefined
  #disposed = false

  private constructor(models: readonly Model[], standing: Standing | undefined) {
    this.#models = models
    this.#standing = standing
  }

  /** Of one model or more; ERR_SHAPE where they do not fit together. */
  static of(models: readonly Model[], standing?: Standing): Ensemble {
    if (!Array.isArray(models) || models.length === 0 || !models.every((model) => model instanceof Model)) {
      throw invalid('models', 'a list of one Model or more', models)
    }
    const list: readonly Model[] = models
    const shape = ({ inputShape, classes }: Model) => `[${inputShape.join(', ')}] to ${classes} classes`
    const other = list.find((model) => shape(model) !== shape(list[0]))
    if (other) throw new PalimpsestError('ERR_SHAPE', `expected models of ${shape(list[0])}, got ${shape(other)}`)
    return new Ensemble([...list], standing)
  }

  /** One for each shard. */
  get models(): Model[] {
    return [...this.#models]
  }

  get inputShape(): number[] {
    return this.#models[0].inputShape
  }

  /** K */
  get classes(): number {
    return this.#models[0].classes
  }

  /** What the record said when it gave these models. @internal */
  get standing(): Standing | undefined {
    return this.#standing
  }

  /** Probabilities [N, K], float32; what is added up is added in float64, in the order of the models. */
  async predict(data: Data, options: ProductOptions & AggregateOptions = {}): Promise<Float32Array> {
    this.#check()
    const { aggregate: given, ...rest } = options
    const aggregate = aggregateOption.read(given, 'aggregate')
    const read = readProductOptions(rest, 'predict()')
    return withHeld(data, this.#models[0].engine, false, (held) => this.#predict(held, aggregate, read))
  }

  async #predict(held: Held, aggregate: Aggregate, options: ProductOptions): Promise<Float32Array> {
    const k = this.classes
    const sums = new Float64Array(held.size * k)
    for (const model of this.#models) {
      const logits = await evaluate(model.engine, held, options)
      const add = aggregate === 'mean' ? addSoftmax : addVote
      for (let at = 0; at < logits.length; at += k) add(logits.subarray(at, at + k), sums.subarray(at, at + k))
    }
    return Float32Array.from(sums, (sum) => sum / this.#models.length)
  }

  /** Accuracy, and for 'mean' the mean of -log p_y; a vote has no loss. */
  async measure(
    data: Data,
    options: ProductOptions & AggregateOptions = {},
  ): Promise<{ accuracy: number; loss: number | null }> {
    this.#check()
    const { aggregate: given, ...rest } = options
    const aggregate = aggregateOption.read(given, 'aggregate')
    const read = readProductOptions(rest, 'measure()')
    return withHeld(data, this.#models[0].engine, true, (held) => this.#measure(held, aggregate, read))
  }

  async #measure(
    held: Held,
    aggregate: Aggregate,
    options: ProductOptions,
  ): Promise<{ accuracy: number; loss: number | null }> {
    const probabilities = await this.#predict(held, aggregate, options)
    const labels = held.labels as Int32Array
    const { size: rows } = held
    const k = this.classes
    let right = 0
    let loss = 0
    for (let i = 0; i < rows; i++) {
      right += Number(largest(probabilities, i * k, k) === labels[i])
      loss -= Math.log(Math.max(probabilities[i * k + labels[i]], 2 ** -126))
    }
    return { accuracy: right / rows, loss: aggregate === 'vote' ? null : loss / rows }
  }

  /** All models as one ONNX graph, opset 17: input `input`, output `probabilities` [N, K]; written whole or not at all. */
  async exportOnnx(path?: string, options: AggregateOptions = {}): Promise<Uint8Array> {
    this.#check()
    const { aggregate } = readOptions(options, { aggregate: aggregateOption }, 'exportOnnx()')
    const { network, weights } = await combined(this.#models, aggregate)
    const bytes = exportNetwork(network, weights, undefined, { output: 'probabilities' })
    if (path !== undefined) await writeFileAtomically(path, bytes)
    return bytes
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees the models. Idempotent. */
  dispose(): void {
    this.#disposed = true
    for (const model of this.#models) model.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #check(): void {
    if (this.#disposed)
      throw new PalimpsestError('ERR_DISPOSED', 'expected an ensemble in use, got one that was disposed')
  }
}

type Row = Float32Array | Float64Array

/** sums += exp(f - max f) / sum exp(f - max f) */
function addSoftmax(logits: Row, sums: Float64Array): void {
  const most = Math.max(...logits)
  let total = 0
  for (const logit of logits) total += Math.exp(logit - most)
  logits.forEach((logit, i) => (sums[i] += Math.exp(logit - most) / total))
}

/** sums += [f = max f] / #[f = max f] */
function addVote(logits: Row, sums: Float64Array): void {
  const most = Math.max(...logits)
  let winners = 0
  for (const logit of logits) winners += Number(logit === most)
  logits.forEach((logit, i) => (sums[i] += Number(logit === most) / winners))
}
