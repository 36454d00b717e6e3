// What exact retraining gives: the ridge problem of a tangent model, built column by column and solved in float64.
import type { Dataset, TangentModel } from '../lib/index.js'

/** Solves A x = b for a symmetric positive definite A [n][n] by Cholesky; A is overwritten. */
export function solveDense(a: Float64Array[], b: Float64Array): Float64Array {
  const n = b.length
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i][j]
      for (let k = 0; k < j; k++) sum -= a[i][k] * a[j][k]
      if (i === j && !(sum > 0)) throw new Error('expected a positive definite matrix')
      a[i][j] = i === j ? Math.sqrt(sum) : sum / a[j][j]
    }
  }
  const x = b.slice()
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= a[i][k] * x[k]
    x[i] /= a[i][i]
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= a[k][i] * x[k]
    x[i] /= a[i][i]
  }
  return x
}

export interface Retrained {
  /** Weights by parameter, one after the other in the model's order. */
  weights: Float64Array
  /** H = (1/n) J^T J + mu I. */
  curvature: Float64Array[]
}

/** The exact minimiser over `data`, found without anything that fit() or forget() use but jvp and evaluate. */
export async function retrain(model: TangentModel, data: Dataset): Promise<Retrained> {
  const { core, damping, targetScale, classes } = model
  const precision = 'float64'
  const columns: Float64Array[] = []
  for (const { name, shape } of core.parameters.filter((each) => model.parameters.includes(each.name))) {
    const size = shape.reduce((a, b) => a * b, 1)
    for (let i = 0; i < size; i++) {
      const unit = new Float64Array(size)
      unit[i] = 1
      const v = core.vector({ [name]: unit }, { dtype: precision })
      columns.push((await core.jvp(data, v, { precision })) as Float64Array)
      v.dispose()
    }
  }
  const residual = Float64Array.from(await core.evaluate(data, { precision }))
  data.labels.forEach((label, i) => (residual[i * classes + label] -= targetScale))
  const inner = (a: Float64Array, b: Float64Array) => {
    let sum = 0
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
    return sum / data.size
  }
  const curvature = columns.map((a, i) => Float64Array.from(columns, (b, j) => inner(a, b) + (i === j ? damping : 0)))
  const right = Float64Array.from(columns, (column) => -inner(column, residual))
  const weights = solveDense(
    curvature.map((row) => row.slice()),
    right,
  )
  // One step of refinement.
  const rest = right.map((value, i) => value - curvature[i].reduce((sum, h, j) => sum + h * weights[j], 0))
  const step = solveDense(
    curvature.map((row) => row.slice()),
    rest,
  )
  return { weights: weights.map((value, i) => value + step[i]), curvature }
}

/** The user weights of the linearised parameters, in the model's order. */
export async function userWeights(model: TangentModel): Promise<Float64Array> {
  const w = await model.weights()
  const names = model.core.parameters.map(({ name }) => name).filter((name) => model.parameters.includes(name))
  const values = Float64Array.from(names.flatMap((name) => [...w.getFloat64(name)]))
  w.dispose()
  return values
}

export function distanceOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < b.length; i++) sum += (a[i] - b[i]) ** 2
  return Math.sqrt(sum)
}

export const normOf = (a: ArrayLike<number>): number => distanceOf(new Float64Array(a.length), a)
