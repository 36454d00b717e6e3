// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): random words from key and counter.

const [multiplier0, multiplier1] = [0xd2511f53, 0xcd9e8d57]
const [weyl0, weyl1] = [0x9e3779b9, 0xbb67ae85]

/** The high word of a 32 x 32 bit product. */
function highProduct(a: number, b: number): number {
  const [aHigh, aLow, bHigh, bLow] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff]
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carry = aLow * bHigh + (middle & 0xffff)
  return aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)
}

/** Replaces a counter of four words by four random ones, with a key of two. */
export function philox(words: Uint32Array, key0: number, key1: number): void {
  let [k0, k1] = [key0, key1]
  for (let round = 0; round < 10; round++) {
    const [c0, c1, c2, c3] = words
    words[0] = highProduct(multiplier1, c2) ^ c1 ^ k0
    words[1] = Math.imul(multiplier1, c2)
    words[2] = highProduct(multiplier0, c0) ^ c3 ^ k1
    words[3] = Math.imul(multiplier0, c0)
    k0 = (k0 + weyl0) >>> 0
    k1 = (k1 + weyl1) >>> 0
  }
}

/**
 * Normal values of standard deviation `scale` (Box and Muller 1958), the same for one seed and stream everywhere.
 * @param seed a whole number from 0 to 2^53
 * @param stream one a tensor
 */
export function normalValues(count: number, scale: number, seed: number, stream: number): Float32Array {
  const values = new Float32Array(Math.ceil(count / 4) * 4)
  const words = new Uint32Array(4)
  const [key0, key1] = [seed >>> 0, Math.floor(seed / 2 ** 32)]
  for (let i = 0; i < count; i += 4) {
    words[0] = i / 4
    words[1] = stream
    words[2] = words[3] = 0
    philox(words, key0, key1)
    for (const pair of [0, 2]) {
      const radius = scale * Math.sqrt(-2 * Math.log((words[pair] + 0.5) / 2 ** 32))
      const angle = (2 * Math.PI * (words[pair + 1] + 0.5)) / 2 ** 32
      values[i + pair] = radius * Math.cos(angle)
      values[i + pair + 1] = radius * Math.sin(angle)
    }
  }
  return values.subarray(0, count).slice()
}
