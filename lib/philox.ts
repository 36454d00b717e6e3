// Philox4x32-10 (Salmon et al. 2011, table 2): numbers as a pure function of key and counter, the same on any machine.

const weyl0 = 0x9e3779b9
const weyl1 = 0xbb67ae85
const multiplier0 = 0xd2511f53
const multiplier1 = 0xcd9e8d57

/** High 32 bits of the product of two unsigned 32-bit integers. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carried = aLow * bHigh + (middle & 0xffff)
  return (aHigh * bHigh + (middle >>> 16) + (carried >>> 16)) >>> 0
}

/** Ten rounds on a counter of four words with a key of two; the four words of the result replace the counter. */
export function philox(counter: Uint32Array, key0: number, key1: number): void {
  let [c0, c1, c2, c3] = counter
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(multiplier0, c0)
    const high1 = mulHigh(multiplier1, c2)
    const low0 = Math.imul(multiplier0, c0) >>> 0
    const low1 = Math.imul(multiplier1, c2) >>> 0
    c0 = (high1 ^ c1 ^ key0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ key1) >>> 0
    c3 = low0
    key0 = (key0 + weyl0) >>> 0
    key1 = (key1 + weyl1) >>> 0
  }
  counter[0] = c0
  counter[1] = c1
  counter[2] = c2
  counter[3] = c3
}

/** What numbers are drawn for; each purpose has its own stream of the same seed. */
export const streams = {
  shuffle: 0,
  split: 1,
  augment: 2,
  labels: 3,
  initialise: 4,
  user: 5,
  codes: 6,
  noise: 7,
  assignment: 8,
  order: 9,
  piggyback: 10,
  blends: 11,
} as const

/** A stream of 32-bit words: a function of seed, stream and two indices (for instance epoch and row). */
export class RandomStream {
  readonly #key: [number, number]
  readonly #stream: number
  readonly #index: [number, number]
  readonly #block = new Uint32Array(4)
  #position = 0

  /** `seed`, `first` and `second`: whole numbers; of `seed` 53 bits count, of the others 32 and 24. */
  constructor(seed: number, stream: number, first = 0, second = 0) {
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]
    this.#stream = stream
    this.#index = [first, second]
  }

  /** The next word, 0 to 2^32 - 1. */
  next(): number {
    const within = this.#position & 3
    if (within === 0) {
      const block = this.#block
      block[0] = this.#position >>> 2
      block[1] = this.#index[0]
      block[2] = this.#index[1]
      block[3] = this.#stream
      philox(block, this.#key[0], this.#key[1])
    }
    this.#position++
    return this.#block[within]
  }

  /** A whole number below `bound` (1 to 2^32), each as likely as the others. */
  below(bound: number): number {
    const limit = 2 ** 32 - (2 ** 32 % bound)
    let word = this.next()
    while (word >= limit) word = this.next()
    return word % bound
  }
}
