// The paper's solver as a control: stochastic gradient descent on 1/2 v^T H v - g^T v (Golatkar et al. 2021, eq. 11).
import { shuffled } from '../data/batches.js'
import type { Dataset } from '../dataset.js'
import type { Engine } from '../model/products.js'
import { checkSignal, type PassOptions } from '../model/passes.js'
import type { NativeVector } from '../native.js'
import type { QuadraticProblem } from './quadratic.js'

export interface SgdOptions extends PassOptions {
  epochs: number
  batchSize: number
  seed: number
}

const momentum = 0.9
const powerSteps = 12

/** w := w - v after `epochs` of momentum SGD on the auxiliary problem; g is computed once over all rows. Returns steps. */
export async function descend(
  engine: Engine,
  data: Dataset,
  problem: QuadraticProblem,
  w: NativeVector,
  options: SgdOptions,
): Promise<number> {
  const make = () => problem.vector('float32')
  const [point, g, v, velocity, q] = [make(), make(), make(), make(), make()]
  try {
    await point.copyFrom(w)
    await problem.gradient(point, g, options)
    const rate = 1 / (2 * (await largestEigenvalue(problem, g, q, v, options)))
    await Promise.all([v.fill(0), velocity.fill(0)])
    const size = Math.min(options.batchSize, data.size)
    using lease = await engine.programs.lease({
      quantity: 'ggnProduct',
      loss: 'squaredError',
      dtype: 'float32',
      parameters: problem.parameters,
      batch: size,
    })
    const parameters = await engine.weights('float32')
    let steps = 0
    for (let epoch = 0; epoch < options.epochs; epoch++) {
      const order = shuffled(data.size, options.seed, epoch)
      for (const batch of data.batches({ size, order, dropLast: true })) {
        checkSignal(options.signal)
        const weights = 1 / batch.rows
        const call = {
          rows: batch.rows,
          inputs: batch.inputs,
          parameters,
          weights,
          tangents: v,
          sums: q,
          outputs: false,
        }
        await Promise.all([
          lease.program.run(call),
          q.axpy(problem.damping, v),
          q.axpy(-1, g),
          velocity.scale(momentum),
          velocity.axpy(1, q),
          v.axpy(-rate, velocity),
        ])
        steps++
      }
      problem.passes.float32 += 1
      options.onProgress?.({ phase: 'sgd', done: epoch + 1, total: options.epochs })
    }
    await w.axpy(-1, v)
    return steps
  } finally {
    for (const vector of [point, g, v, velocity, q]) vector.dispose()
  }
}

/** lambda_max(H) by the power method from the gradient's direction; an estimate from below. Leaves q zero elsewhere. */
async function largestEigenvalue(
  problem: QuadraticProblem,
  start: NativeVector,
  q: NativeVector,
  v: NativeVector,
  options: PassOptions,
): Promise<number> {
  await v.copyFrom(start)
  let value = problem.damping
  for (let i = 0; i < powerSteps; i++) {
    const size = Math.sqrt(await v.dot(v))
    if (!(size > 0)) break
    await v.scale(1 / size)
    await problem.product(v, q, options)
    value = Math.max(value, await v.dot(q))
    await v.copyFrom(q)
  }
  return value
}
