// Codes blended with drawn patterns: inputs around a code that its class should keep, though no data are there.
import type { MnemonicCodes } from '../codes.js'
import { streams } from '../philox.js'
import { normalOf, randomWords, type Words } from '../random_words.js'
import { inTurns } from '../turns.js'
import type { Row } from './code_gradients.js'

/** Pixels of a picture that share a value of its pattern, each way: coarse as what convolutions look for in pictures. */
const coarse = 4

/**
 * Rows (code + pattern) / 2 with the code's label; a pattern is normal with the mean and deviation that the codes' values
 * have, for inputs [C, H, W] at a quarter of the resolution and enlarged by nearest neighbour, for others a draw a value.
 * Patterns are no secret: the same calls draw the same ones.
 */
export class CodeBlends {
  readonly #codes: MnemonicCodes
  readonly #word: Words = randomWords(0, streams.blends)
  readonly #mean: number
  readonly #deviation: number

  private constructor(codes: MnemonicCodes, mean: number, deviation: number) {
    this.#codes = codes
    this.#mean = mean
    this.#deviation = deviation
  }

  static async of(codes: MnemonicCodes): Promise<CodeBlends> {
    let [sum, squares, count] = [0, 0, 0]
    for (let c = 0; c < codes.classes; c++) {
      const values = codes.row(c)
      await inTurns(values.length, (from, to) => {
        for (let i = from; i < to; i++) {
          sum += values[i]
          squares += values[i] * values[i]
        }
      })
      count += values.length
    }
    const mean = sum / count
    return new CodeBlends(codes, mean, Math.sqrt(Math.max(0, squares / count - mean ** 2)))
  }

  /** Draws the same patterns from the first on. */
  again(): CodeBlends {
    return new CodeBlends(this.#codes, this.#mean, this.#deviation)
  }

  /** `count` new ones of each class, each drawn as it is taken. */
  *draw(classes: readonly number[], count: number): Generator<Row> {
    for (const c of classes) for (let i = 0; i < count; i++) yield this.#blend(c)
  }

  #blend(label: number): Row {
    const { inputs, labels } = this.#codes.batch([label])
    const pattern = this.#pattern()
    inputs.forEach((value, i) => {
      inputs[i] = (value + this.#mean + this.#deviation * pattern(i)) / 2
    })
    return { inputs, labels }
  }

  /** The pattern's value at a place in the input, before mean and deviation. */
  #pattern(): (i: number) => number {
    const { shape } = this.#codes
    if (shape.length !== 3) return () => normalOf(this.#word)
    const [channels, height, width] = shape
    const [rows, columns] = [Math.ceil(height / coarse), Math.ceil(width / coarse)]
    const values = Float64Array.from({ length: channels * rows * columns }, () => normalOf(this.#word))
    return (i) => {
      const [plane, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width]
      return values[(plane * rows + Math.floor(y / coarse)) * columns + Math.floor(x / coarse)]
    }
  }
}
