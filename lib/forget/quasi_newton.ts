// A limited-memory quasi-Newton matrix of secants, as a curvature on their span and one number for all that is beyond it.
import type { NativeVector } from '../native.js'
import type { StepRule, Subspace } from './deviation.js'
import { mapEigenvalues } from './symmetric.js'

/** A secant: over the step s the gradient changed by y, with s^T y > 0. */
export interface Secant {
  step: NativeVector
  change: NativeVector
}

/** Steps with their rates. */
export interface Steps {
  from: number
  to: number
  rule: StepRule
}

/** A vector whose part beyond those before it is a smaller share than this adds no direction. */
const independent = 1e-3

/**
 * BFGS from B = rest I: B - (B s)(B s)^T / (s^T B s) + y y^T / (y^T s) for each secant, oldest first, in coordinates of the
 * secants' span; eigenvalues held (the matrix of DeltaGrad, Wu et al. 2020; Byrd, Nocedal and Schnabel 1994). The secants'
 * own vectors are the directions, and their inner products all that is read of them.
 */
export async function quasiNewton(secants: readonly Secant[], rest: number, steps: Steps): Promise<Subspace> {
  const directions = secants.flatMap(({ step, change }) => [step, change])
  const products = await gram(directions)
  const basis = orthonormal(products)
  const coordinates = (j: number) => basis.map((row) => inner(row, products[j]))
  let b = basis.map((_, i) => basis.map((__, j) => (i === j ? rest : 0)))
  secants.forEach((_, i) => {
    b = updated(b, coordinates(2 * i), coordinates(2 * i + 1))
  })
  return { directions, basis, products: held(b, steps), rest: Math.min(rest, mostCurvature(steps)) }
}

async function gram(vectors: readonly NativeVector[]): Promise<number[][]> {
  const lower = await Promise.all(vectors.map((x, i) => Promise.all(vectors.slice(0, i + 1).map((y) => x.dot(y)))))
  return lower.map((row, i) => lower.map((other, j) => (j <= i ? row[j] : other[i])))
}

/** Coefficients of orthonormal vectors in vectors with these inner products, by Gram and Schmidt's method, twice. */
function orthonormal(products: readonly (readonly number[])[]): number[][] {
  const found: number[][] = []
  const dot = (a: readonly number[], b: readonly number[]) =>
    inner(
      a,
      products.map((row) => inner(row, b)),
    )
  products.forEach((row, i) => {
    let c = row.map((_, j) => Number(i === j))
    for (let round = 0; round < 2; round++) {
      const shares = found.map((each) => dot(each, c))
      c = c.map((x, j) => x - shares.reduce((sum, share, k) => sum + share * found[k][j], 0))
    }
    const length = Math.sqrt(Math.max(dot(c, c), 0))
    if (length > independent * Math.sqrt(row[i])) found.push(c.map((x) => x / length))
  })
  return found
}

const inner = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0)

function updated(b: readonly (readonly number[])[], s: readonly number[], y: readonly number[]): number[][] {
  const bs = b.map((row) => inner(row, s))
  const [sbs, ys] = [inner(s, bs), inner(y, s)]
  return b.map((row, i) => row.map((x, j) => x - (sbs > 0 ? (bs[i] * bs[j]) / sbs : 0) + (y[i] * y[j]) / ys))
}

/** Where a step of the largest rate takes a direction's deviation away at once. */
function mostCurvature({ rule, from, to }: Steps): number {
  let rate = 0
  for (let step = from; step < to; step++) rate = Math.max(rate, rule.rate(step))
  return 1 / rate
}

/** Eigenvalues between 0 and 1 / rate. Training was stable: beyond, curvature of one state would blow up over the steps. */
export function held(products: readonly (readonly number[])[], steps: Steps): number[][] {
  const most = mostCurvature(steps)
  return mapEigenvalues(products, (lambda) => Math.min(Math.max(lambda, 0), most))
}
