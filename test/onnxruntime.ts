// Runs exported files with onnxruntime.
import { InferenceSession, Tensor } from 'onnxruntime-node'

/** Logits (or what the file ends in) as float32, with their shape. */
export async function runOnnx(
  bytes: Uint8Array,
  inputs: Float32Array,
  inputShape: readonly number[],
): Promise<{ shape: readonly number[]; data: Float32Array }> {
  const session = await InferenceSession.create(bytes, { logSeverityLevel: 3, intraOpNumThreads: 1 })
  const size = inputShape.reduce((a, b) => a * b, 1)
  const feeds = { [session.inputNames[0]]: new Tensor('float32', inputs, [inputs.length / size, ...inputShape]) }
  const results = await session.run(feeds)
  const output = results[session.outputNames[0]]
  const copy = { shape: [...output.dims], data: Float32Array.from(output.data as Float32Array) }
  await session.release()
  return copy
}
