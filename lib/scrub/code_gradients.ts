// Gradients at the mnemonic codes, in float64 with running statistics.
import type { MnemonicCodes } from '../codes.js'
import type { Model } from '../model.js'
import type { PassOptions } from '../model/passes.js'
import { inTurns } from '../turns.js'
import type { ParameterVector } from '../vector.js'
import { toShares } from './fisher_ratio.js'

/**
 * How the squares of several codes become one Fisher diagonal. 'each': every code's are divided by their sum first;
 * 'none': as they are.
 */
export type Balance = 'each' | 'none'

/** All classes of the codes. */
export function allOf(codes: MnemonicCodes): number[] {
  return Array.from({ length: codes.classes }, (_, c) => c)
}

/** All but one. */
export function othersOf(codes: MnemonicCodes, label: number): number[] {
  return allOf(codes).filter((c) => c !== label)
}

/** One input with its label, as products take them. */
export type Row = ReturnType<MnemonicCodes['batch']>

/** The codes of some classes, one a row. */
export function* codeRows(codes: MnemonicCodes, classes: readonly number[]): Generator<Row> {
  for (const c of classes) yield codes.batch([c])
}

/**
 * Mean over rows of the squares of the loss's gradients, flat (Yamashita et al. 2024, above eq. 6).
 *
 * @param rows - `total` of them, taken one by one
 */
export async function codeFisher(
  work: Model,
  rows: Iterable<Row>,
  total: number,
  balance: Balance,
  { signal, onProgress }: PassOptions,
): Promise<Float64Array> {
  const squares = async (row: Row): Promise<Float64Array> => {
    const found = await flat(await work.fisherDiagonal(row, { precision: 'float64', ...(signal && { signal }) }))
    return balance === 'each' ? toShares(found) : found
  }
  const sum = new Float64Array(work.engine.network.vectorLength)
  let done = 0
  for (const row of rows) {
    const part = await squares(row)
    await inTurns(part.length, (from, to) => {
      for (let i = from; i < to; i++) sum[i] += part[i]
    })
    onProgress?.({ phase: 'fisherDiagonal', done: ++done, total })
  }
  await inTurns(sum.length, (from, to) => {
    for (let i = from; i < to; i++) sum[i] /= total
  })
  return sum
}

/**
 * Gradient of mean over c of z_c - z_own at the code of the class, flat: how far its logit lies below the mean of the
 * others. Unlike the loss's it favours none of the other classes; at a code learned well that one is nearly the second
 * likeliest class's alone.
 */
export async function deficitGradient(
  work: Model,
  codes: MnemonicCodes,
  label: number,
  { signal }: PassOptions,
): Promise<Float64Array> {
  const cotangent = new Float64Array(codes.classes).fill(1 / (codes.classes - 1))
  cotangent[label] = -1
  return flat(await work.vjp(codes.batch([label]), cotangent, { precision: 'float64', ...(signal && { signal }) }))
}

/** Read and disposed of. */
async function flat(vector: ParameterVector): Promise<Float64Array> {
  try {
    return (await vector.native.read()) as Float64Array
  } finally {
    vector.dispose()
  }
}
