// Random words of the operating system, or of a seed where a test gives one, and uniform and normal values from them.
import { randomBytes } from 'node:crypto'
import { RandomStream } from './philox.js'

/** 32-bit words, one a call. */
export type Words = () => number

export function randomWords(seed: number | undefined, stream: number): Words {
  if (seed !== undefined) {
    const seeded = new RandomStream(seed, stream)
    return () => seeded.next()
  }
  let block = new Uint32Array(0)
  let position = 0
  return () => {
    if (position === block.length) {
      block = new Uint32Array(Uint8Array.from(randomBytes(4096)).buffer)
      position = 0
    }
    return block[position++]
  }
}

/** In (0, 1). */
export const uniformOf = (word: Words): number => (word() + 0.5) / 2 ** 32

/** N(0, 1) (Box and Muller 1958). */
export const normalOf = (word: Words): number =>
  Math.sqrt(-2 * Math.log(uniformOf(word))) * Math.cos(2 * Math.PI * uniformOf(word))
