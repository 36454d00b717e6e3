// Knowledge retention: the divergence of a network's answers on a task from those that it gave before.
import type { Dataset } from '../dataset.js'
import type { PassOptions } from '../model/passes.js'
import { evaluate, runPass, type Engine } from '../model/products.js'
import { native, type NativeVector } from '../native.js'
import { inTurns } from '../turns.js'

export class Retention {
  readonly #tempered: Engine
  readonly #temperature: number
  readonly #parameters: readonly string[]
  readonly #target: Dataset
  /** softmax(f / tau) of the model before, [N, K], and the mean over rows of its entropy, row by row. */
  readonly #answers: Float32Array
  readonly #entropies: Float64Array

  private constructor(
    tempered: Engine,
    temperature: number,
    parameters: readonly string[],
    target: Dataset,
    answers: Float32Array,
    entropies: Float64Array,
  ) {
    this.#tempered = tempered
    this.#temperature = temperature
    this.#parameters = parameters
    this.#target = target
    this.#answers = answers
    this.#entropies = entropies
  }

  /**
   * @param tempered - a network whose logits are already divided by the temperature, at the weights of the model before
   * @param parameters - what is differentiated
   */
  static async of(
    tempered: Engine,
    temperature: number,
    parameters: readonly string[],
    target: Dataset,
    passes: PassOptions,
  ): Promise<Retention> {
    const logits = (await evaluate(tempered, target, passes)) as Float32Array
    const entropies = await softmaxInPlace(logits, tempered.classes)
    return new Retention(tempered, temperature, parameters, target, logits, entropies)
  }

  /**
   * KR = tau^2 mean over rows of KL(softmax(f_before / tau) || softmax(f / tau)) over the rows at these positions (Hinton,
   * Vinyals and Dean 2015), and its gradient, which the caller disposes. As f / tau are the logits, this is tau^2 times the
   * cross-entropy against the answers before, less their entropy.
   */
  async gradient(positions: Int32Array, passes: PassOptions): Promise<{ value: number; gradient: NativeVector }> {
    const k = this.#tempered.classes
    const batch = this.#target.subset(positions)
    const scale = this.#temperature ** 2 / positions.length
    const gradient = new (native().Vector)(this.#tempered.network, 'float32')
    let value = 0
    const targets = (start: number, rows: number) => {
      const found = new Float32Array(rows * k)
      positions.subarray(start, start + rows).forEach((position, i) => {
        found.set(this.#answers.subarray(position * k, (position + 1) * k), i * k)
        value -= scale * this.#entropies[position]
      })
      return found
    }
    try {
      await runPass(this.#tempered, {
        phase: 'gradient',
        program: { quantity: 'gradient', dtype: 'float32', loss: 'crossEntropy', parameters: this.#parameters },
        data: batch,
        options: passes,
        needLabels: false,
        inputs: ({ start, rows }) => ({ weights: scale, targets: targets(start, rows) }),
        sums: gradient,
        collect: ([, losses], { rows }) => {
          for (let i = 0; i < rows; i++) value += losses[i]
        },
      })
      return { value, gradient }
    } catch (error) {
      gradient.dispose()
      throw error
    } finally {
      batch.dispose()
    }
  }
}

/** Logits [N, K] become probabilities; gives each row's entropy in nats. */
async function softmaxInPlace(logits: Float32Array, k: number): Promise<Float64Array> {
  const entropies = new Float64Array(logits.length / k)
  const one = (row: number) => {
    const own = logits.subarray(row * k, (row + 1) * k)
    const most = own.reduce((a, b) => Math.max(a, b), -Infinity)
    const powers = Array.from(own, (logit) => Math.exp(logit - most))
    const sum = powers.reduce((a, b) => a + b, 0)
    powers.forEach((power, i) => {
      own[i] = power / sum
      if (power > 0) entropies[row] -= (power / sum) * Math.log(power / sum)
    })
  }
  const rows = (from: number, to: number) => {
    for (let row = from; row < to; row++) one(row)
  }
  await inTurns(entropies.length, rows, k)
  return entropies
}
