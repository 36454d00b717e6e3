// Mnemonic codes in training: rows of a batch replaced by the code of their class, or blended with it.
import type { MnemonicCodes } from '../codes.js'
import type { Batch } from '../data/batches.js'
import type { RowSource } from '../native.js'
import { RandomStream, streams } from '../philox.js'

/** How fit() shows a model its codes. */
export interface MnemonicFitOptions {
  codes: MnemonicCodes
  /** t_mix, the share of rows that meet their code (default 0.1; Yamashita et al. 2024). */
  rate?: number
  /**
   * 'replace' (default): the code in the row's place. 'blend': l x + (1 - l) code, l uniform in [0, 1), a draw a row
   * (Shibata et al. 2021, who blend every row: rate 1).
   */
  mixing?: 'replace' | 'blend'
}

/** The same as reports and checkpoints hold it: the codes by their digest alone. */
export interface MnemonicRecord {
  digest: string
  rate: number
  mixing: 'replace' | 'blend'
}

/** A batch whose rows lie in a store, or were put together here. */
export type FitBatch = Omit<Batch, 'inputs'> & { inputs: RowSource | Float32Array }

/** The batches with codes: which rows meet theirs is a function of seed, epoch and the row's place in the store. */
export function* withCodes(
  batches: Iterable<Batch>,
  { codes, rate = 0.1, mixing = 'replace' }: MnemonicFitOptions,
  seed: number,
  epoch: number,
): Generator<FitBatch, void, undefined> {
  for (const batch of batches) {
    const { indices } = batch.inputs
    const inputs = gathered(batch.inputs)
    const width = inputs.length / indices.length
    indices.forEach((row, i) => {
      const random = new RandomStream(seed, streams.codes, epoch, row)
      if (random.next() >= rate * 2 ** 32) return
      const code = codes.row(batch.labels[i])
      const target = inputs.subarray(i * width, (i + 1) * width)
      if (mixing === 'replace') return target.set(code)
      const share = random.next() / 2 ** 32
      target.forEach((value, j) => {
        target[j] = share * value + (1 - share) * code[j]
      })
    })
    yield { ...batch, inputs }
  }
}

/** The rows as the backend's gathering kernel makes them: normalised, cropped out of a zero border, flipped. */
function gathered({ store, gather, indices, crops, flips }: RowSource): Float32Array {
  const { channels, height, width, pad, scale, shift } = gather
  const size = channels * height * width
  const scratch = new Uint8Array(store.width * (store.type === 'uint8' ? 1 : 4))
  const row = store.type === 'uint8' ? scratch : new Float32Array(scratch.buffer)
  const out = new Float32Array(indices.length * size)
  indices.forEach((index, i) => {
    store.copyRow(index, scratch)
    const [dy, dx] = crops ? [crops[2 * i] - pad, crops[2 * i + 1] - pad] : [0, 0]
    const mirrored = flips?.[i] === 1
    let at = i * size
    for (let c = 0; c < channels; c++) {
      const factor = scale[scale.length === 1 ? 0 : c]
      const offset = shift[shift.length === 1 ? 0 : c]
      for (let h = dy; h < height + dy; h++) {
        const line = (c * height + h) * width
        for (let w = 0; w < width; w++, at++) {
          const from = (mirrored ? width - 1 - w : w) + dx
          if (h >= 0 && h < height && from >= 0 && from < width) {
            out[at] = Math.fround(row[line + from] * factor) + offset
          }
        }
      }
    }
  })
  return out
}
