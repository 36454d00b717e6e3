// Initial weights: normal values that are the same for one seed everywhere.
import { RandomStream, streams } from '../philox.js'

/**
 * Normal values of standard deviation `scale` (Box and Muller 1958).
 * @param seed a whole number from 0 to 2^53
 * @param index of the tensor; each has a sequence of its own
 */
export function normalValues(count: number, scale: number, seed: number, index: number): Float32Array {
  const values = new Float32Array(count)
  const stream = new RandomStream(seed, streams.initialise, index)
  for (let i = 0; i < count; i += 2) {
    const radius = scale * Math.sqrt(-2 * Math.log((stream.next() + 0.5) / 2 ** 32))
    const angle = (2 * Math.PI * (stream.next() + 0.5)) / 2 ** 32
    values[i] = radius * Math.cos(angle)
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}
