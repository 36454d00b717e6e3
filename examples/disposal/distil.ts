// The strong and simple control: fresh weights learn the target task from the answers of the model before.
import type { Model } from '../../lib/index.js'
import { type Dataset } from '../../lib/index.js'

const softmaxRows = (logits: ArrayLike<number>, k: number): Float32Array => {
  const answers = new Float32Array(logits.length)
  for (let row = 0; row < logits.length; row += k) {
    let [most, sum] = [-Infinity, 0]
    for (let i = 0; i < k; i++) most = Math.max(most, logits[row + i])
    for (let i = 0; i < k; i++) sum += answers[row + i] = Math.exp(logits[row + i] - most)
    for (let i = 0; i < k; i++) answers[row + i] /= sum
  }
  return answers
}

/** SGD with momentum on KL(teacher || model) over the rows, whose gradient by the logits is p - p_teacher. */
export async function distil(
  fresh: Model,
  teacher: Model,
  rows: Dataset,
  { epochs, learningRate, batchSize = 64 }: { epochs: number; learningRate: number; batchSize?: number },
): Promise<Model> {
  const k = teacher.classes
  const model = await fresh.withHead(k)
  const answers = softmaxRows(await teacher.evaluate(rows), k)
  const weights = await model.weights()
  const velocity = weights.zeros()
  const steps = Math.floor(rows.size / batchSize)
  for (let step = 0; step < epochs * steps; step++) {
    // Strides through the rows in an order that differs from epoch to epoch.
    const [epoch, at] = [Math.floor(step / steps), step % steps]
    const positions = Array.from({ length: batchSize }, (_, i) => (at + i * steps + epoch * 7 * i) % rows.size)
    const batch = rows.subset(positions)
    const p = softmaxRows(await model.evaluate(batch), k)
    const cotangent = p.map((value, i) => (value - answers[positions[Math.floor(i / k)] * k + (i % k)]) / batchSize)
    const gradient = await model.vjp(batch, cotangent)
    await velocity.scale(0.9)
    await velocity.axpy(1, gradient)
    await weights.axpy(-learningRate * (0.5 + 0.5 * Math.cos((Math.PI * step) / (epochs * steps))), velocity)
    await model.setWeights(weights)
    gradient.dispose()
    batch.dispose()
  }
  velocity.dispose()
  weights.dispose()
  return model
}
