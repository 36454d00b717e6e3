// Runs an exported model in onnxruntime and compares it with what Palimpsest computes.
import { stat } from 'node:fs/promises'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { Dataset } from '../../lib/index.js'
import { normalizedRows } from './digits.js'

export interface ExportCheck {
  bytes: number
  outputs: Float32Array
  /** Largest difference of two outputs. */
  difference: number
}

export async function checkExport(path: string, rows: Dataset, expected: Float32Array): Promise<ExportCheck> {
  const session = await InferenceSession.create(path)
  const input = new Tensor('float32', normalizedRows(rows), [rows.size, ...rows.shape])
  const result = await session.run({ [session.inputNames[0]]: input })
  const outputs = result[session.outputNames[0]].data as Float32Array
  const difference = outputs.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0)
  await session.release()
  return { bytes: (await stat(path)).size, outputs, difference }
}
