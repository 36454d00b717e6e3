// What a model answers on a set: accuracy and loss, by class too, and how far its outputs lie from a reference's.
import type { Dataset } from '../dataset.js'
import type { Model } from '../model.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import { largest } from '../model/products.js'
import type { FloatArray } from '../native.js'
import { clopperPearson, type Interval } from './intervals.js'

export interface ClassReadout {
  class: number
  rows: number
  loss: number
  accuracy: number
}

export interface SetReadout {
  rows: number
  /** Mean cross-entropy, nats. */
  loss: number
  /** 0 to 1, with its exact interval. */
  accuracy: number
  accuracyInterval: Interval
  /** Of the classes that the set has. */
  classes: ClassReadout[]
}

/** Means over the rows of a set, softmax outputs p of the model and q of the reference. */
export interface OutputDistances {
  /** Sum over the classes of |p - q|: 0 to 2. */
  activation: number
  /** Jensen-Shannon divergence of p and q, nats: 0 to ln 2. */
  jensenShannon: number
  /** Share of rows with the same largest output. */
  agreement: number
}

export interface SetPass {
  model: { readout: SetReadout; losses: Float64Array }
  reference?: { readout: SetReadout; losses: Float64Array }
  distances?: OutputDistances
}

/** Rows whose outputs are held at once. */
const chunk = 4096

class Tally {
  readonly losses: Float64Array
  readonly #sums: { rows: number; loss: number; right: number }[]

  constructor(rows: number, classes: number) {
    this.losses = new Float64Array(rows)
    this.#sums = Array.from({ length: classes }, () => ({ rows: 0, loss: 0, right: 0 }))
  }

  add(row: number, label: number, probabilities: Float64Array, logLabel: number): void {
    const sum = this.#sums[label]
    this.losses[row] = -logLabel
    sum.rows++
    sum.loss -= logLabel
    sum.right += Number(largest(probabilities, 0, probabilities.length) === label)
  }

  readout(confidence: number): SetReadout {
    const present = this.#sums.map((sum, label) => ({ ...sum, label })).filter(({ rows }) => rows > 0)
    const total = (of: 'rows' | 'loss' | 'right') => present.reduce((sum, each) => sum + each[of], 0)
    const [rows, right] = [total('rows'), total('right')]
    return {
      rows,
      loss: total('loss') / rows,
      accuracy: right / rows,
      accuracyInterval: clopperPearson(right, rows, confidence),
      classes: present.map((each) => ({
        class: each.label,
        rows: each.rows,
        loss: each.loss / each.rows,
        accuracy: each.right / each.rows,
      })),
    }
  }
}

/** softmax(z) into `p`; gives log softmax(z)_label. */
function softmaxInto(logits: FloatArray, start: number, label: number, p: Float64Array): number {
  let most = -Infinity
  for (let j = 0; j < p.length; j++) most = Math.max(most, logits[start + j])
  let total = 0
  for (let j = 0; j < p.length; j++) total += p[j] = Math.exp(logits[start + j] - most)
  for (let j = 0; j < p.length; j++) p[j] /= total
  return logits[start + label] - most - Math.log(total)
}

/** One pass over a set, with both models side by side; only outputs of a piece of it are held. */
export async function readSet(
  phase: string,
  data: Dataset,
  model: Model,
  reference: Model | undefined,
  confidence: number,
  { signal, onProgress }: PassOptions,
): Promise<SetPass> {
  const k = model.classes
  const [p, q] = [new Float64Array(k), new Float64Array(k)]
  const [own, other] = [new Tally(data.size, k), reference && new Tally(data.size, k)]
  const sums = { activation: 0, jensenShannon: 0, agreement: 0 }
  const { labels } = data
  for (let start = 0; start < data.size; start += chunk) {
    checkSignal(signal)
    const rows = Math.min(chunk, data.size - start)
    using part = data.subset(Array.from({ length: rows }, (_, i) => start + i))
    const options = signal && { signal }
    const logits = await model.evaluate(part, options)
    const others = await reference?.evaluate(part, options)
    for (let i = 0; i < rows; i++) {
      const label = labels[start + i]
      own.add(start + i, label, p, softmaxInto(logits, i * k, label, p))
      if (other === undefined || others === undefined) continue
      other.add(start + i, label, q, softmaxInto(others, i * k, label, q))
      addDistances(sums, p, q)
    }
    onProgress?.({ phase, done: start + rows, total: data.size })
  }
  const result = (tally: Tally) => ({ readout: tally.readout(confidence), losses: tally.losses })
  if (other === undefined) return { model: result(own) }
  const mean = (sum: number) => sum / data.size
  const { activation, jensenShannon, agreement } = sums
  const distances = {
    activation: mean(activation),
    jensenShannon: mean(jensenShannon),
    agreement: mean(agreement),
  }
  return { model: result(own), reference: result(other), distances }
}

function addDistances(sums: OutputDistances, p: Float64Array, q: Float64Array): void {
  for (let j = 0; j < p.length; j++) {
    const middle = (p[j] + q[j]) / 2
    sums.activation += Math.abs(p[j] - q[j])
    if (p[j] > 0) sums.jensenShannon += (p[j] * Math.log(p[j] / middle)) / 2
    if (q[j] > 0) sums.jensenShannon += (q[j] * Math.log(q[j] / middle)) / 2
  }
  sums.agreement += Number(largest(p, 0, p.length) === largest(q, 0, q.length))
}
