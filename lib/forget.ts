// forget(): takes rows back out: of a TangentModel, whose weights are released under a certificate, or of a record.
import { boundOf, type Bound } from './bound.js'
import { Dataset } from './dataset.js'
import { PalimpsestError } from './errors.js'
import { checkSignal, type PassOptions, type Progress } from './model/passes.js'
import { memory, native } from './native.js'
import {
  abortSignal,
  callback,
  check,
  integer,
  invalid,
  is,
  number,
  oneOf,
  optional,
  readOptions,
  withDefault,
} from './options.js'
import { promise, targetCheck, type Promised, type Target } from './forget/promise.js'
import { assumptionsOf, measuredOf, type ForgetReport } from './forget/report.js'
import { forgetFromRecord, type RecordForgetOptions, type RecordForgetReport } from './forget/record.js'
import { fittedRows, makeRequest, type ForgetRequest } from './forget/request.js'
import { solveRequest, type SolvedRequest } from './forget/solvers.js'
import { guaranteeOf, type Release } from './tangent/ledger.js'
import { passOptions } from './tangent/fit.js'
import { TangentModel, type TangentState } from './tangent.js'
import { TrainingRecord } from './record.js'

export type { ForgetReport, Target }

export interface ForgetOptions extends ForgetRequest, PassOptions {
  /**
   * Standard deviation s of the Gaussian noise on every linearised parameter, fixed before anything is solved. 'auto'
   * (default): the largest power of two that keeps the outputs' standard deviation under 5 % of the target scale on the
   * public rows. 'none': no noise, and then no guarantee but a bounded distance. A refit is exact and has none.
   */
  noise?: 'auto' | 'none' | number
  /** 'isotropic' (default), or 'curvature': N(0, s^2 H^-1), only with layers: 'head' where the factor is exact. */
  noiseShape?: 'isotropic' | 'curvature'
  /** Default { nats: 0.01 } where there is noise. */
  target?: Target
  /** Of the reported epsilon where the target is in nats, default 1e-6. */
  delta?: number
  /**
   * Without noise: certified relative distance |w - w*| / |w|, default 1e-4, of a refit 1e-3; of 'sgd' none, any distance
   * that is certified will do.
   */
  tolerance?: number
  /**
   * 'newton' (default): one Newton step on the retained problem, refined until certified. 'refit': from zero on the
   * retained rows, exact by construction. 'sgd': the paper's solver, a control.
   */
  solver?: 'newton' | 'refit' | 'sgd'
  /** What to do where the target is not met: 'throw' (default) ERR_NOT_CONVERGED, or 'refit'. */
  fallback?: 'throw' | 'refit'
  /** Most products with the curvature, default 500. */
  maxIterations?: number
  /** Epochs of solver: 'sgd', default 3. */
  epochs?: number
  /** Of the rows that the preconditioner samples, default 0. */
  seed?: number
  /**
   * Most bytes that linearised batches may take; default half of the free memory. Batches that do not fit are linearised
   * again in every pass; the result is the same, bit for bit.
   */
  memory?: number
  /** For tests only: noise of a known seed can be subtracted again. */
  noiseSeed?: number
}

const table = {
  where: optional(
    check('a selection of rows, or a list of them', (v): v is NonNullable<ForgetRequest['where']> => v !== undefined),
  ),
  rows: optional(check('a Dataset of the rows', (v): v is Dataset => v instanceof Dataset)),
  noise: optional(
    check(
      "'auto', 'none' or a number above 0",
      (v): v is 'auto' | 'none' | number => v === 'auto' || v === 'none' || (is.number(v) && v > 0),
    ),
  ),
  noiseShape: withDefault(oneOf('isotropic', 'curvature'), 'isotropic'),
  target: optional(targetCheck),
  delta: optional(number({ above: 0, below: 1 })),
  tolerance: optional(number({ above: 0 })),
  solver: withDefault(oneOf('newton', 'refit', 'sgd'), 'newton'),
  fallback: withDefault(oneOf('throw', 'refit'), 'throw'),
  maxIterations: withDefault(integer({ min: 1 }), 500),
  epochs: withDefault(integer({ min: 1 }), 3),
  seed: withDefault(integer(), 0),
  memory: optional(integer({ min: 1 })),
  noiseSeed: optional(integer()),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/**
 * Takes rows out of a training record, by default exactly: every shard that they touched goes on from the checkpoint before the first
 * slice that loses one, and ends with the bits of training without them (Bourtoule et al. 2021); then checkpoints and logs
 * that hold traces of them are removed. With `prefer` a direct update may serve the request instead, which comes without
 * guarantee (after Li et al. 2024; docs/retraining.md); plan() says which arm it would be.
 *
 * Errors: ERR_NOT_FITTED (keys that the record lacks, or that were revoked before; a record that is not complete),
 * ERR_INVALID_ARGUMENT (options, a request that means no row or all rows of a shard), ERR_ENVIRONMENT, ERR_WORKER,
 * ERR_DAMAGED, ERR_IO, ERR_DISPOSED; the record is then as before.
 */
export function forget(record: TrainingRecord, given: RecordForgetOptions): Promise<RecordForgetReport>
/**
 * Takes rows out of a fitted TangentModel: w := w - H^-1 grad L over the retained rows (Golatkar et al. 2021, eq. 9),
 * refined until a float64 duality-gap certificate shows that the published mean is as near to the exactly retrained
 * weights as noise and target ask; then the noise, then one swap. The noise scale is fixed first, then the target, then
 * the solver's tolerance. The mean without noise is dropped; a next request starts from the released weights.
 *
 * Errors: ERR_NOT_FITTED (no fit, or rows that were never fitted), ERR_NOT_CONVERGED (report attached),
 * ERR_INVALID_ARGUMENT (options, an empty forget or retain set, a target without noise, 'auto' without public data),
 * ERR_UNSUPPORTED (curvature-shaped noise without an exact factor), ERR_DISPOSED; the model is then bit for bit as before.
 */
export function forget(model: TangentModel, given: ForgetOptions): Promise<ForgetReport>
export async function forget(
  model: TangentModel | TrainingRecord,
  given: ForgetOptions | RecordForgetOptions,
): Promise<ForgetReport | RecordForgetReport> {
  if (model instanceof TrainingRecord) return forgetFromRecord(model, given)
  if (!(model instanceof TangentModel)) throw invalid('model', 'a TangentModel or a TrainingRecord', model)
  return forgetFromTangent(model, given)
}

async function forgetFromTangent(model: TangentModel, given: ForgetOptions): Promise<ForgetReport> {
  const options = readForgetOptions(model, given)
  const passes = passOptions(options.signal, options.onProgress)
  checkSignal(passes.signal)
  return model.exclusively('forget()', async (state) => {
    const start = performance.now()
    fittedRows(state)
    // Before a row is read.
    const promised = await promise(model, options, passes)
    const request = await makeRequest(state, options)
    const vectors = model.newVectors()
    const retained = request.data.without({ indices: request.positions })
    let solved: SolvedRequest | undefined
    try {
      solved = await solveRequest(model, state, { ...request, retained }, vectors, promised, options, passes)
      await addNoise(model, vectors, solved, promised, options.noiseSeed)
      checkSignal(passes.signal)
      return commit(model, state, { retained, vectors, solved, promised, request, options, start })
    } catch (error) {
      vectors.w.dispose()
      vectors.served.dispose()
      solved?.head?.dispose()
      retained.dispose()
      throw error
    }
  })
}

type Options = ReturnType<typeof readForgetOptions>

/** Options, and what of them goes together. */
function readForgetOptions(model: TangentModel, given: ForgetOptions) {
  const options = readOptions(given, table, 'forget()')
  const { target, tolerance, delta, solver, noiseShape } = options
  if (solver === 'refit') {
    if (options.noise !== undefined && options.noise !== 'none') {
      throw invalid('noise', "no noise beside solver: 'refit' (it is exact without)", options.noise)
    }
    if (target !== undefined) throw invalid('target', "no target beside solver: 'refit' (it is exact)", target)
  }
  const noise = solver === 'refit' ? 'none' : (options.noise ?? 'auto')
  if (noise === 'none' && target !== undefined) {
    throw invalid('target', "noise beside it (without noise no target can be met; use 'tolerance')", target)
  }
  if (noise !== 'none' && tolerance !== undefined) {
    throw invalid('tolerance', "noise: 'none' beside it (with noise the target decides)", tolerance)
  }
  if (delta !== undefined && target !== undefined && 'delta' in target && target.delta !== delta) {
    throw invalid('delta', `the target's own delta, ${target.delta}`, delta)
  }
  if (noiseShape === 'curvature' && (model.head === undefined || solver !== 'newton' || noise === 'none')) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      "curvature-shaped noise needs an exact factor: expected noise, layers: 'head' and solver: 'newton'",
    )
  }
  return { ...options, noise, tolerance: tolerance ?? defaultTolerance(noise, solver) } as const
}

/** With noise the target decides; the paper's solver is a control that need not meet any. */
function defaultTolerance(noise: 'auto' | 'none' | number, solver: ForgetOptions['solver']): number | undefined {
  if (noise !== 'none' || solver === 'sgd') return undefined
  return solver === 'refit' ? 1e-3 : 1e-4
}

/** One draw for one release; the vectors then hold what is published and nothing else. */
async function addNoise(
  model: TangentModel,
  vectors: Pick<TangentState, 'w' | 'served'>,
  solved: SolvedRequest,
  promised: Promised,
  noiseSeed: number | undefined,
): Promise<void> {
  const { w, served } = vectors
  if (promised.noiseScale > 0 && !solved.exact) {
    let shaped: Float64Array | undefined
    if (promised.shape === 'curvature') {
      const drawn = (await solved.head?.sample(promised.noiseScale, noiseSeed)) as Float64Array
      const byName = solved.head?.toParameters(drawn) as Record<string, Float64Array>
      shaped = Float64Array.from(model.parameters.flatMap((name) => [...byName[name]]))
    }
    await native().addReleaseNoise(w, model.parameters, promised.noiseScale, noiseSeed, shaped)
  }
  await served.copyFrom(w)
  await w.copyFrom(served)
}

interface Outcome {
  retained: Dataset
  vectors: Pick<TangentState, 'w' | 'served'>
  solved: SolvedRequest
  promised: Promised
  request: { positions: Int32Array; data: Dataset }
  options: Options
  start: number
}

/** Options as they were used, defaults included; not what names rows or a seed of noise, nor what had no part. */
function optionsUsed(options: Options, promised: Promised): Record<string, unknown> {
  const { where: _where, rows: _rows, signal: _signal, onProgress: _progress, noiseSeed: _seed, ...kept } = options
  const { target, delta } = promised
  const used = { ...kept, target, delta }
  return Object.fromEntries(Object.entries(used).filter(([, value]) => value !== undefined))
}

/** The swap, and the report. */
function commit(model: TangentModel, state: TangentState, outcome: Outcome): ForgetReport {
  const { retained, vectors, solved, promised, request, options } = outcome
  const exact = solved.exact
  const seeded = !exact && promised.noiseScale > 0 && options.noiseSeed !== undefined
  const release: Release = {
    number: state.ledger.length + 1,
    kind: exact ? 'refit' : 'forget',
    noiseScale: exact ? 0 : promised.noiseScale,
    noiseShape: exact ? 'none' : promised.shape,
    targetDistance: exact ? 0 : promised.distance,
    delta: promised.delta,
    guaranteed: exact ? guaranteeOf(0, promised.delta) : promised.guaranteed,
    ...(seeded && { seeded }),
  }
  const ledger = [...state.ledger, release]
  const gone = new Set(request.positions)
  const digests = state.digests.filter((_, i) => !gone.has(i))
  const assumptions = assumptionsOf(model, solved, promised)
  const report: ForgetReport = {
    verb: 'forget',
    options: optionsUsed(options, promised),
    forgotten: request.positions.length,
    retained: retained.size,
    noiseScale: release.noiseScale,
    solver: solved.solver,
    iterations: solved.iterations,
    passes: solved.passes,
    memory: solved.memory,
    bound: boundOf(ledger, release, measuredOf(solved, promised), assumptions),
    seconds: (performance.now() - outcome.start) / 1000,
    peakMemoryBytes: memory().peak,
    device: model.device,
  }
  // Last: whatever fails before leaves the model as it was.
  model.swap({ ...vectors, data: retained, digests, head: solved.head, ledger })
  state.data?.dispose()
  return report
}

/**
 * Forgets every user row: w = 0, the core bit for bit. Exact, without noise or computation.
 *
 * Errors: ERR_INVALID_ARGUMENT, ERR_DISPOSED.
 */
export async function forgetAll(model: TangentModel): Promise<Bound> {
  if (!(model instanceof TangentModel)) throw invalid('model', 'a TangentModel', model)
  return model.exclusively('forgetAll()', async (state) => {
    const release: Release = {
      number: state.ledger.length + 1,
      kind: 'forgetAll',
      noiseScale: 0,
      noiseShape: 'none',
      targetDistance: 0,
      delta: 1e-6,
      guaranteed: guaranteeOf(0, 1e-6),
    }
    const ledger = [...state.ledger, release]
    const bound = boundOf(ledger, release, null, [{ statement: 'the user weights are zero', check: 'w = 0' }])
    const vectors = model.newVectors()
    model.swap({ ...vectors, data: undefined, digests: [], head: undefined, ledger, untouched: true })
    state.data?.dispose()
    return bound
  })
}
