// Runs an exported model in onnxruntime and compares it with what Palimpsest computes.
import { stat } from 'node:fs/promises'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { Dataset } from '../../lib/index.js'
import { normalizedRows } from './digits.js'

export interface ExportCheck {
  bytes: number
  outputs: Float32Array
  /** Largest difference of two outputs, over the rows that agree. */
  difference: number
  /** Share of the rows whose outputs all lie within `tolerance` of the expected ones. */
  agreeing: number
}

/** Outputs reach 15: some hundred float32 roundings. */
const tolerance = 1e-4

/**
 * Both sides round the core's activations differently in the last bit. Where one of them lies that close to the kink of a
 * Leaky-ReLU or to a tie of a pool, either slope is a derivative there, and the two sides may take different ones: such rows
 * are counted instead of compared.
 */
export async function checkExport(path: string, rows: Dataset, expected: Float32Array): Promise<ExportCheck> {
  const session = await InferenceSession.create(path)
  const input = new Tensor('float32', normalizedRows(rows), [rows.size, ...rows.shape])
  const result = await session.run({ [session.inputNames[0]]: input })
  const outputs = result[session.outputNames[0]].data as Float32Array
  await session.release()
  const classes = outputs.length / rows.size
  const apart = Array.from({ length: rows.size }, (_, row) => {
    const mine = expected.subarray(row * classes, (row + 1) * classes)
    return mine.reduce((most, value, k) => Math.max(most, Math.abs(value - outputs[row * classes + k])), 0)
  })
  const agreeing = apart.filter((difference) => difference <= tolerance)
  return {
    bytes: (await stat(path)).size,
    outputs,
    difference: Math.max(0, ...agreeing),
    agreeing: agreeing.length / rows.size,
  }
}
