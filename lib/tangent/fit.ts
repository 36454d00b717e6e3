// fit() on a TangentModel: the quadratic problem solved to a tolerance, the rows remembered.
import { Dataset } from '../dataset.js'
import { memory } from '../native.js'
import { invalid, abortSignal, callback, integer, number, optional, readOptions, withDefault } from '../options.js'
import { checkData } from '../model/held_data.js'
import { checkSignal, type PassOptions, type Progress } from '../model/passes.js'
import { relativeDistance, requireDistance } from './certificate.js'
import { HeadRows } from './head.js'
import { QuadraticProblem, type SolveMemory } from './quadratic.js'
import { solve } from './solve.js'
import type { TangentModel, TangentState } from '../tangent.js'

export interface TangentFitOptions extends PassOptions {
  /** Certified relative distance |w - w*| / |w| of the solution, default 1e-3. */
  tolerance?: number
  /** Most products with the curvature, default 500. */
  maxIterations?: number
  /** Of the rows that the preconditioner samples, default 0. */
  seed?: number
  /**
   * Most bytes that linearised batches may take; default half of the free memory. Batches that do not fit are linearised
   * again in every pass; the result is the same, bit for bit.
   */
  memory?: number
}

export interface TangentFitReport {
  verb: 'fit'
  options: { tolerance: number; maxIterations: number; seed: number; memory?: number }
  rows: number
  /** Products with the curvature; 0 in closed form. */
  iterations: number
  /** Sweeps over the rows, the preconditioner's and the verification's included. */
  passes: { float32: number; float64: number }
  /** Which batches were linearised once and held, which again in every pass; null in closed form. */
  memory: SolveMemory | null
  /** Certified bound on |w - w*| to the exact minimiser. */
  distance: number
  seconds: number
  peakMemoryBytes: number
  device: string
}

const table = {
  tolerance: withDefault(number({ above: 0 }), 1e-3),
  maxIterations: withDefault(integer({ min: 1 }), 500),
  seed: withDefault(integer(), 0),
  memory: optional(integer({ min: 1 })),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/** Works on the problem of some rows; what it held is freed as soon as the work is over, however it ends. @internal */
export async function withProblem<T>(
  model: TangentModel,
  data: Dataset,
  memory: number | undefined,
  work: (problem: QuadraticProblem) => Promise<T>,
): Promise<T> {
  const problem = new QuadraticProblem({
    engine: model.core.engine,
    data,
    parameters: model.parameters,
    damping: model.damping,
    targetScale: model.targetScale,
    ...(memory !== undefined && { memory }),
  })
  try {
    return await work(problem)
  } finally {
    problem.dispose()
  }
}

export interface Solved {
  iterations: number
  passes: { float32: number; float64: number }
  memory: SolveMemory | null
  distance: number
  head: HeadRows | undefined
}

/** w := the minimiser over `data` from w = 0, by closed form or to a tolerance. Nothing but `data` is read. @internal */
export async function solveCold(
  model: TangentModel,
  data: Dataset,
  vectors: Pick<TangentState, 'w' | 'served'>,
  options: { tolerance: number; maxIterations: number; seed: number; memory?: number } & PassOptions,
): Promise<Solved> {
  const { w, served } = vectors
  if (model.head !== undefined) {
    const head = await HeadRows.of(model.core.engine, model.head, data, model.targetScale, options)
    try {
      const exact = await head.solve(model.damping)
      for (const [name, values] of Object.entries(head.toParameters(exact))) await w.set(name, values)
      await served.copyFrom(w)
      await w.copyFrom(served)
      const { distance } = await head.certify(head.fromVector(w), model.damping)
      requireDistance(distance, await relativeDistance(w, options.tolerance))
      return { iterations: 0, passes: { float32: 0, float64: 1 }, memory: null, distance, head }
    } catch (error) {
      head.dispose()
      throw error
    }
  }
  return withProblem(model, data, options.memory, async (problem) => {
    const { certificate, iterations } = await solve(problem, w, {
      ...options,
      target: { relative: options.tolerance },
      mostIterations: options.maxIterations,
      place: async (point) => {
        await served.copyFrom(point)
        await point.copyFrom(served)
      },
    })
    const memory = await problem.memory()
    return { iterations, passes: { ...problem.passes }, memory, distance: certificate.distance, head: undefined }
  })
}

/**
 * Fits the user weights to `data`: minimises 1/(2n) sum |f_core(x) + J(x) w - target|^2 + mu/2 |w|^2 from w = 0. The rows
 * are remembered by digest, so that later requests are checked against them; `data` must not be disposed meanwhile.
 *
 * Errors: ERR_NOT_CONVERGED (the report says how far), ERR_SHAPE, ERR_INVALID_ARGUMENT; the model is then as before.
 */
export async function fitTangent(
  model: TangentModel,
  data: Dataset,
  given: TangentFitOptions = {},
): Promise<TangentFitReport> {
  const options = readOptions(given, table, 'fit()')
  if (!(data instanceof Dataset)) throw invalid('data', 'a Dataset', data)
  checkData(data, model.core.engine, true)
  checkSignal(options.signal)
  return model.exclusively('fit()', async (state) => {
    const start = performance.now()
    const vectors = model.newVectors()
    const keep = data.subset(Array.from({ length: data.size }, (_, i) => i))
    try {
      const digests = await keep.digests()
      const { signal, onProgress, memory: budget, ...others } = options
      const rest = { ...others, ...(budget !== undefined && { memory: budget }) }
      const solved = await solveCold(model, keep, vectors, { ...rest, ...passOptions(signal, onProgress) })
      const release = {
        number: state.ledger.length + 1,
        kind: 'fit',
        noiseScale: 0,
        noiseShape: 'none',
        targetDistance: null,
        delta: 0,
        guaranteed: null,
      } as const
      model.swap({ ...vectors, data: keep, digests, head: solved.head, ledger: [...state.ledger, release] })
      state.data?.dispose()
      return {
        verb: 'fit',
        options: rest,
        rows: keep.size,
        iterations: solved.iterations,
        passes: solved.passes,
        memory: solved.memory,
        distance: solved.distance,
        seconds: (performance.now() - start) / 1000,
        peakMemoryBytes: memory().peak,
        device: model.device,
      }
    } catch (error) {
      vectors.w.dispose()
      vectors.served.dispose()
      keep.dispose()
      throw error
    }
  })
}

/** Pass options without undefined members. @internal */
export function passOptions(signal?: AbortSignal, onProgress?: (progress: Progress) => void): PassOptions {
  return { ...(signal && { signal }), ...(onProgress && { onProgress }) }
}
