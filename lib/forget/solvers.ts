// What takes rows out: the closed form of a head, the certified Newton step, a cold refit, or the paper's SGD.
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import type { PassOptions } from '../model/passes.js'
import { native, type NativeVector } from '../native.js'
import { certify, relativeDistance, requireDistance } from '../tangent/certificate.js'
import { solveCold, withProblem } from '../tangent/fit.js'
import type { HeadRows } from '../tangent/head.js'
import type { SolveMemory } from '../tangent/quadratic.js'
import { descend } from '../tangent/sgd.js'
import { solve } from '../tangent/solve.js'
import type { TangentModel, TangentState } from '../tangent.js'

export interface SolvedRequest {
  solver: 'newton' | 'refit' | 'sgd'
  /** True where the weights come from the retained rows alone, by the routine that would have been used without the rest. */
  exact: boolean
  iterations: number
  passes: { float32: number; float64: number }
  /** What was held; null where no batch was linearised twice. */
  memory: SolveMemory | null
  /** Certified at the published mean. */
  distance: number
  energy: number | null
  residual: number
  allowance: number
  /** What the noise scale divides: the distance, or sqrt(E) with the factor's inexactness under shaped noise. */
  mahalanobis: number
  /** Of the noise grid. */
  spacing?: number
  head: HeadRows | undefined
}

/** What the solver has to reach. */
export interface Goal {
  noiseScale: number
  shape: 'isotropic' | 'curvature' | 'none'
  /** D_T; null without noise. */
  distance: number | null
}

export interface SolverOptions {
  solver: 'newton' | 'refit' | 'sgd'
  fallback: 'throw' | 'refit'
  /** Relative; undefined with noise, and for a control that need not meet any. */
  tolerance: number | undefined
  maxIterations: number
  epochs: number
  seed: number
  memory: number | undefined
}

/** Of a refit that takes the place of a release with noise, which has no tolerance of its own. */
const refitTolerance = 1e-3

interface Rows {
  positions: Int32Array
  retained: Dataset
}

type Vectors = Pick<TangentState, 'w' | 'served'>

/** Leaves the mean that is to be published in vectors.w. */
export async function solveRequest(
  model: TangentModel,
  state: TangentState,
  rows: Rows,
  vectors: Vectors,
  goal: Goal,
  options: SolverOptions,
  passes: PassOptions,
): Promise<SolvedRequest> {
  if (options.solver === 'refit') return refit(model, rows, vectors, options, passes)
  try {
    await vectors.w.copyFrom(state.w)
    if (options.solver === 'sgd') return await paperSgd(model, state, rows, vectors, goal, options, passes)
    if (model.head !== undefined) return await closedForm(model, state, rows, vectors, goal, options, passes)
    return await newton(model, rows, vectors, goal, options, passes)
  } catch (error) {
    const missed = error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED'
    if (!missed || options.fallback !== 'refit') throw error
    return refit(model, rows, vectors, options, passes)
  }
}

/** From zero on the retained rows: no warm start, sketch or statistic of the others. */
async function refit(
  model: TangentModel,
  rows: Rows,
  vectors: Vectors,
  options: SolverOptions,
  passes: PassOptions,
): Promise<SolvedRequest> {
  await vectors.w.fill(0)
  const { maxIterations, seed, memory: budget } = options
  const tolerance = options.tolerance ?? refitTolerance
  const how = { tolerance, maxIterations, seed, ...(budget !== undefined && { memory: budget }), ...passes }
  const solved = await solveCold(model, rows.retained, vectors, how)
  const { iterations, memory, distance, head } = solved
  return {
    solver: 'refit',
    exact: true,
    iterations,
    passes: solved.passes,
    memory,
    distance,
    energy: null,
    residual: 0,
    allowance: 0,
    mahalanobis: 0,
    head,
  }
}

/** Brings a mean to the grid of its noise, or to float32 where there is none. */
function placement(
  model: TangentModel,
  vectors: Vectors,
  goal: Goal,
): (w: NativeVector) => Promise<number | undefined> {
  return async (w) => {
    if (goal.noiseScale > 0) return native().roundToNoiseGrid(w, model.parameters, goal.noiseScale)
    await vectors.served.copyFrom(w)
    await w.copyFrom(vectors.served)
    return undefined
  }
}

async function newton(
  model: TangentModel,
  rows: Rows,
  vectors: Vectors,
  goal: Goal,
  options: SolverOptions,
  passes: PassOptions,
): Promise<SolvedRequest> {
  const place = placement(model, vectors, goal)
  let spacing: number | undefined
  const target =
    goal.distance === null ? { relative: options.tolerance as number } : { distance: goal.noiseScale * goal.distance }
  return withProblem(model, rows.retained, options.memory, async (problem) => {
    const { certificate, iterations } = await solve(problem, vectors.w, {
      ...passes,
      target,
      mostIterations: options.maxIterations,
      seed: options.seed,
      place: async (w) => {
        spacing = await place(w)
      },
    })
    return {
      solver: 'newton',
      exact: false,
      iterations,
      passes: { ...problem.passes },
      memory: await problem.memory(),
      ...certificate,
      mahalanobis: certificate.distance,
      ...(spacing && { spacing }),
      head: undefined,
    }
  })
}

/** The control: as many epochs as were asked for, then the same certificate; without noise nothing need be met. */
async function paperSgd(
  model: TangentModel,
  state: TangentState,
  rows: Rows,
  vectors: Vectors,
  goal: Goal,
  options: SolverOptions,
  passes: PassOptions,
): Promise<SolvedRequest> {
  return withProblem(model, rows.retained, options.memory, async (problem) => {
    const { w } = vectors
    const { epochs, seed } = options
    const how = { ...passes, epochs, seed, batchSize: 256 }
    const iterations = await descend(model.core.engine, rows.retained, problem, w, how)
    const spacing = await placement(model, vectors, goal)(w)
    const rho = problem.vector('float64')
    try {
      const certificate = await certify(problem, { w, witness: w, rho }, passes)
      await requireGoal(certificate.distance, w, goal, options)
      return {
        solver: 'sgd',
        exact: false,
        iterations,
        passes: { ...problem.passes },
        memory: await problem.memory(),
        ...certificate,
        mahalanobis: certificate.distance,
        ...(spacing && { spacing }),
        head: await state.head?.without(rows.positions, passes),
      }
    } finally {
      rho.dispose()
    }
  })
}

/** The head in closed form: subtract, factor, solve, certify. */
async function closedForm(
  model: TangentModel,
  state: TangentState,
  rows: Rows,
  vectors: Vectors,
  goal: Goal,
  options: SolverOptions,
  passes: PassOptions,
): Promise<SolvedRequest> {
  if (state.head === undefined) throw new PalimpsestError('ERR_NOT_FITTED', 'expected a model that was fitted')
  const head = await state.head.without(rows.positions, passes)
  try {
    const w = await head.solve(model.damping)
    for (const [name, values] of Object.entries(head.toParameters(w))) await vectors.w.set(name, values)
    const spacing = await placement(model, vectors, goal)(vectors.w)
    const certificate = await head.certify(head.fromVector(vectors.w), model.damping)
    const { residual, distance, energy, allowance } = certificate
    const metric = goal.shape === 'curvature' ? curvatureDistance(certificate, goal) : distance
    await requireGoal(metric, vectors.w, goal, options)
    return {
      solver: 'newton',
      exact: false,
      iterations: 0,
      passes: { float32: 0, float64: 0 },
      memory: null,
      distance,
      energy,
      residual,
      allowance,
      mahalanobis: metric,
      ...(spacing && { spacing }),
      head,
    }
  } catch (error) {
    head.dispose()
    throw error
  }
}

/** Shaped noise: sqrt(E), with what the factor's own inexactness may add in nats. */
function curvatureDistance(certificate: { energy: number; covarianceNats: number }, goal: Goal): number {
  return Math.sqrt(certificate.energy) + goal.noiseScale * Math.sqrt(2 * certificate.covarianceNats)
}

/** With noise s D_T, without the relative tolerance; the control has none that it was not given. */
async function requireGoal(distance: number, w: NativeVector, goal: Goal, options: SolverOptions): Promise<void> {
  if (goal.distance !== null) return requireDistance(distance, goal.noiseScale * goal.distance)
  if (options.tolerance !== undefined) requireDistance(distance, await relativeDistance(w, options.tolerance))
}
