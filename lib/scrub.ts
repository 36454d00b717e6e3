// scrub(): destroys a class, a task or a skill in a trained network; every method runs on a copy and is swapped in at once.
import { closest } from 'fastest-levenshtein'
import { uncertified } from './bound.js'
import { Dataset } from './dataset.js'
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { checkSignal, type PassOptions, type Progress } from './model/passes.js'
import { memory, native } from './native.js'
import { abortSignal, callback, describe, invalid, is, optional, readOptions, type OptionsOf } from './options.js'
import { dispose, type DisposeOptions, type DisposeReport } from './scrub/dispose.js'
import { dampening, type DampeningOptions, type DampeningReport } from './scrub/dampening.js'
import { fineTune, type FineTuneOptions, type FineTuneReport } from './scrub/fine_tune.js'
import { fisherNoise, type FisherNoiseOptions, type FisherNoiseReport } from './scrub/fisher_noise.js'
import { gradientAscent, type GradientAscentOptions, type GradientAscentReport } from './scrub/gradient_ascent.js'
import { prune, type PruneOptions, type PruneReport } from './scrub/prune.js'
import type { CommonScrubReport, ScrubMethod, ScrubOutcome } from './scrub/method.js'
import { mnemonic, type MnemonicOptions, type MnemonicReport } from './scrub/mnemonic.js'
import { retrain, type RetrainOptions, type RetrainReport } from './scrub/retrain.js'

export type ScrubOptions =
  | FineTuneOptions
  | MnemonicOptions
  | PruneOptions
  | DisposeOptions
  | DampeningOptions
  | FisherNoiseOptions
  | GradientAscentOptions
  | RetrainOptions
export type ScrubReport =
  | FineTuneReport
  | MnemonicReport
  | PruneReport
  | DisposeReport
  | DampeningReport
  | FisherNoiseReport
  | GradientAscentReport
  | RetrainReport

/** A method a line: its name, and the file that holds options, loop and report. */
const methods: Readonly<Record<string, ScrubMethod>> = {
  mnemonic,
  prune,
  dispose,
  fineTune,
  dampening,
  fisherNoise,
  gradientAscent,
  retrain,
}

const common = { signal: optional(abortSignal), onProgress: optional(callback<(progress: Progress) => void>()) }

/**
 * Destroys what a network knows of a class, a task or a skill. The methods are approximate: none has a certificate, and
 * bound() says so; audit() measures beside a retrained model. What a method's options mean is told at its own type.
 *
 * The model changes in one step at the end; an error or an abort leaves it, and its files, bit for bit as before.
 *
 * Errors: ERR_INVALID_ARGUMENT for options (unknown methods and keys are answered with the nearest known), a disposed or
 * meanwhile changed model, ERR_SHAPE for data that do not fit, ERR_UNSUPPORTED for what a method cannot do with this
 * network, ERR_NOT_CONVERGED, ERR_OUT_OF_MEMORY, ERR_DISPOSED, and the reason of an aborted signal.
 */
export function scrub(model: Model, options: FineTuneOptions): Promise<FineTuneReport>
export function scrub(model: Model, options: MnemonicOptions): Promise<MnemonicReport>
export function scrub(model: Model, options: DampeningOptions): Promise<DampeningReport>
export function scrub(model: Model, options: FisherNoiseOptions): Promise<FisherNoiseReport>
export function scrub(model: Model, options: GradientAscentOptions): Promise<GradientAscentReport>
export function scrub(model: Model, options: RetrainOptions): Promise<RetrainReport>
export function scrub(model: Model, options: PruneOptions): Promise<PruneReport>
export function scrub(model: Model, options: DisposeOptions): Promise<DisposeReport>
export function scrub(model: Model, options: ScrubOptions): Promise<ScrubReport>
export async function scrub(model: Model, given: ScrubOptions): Promise<ScrubReport> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  const start = performance.now()
  const { name, method, options } = readMethod(given)
  const { signal, onProgress } = options
  checkSignal(signal)
  method.check?.(model, options)
  const passes: PassOptions = { ...(signal && { signal }), ...(onProgress && { onProgress }) }
  const revision = model.revision
  const work = await model.clone()
  let outcome: ScrubOutcome<object> | undefined
  try {
    outcome = await method.run({ model, work, passes }, options)
    const scrubbed = outcome.scrubbed ?? work
    await checkFinite(scrubbed, name)
    checkSignal(signal)
    const report = reportOf(name, model, options, outcome, start)
    // Last: whatever fails before leaves the model as it was.
    await swap(model, scrubbed, outcome.scrubbed !== undefined, name, revision)
    return report
  } finally {
    outcome?.scrubbed?.dispose()
    work.dispose()
  }
}

/** The method that the options name, and its options. */
function readMethod(given: unknown): {
  name: string
  method: ScrubMethod
  options: OptionsOf<typeof common> & Record<string, unknown>
} {
  if (!is.plainObject(given)) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected a plain object for options of scrub(), got ${describe(given)}`,
    )
  }
  const { method: name, ...rest } = given
  const known = Object.keys(methods)
  if (!is.string(name) || !Object.hasOwn(methods, name)) {
    const nearest = is.string(name) ? `; the nearest is '${closest(name, known)}'` : ''
    const words = known.map((each) => `'${each}'`).join(', ')
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected one of ${words} for 'method', got ${describe(name)}${nearest}`,
    )
  }
  const method = methods[name]
  const options = readOptions(rest, { ...method.table, ...common }, `scrub() with method '${name}'`)
  return { name, method, options }
}

async function checkFinite(model: Model, name: string): Promise<void> {
  const weights = await model.weights('float64')
  const square = await weights.dot(weights)
  weights.dispose()
  if (Number.isFinite(square)) return
  throw new PalimpsestError(
    'ERR_NOT_CONVERGED',
    `expected finite weights after scrub() with method '${name}', got NaN or infinite ones; the model is as before`,
  )
}

/** The model becomes the scrubbed one, with what that learned: by its weights where the network is the same, else whole. */
async function swap(model: Model, scrubbed: Model, rebuilt: boolean, method: string, revision: number): Promise<void> {
  const requireUnchanged = () => {
    if (model.revision !== revision) throw invalid('model', 'a model that nothing else changes meanwhile', model)
  }
  const learned = scrubbed.history.slice(model.history.length)
  if (rebuilt) {
    requireUnchanged()
    return model.adopt(scrubbed, [...learned, { verb: 'scrub', method }])
  }
  const { network } = scrubbed.engine
  const values = await Promise.all(network.constants.map((_, i) => network.getConstant(i)))
  const statistics = new Map([...values.entries()].filter(([i]) => network.constants[i].name !== ''))
  const weights = await scrubbed.engine.weights('float32')
  // Nothing is awaited between this and the swap.
  requireUnchanged()
  await model.replace(weights, statistics)
  for (const entry of [...learned, { verb: 'scrub', method } as const]) model.record(entry)
}

function reportOf(
  name: string,
  model: Model,
  options: Record<string, unknown>,
  outcome: ScrubOutcome<object>,
  start: number,
): ScrubReport {
  const { signal: _signal, onProgress: _progress, ...kept } = options
  const report: CommonScrubReport = {
    verb: 'scrub',
    method: name,
    options: recorded({ ...kept, ...outcome.chosen }) as Record<string, unknown>,
    bound: uncertified([...model.scrubs, name]),
    sampleVisits: outcome.sampleVisits,
    seconds: (performance.now() - start) / 1000,
    peakMemoryBytes: memory().peak,
    device: model.device,
    deviceDescription: native().describeDevice(model.device),
  }
  return { ...report, ...outcome.details } as ScrubReport
}

/** An option as a report holds it: of datasets and networks what they are, of functions nothing. */
function recorded(value: unknown): unknown {
  if (value instanceof Dataset) return { rows: value.size }
  if (Array.isArray(value)) return value.map(recorded)
  if (!is.plainObject(value)) return typeof value === 'object' && value !== null ? describe(value) : value
  const kept = Object.entries(value).filter(([, each]) => each !== undefined && !is.function(each))
  return Object.fromEntries(kept.map(([key, each]) => [key, recorded(each)]))
}
