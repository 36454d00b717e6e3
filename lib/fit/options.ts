// Options of fitting by SGD: what they mean, their defaults, and the form in which reports and checkpoints hold them.
import { MnemonicCodes } from '../codes.js'
import type { Model } from '../model.js'
import type { Data } from '../model/held_data.js'
import type { Progress } from '../model/passes.js'
import type { Loss } from '../native.js'
import {
  abortSignal,
  boolean,
  callback,
  check,
  either,
  integer,
  invalid,
  number,
  object,
  oneOf,
  optional,
  readOptions,
  string,
  withDefault,
  type OptionsOf,
} from '../options.js'
import type { MnemonicFitOptions, MnemonicRecord } from './codes.js'
import { normalizationsOf, type Normalization } from './statistics.js'
import { scheduleCheck, scheduleOf, type Schedule, type ScheduleOption } from './schedule.js'

export interface FitProgress extends Progress {
  /** The epoch that runs, from 0. */
  epoch: number
  /** Mean loss over the rows of this epoch so far. */
  loss: number
}

/**
 * Options of fitting a Model by stochastic gradient descent. The defaults train the bundled networks on MNIST and CIFAR
 * without tuning: Nesterov momentum 0.9, weight decay 5e-4, learning rate 0.05 (0.02 for the squared error) that rises
 * over the first 20th of the run and then falls along a cosine, batches of 128, 10 epochs.
 */
export interface FitOptions {
  /** 'crossEntropy' (default): -log softmax(f)_y. 'squaredError': 1/2 |f - target|^2. Both are means over a batch. */
  loss?: Loss
  /** Target of the right class under 'squaredError' (default 1), the others' is 0. */
  targetScale?: number
  /** s under 'crossEntropy' (default 0): targets (1 - s) one-hot + s / K. */
  labelSmoothing?: number
  /** Passes over the rows (default 10). */
  epochs?: number
  /** Batches in all, instead of `epochs`. */
  steps?: number
  /** Rows of a batch (default 128). The last batch of an epoch has what is left; its loss is the mean over that. */
  batchSize?: number
  /** Before the schedule: 0.05 for the cross-entropy, 0.02 for the squared error, divided by a targetScale above 1. */
  learningRate?: number
  /** m (default 0.9) in v = m v + g, w = w - rate v. */
  momentum?: number
  /** w = w - rate (g + m v) (default true where there is momentum). */
  nesterov?: boolean
  /** d (default 5e-4) in g = gradient + d w, of every parameter that is fitted. */
  weightDecay?: number
  /** 'cosine' (default), 'step' or 'constant', with a warmup. */
  schedule?: ScheduleOption
  /** Random crops out of a zero border of `pad` pixels, random left-to-right flips; neither where left out. */
  augment?: { pad?: number; flip?: boolean }
  /**
   * 'training': batches are normalised by their own statistics, and running averages of those are kept. 'evaluation':
   * the running statistics are used and stay as they are. By default 'training', but 'evaluation' where `parameters`
   * names some parameters only.
   */
  batchNorm?: 'training' | 'evaluation'
  /** m (default 0.1) in running = (1 - m) running + m batch; the variance taken in is the unbiased one. */
  batchNormMomentum?: number
  /** Which parameters are fitted, by name or predicate; the others stay bit for bit what they were. All by default. */
  parameters?: readonly string[] | ((name: string) => boolean)
  /**
   * Shows the model its mnemonic codes beside the rows, so that scrub() can use them later (Yamashita et al. 2024). The
   * codes are neither augmented nor saved; reports and checkpoints name them by a digest, and `resume` needs them again.
   */
  mnemonic?: MnemonicFitOptions
  /** Of order, augmentation and codes (default 0). */
  seed?: number
  /** Measured after each epoch, without label smoothing. */
  evaluation?: Data
  /**
   * Where to keep what a later call needs to go on: after every epoch, or every so many epochs or steps, and at the
   * end. The file is always whole.
   */
  checkpoint?: string | { path: string; every?: { epochs: number } | { steps: number } }
  /**
   * A checkpoint to go on from, a path or its bytes. Data and options must be those it was made with (`evaluation`,
   * `checkpoint`, `signal` and `onProgress` aside); the result has then the same bits as a run that was never stopped.
   */
  resume?: string | Uint8Array
  signal?: AbortSignal
  onProgress?: (progress: FitProgress) => void
}

const everyCheck = either(object({ epochs: integer({ min: 1 }) }), object({ steps: integer({ min: 1 }) }))

const table = {
  loss: withDefault(oneOf('crossEntropy', 'squaredError'), 'crossEntropy'),
  targetScale: optional(number({ above: 0 })),
  labelSmoothing: optional(number({ min: 0, below: 1 })),
  epochs: optional(integer({ min: 1 })),
  steps: optional(integer({ min: 1 })),
  batchSize: withDefault(integer({ min: 1, max: 2 ** 20 }), 128),
  learningRate: optional(number({ above: 0 })),
  momentum: withDefault(number({ min: 0, below: 1 }), 0.9),
  nesterov: optional(boolean),
  weightDecay: withDefault(number({ min: 0 }), 5e-4),
  schedule: withDefault(scheduleCheck, { type: 'cosine' }),
  augment: optional(object({ pad: optional(integer({ max: 1024 })), flip: optional(boolean) })),
  batchNorm: optional(oneOf('training', 'evaluation')),
  batchNormMomentum: withDefault(number({ above: 0, max: 1 }), 0.1),
  parameters: optional(
    either(
      check('a list of names of parameters', (value): value is string[] => Array.isArray(value)),
      callback<(name: string) => boolean>(),
    ),
  ),
  mnemonic: optional(
    object({
      codes: check('MnemonicCodes', (value): value is MnemonicCodes => value instanceof MnemonicCodes),
      rate: withDefault(number({ above: 0, max: 1 }), 0.1),
      mixing: withDefault(oneOf('replace', 'blend'), 'replace'),
    }),
  ),
  seed: withDefault(integer(), 0),
  evaluation: optional(check('a Dataset or { inputs, labels }', (value): value is Data => typeof value === 'object')),
  checkpoint: optional(either(string, object({ path: string, every: optional(everyCheck) }))),
  resume: optional(
    either(
      string,
      check('the bytes of a checkpoint', (value): value is Uint8Array => value instanceof Uint8Array),
    ),
  ),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: FitProgress) => void>()),
}

/** Options that decide the weights, every default filled in: reports and checkpoints hold them, and fit() takes them. */
export interface SgdOptions {
  loss: Loss
  targetScale?: number
  labelSmoothing?: number
  steps: number
  batchSize: number
  learningRate: number
  momentum: number
  nesterov: boolean
  weightDecay: number
  schedule: Schedule
  augment: { pad: number; flip: boolean }
  batchNorm: 'training' | 'evaluation'
  batchNormMomentum: number
  /** Left out where all are fitted. */
  parameters?: string[]
  seed: number
}

export type ReadOptions = OptionsOf<typeof table>

/** Checks what can be checked without model and data. */
export function readFitOptions(given: unknown): ReadOptions {
  const options = readOptions(given, table, 'fit()')
  const { loss, targetScale, labelSmoothing, epochs, steps, momentum, nesterov } = options
  if (loss === 'crossEntropy' && targetScale !== undefined) {
    throw invalid('targetScale', `nothing with loss 'crossEntropy'`, targetScale)
  }
  if (loss === 'squaredError' && labelSmoothing !== undefined) {
    throw invalid('labelSmoothing', `nothing with loss 'squaredError'`, labelSmoothing)
  }
  if (epochs !== undefined && steps !== undefined) throw invalid('steps', `nothing beside 'epochs'`, steps)
  if (nesterov && momentum === 0) throw invalid('nesterov', 'false where momentum is 0', nesterov)
  return options
}

/** Names of the parameters that are fitted, in the model's order; undefined where all are. */
function namesOf(given: ReadOptions['parameters'], model: Model): string[] | undefined {
  if (given === undefined) return undefined
  const known = model.parameters.map(({ name }) => name)
  if (Array.isArray(given)) {
    const some = known.slice(0, 8).join(', ') + (known.length > 8 ? `, … (${known.length})` : '')
    given.forEach((name, i) => {
      if (!known.includes(name)) throw invalid(`parameters[${i}]`, `the name of a parameter (${some})`, name)
    })
  }
  const chosen = known.filter((name) => (typeof given === 'function' ? given(name) : given.includes(name)))
  if (chosen.length === 0) throw invalid('parameters', 'one parameter of the model or more', 'none')
  return chosen.length === known.length ? undefined : chosen
}

/** What of the data decides how an epoch is cut into batches. */
export interface EpochShape {
  /** Batches of an epoch. */
  steps: number
  /** Rows of a last batch that batch normalisation cannot take. */
  leftOut: number
}

/** Batches of an epoch; normalising by a batch's own statistics needs two values or more for each channel. */
function epochShape(rows: number, options: SgdOptions, normalizations: readonly Normalization[]): EpochShape {
  const { batchSize, batchNorm } = options
  const lonely = (count: number) => batchNorm === 'training' && normalizations.some((n) => n.positions * count < 2)
  const last = rows % batchSize
  if (lonely(Math.min(batchSize, rows))) {
    const what =
      "batches of two rows or more, which batch normalisation needs in training mode (batchNorm: 'evaluation' does not),"
    throw invalid('batchSize', what, Math.min(batchSize, rows))
  }
  return lonely(last) && last > 0
    ? { steps: Math.floor(rows / batchSize), leftOut: last }
    : { steps: Math.ceil(rows / batchSize), leftOut: 0 }
}

/** Codes as reports and checkpoints hold them, under their key; nothing where there are none. */
export function mnemonicRecord({ mnemonic }: ReadOptions): { mnemonic?: MnemonicRecord } {
  if (mnemonic === undefined) return {}
  const { codes, rate, mixing } = mnemonic
  return { mnemonic: { digest: codes.digest, rate, mixing } }
}

/** Fills in the defaults that depend on the model and on how many batches an epoch has. */
/** The batch normalisations that such a run trains: none with batchNorm 'evaluation', or where there are none. */
export function trainedNormalizations(given: ReadOptions, model: Model, rows: number): Normalization[] {
  const normalizations = normalizationsOf(model.description)
  const { batchNorm } = settle(given, model, rows, normalizations).options
  return batchNorm === 'training' ? normalizations : []
}

export function settle(
  given: ReadOptions,
  model: Model,
  rows: number,
  normalizations: readonly Normalization[],
): { options: SgdOptions; epoch: EpochShape } {
  const { loss, batchSize, momentum, augment, mnemonic } = given
  mnemonic?.codes.checkFor(model)
  const parameters = namesOf(given.parameters, model)
  if (model.inputShape.length !== 3 && (augment?.pad || augment?.flip)) {
    throw invalid('augment', 'nothing for rows that are not pictures [C, H, W]', augment)
  }
  const batchNorm =
    normalizations.length > 0 ? (given.batchNorm ?? (parameters ? 'evaluation' : 'training')) : 'evaluation'
  const options: SgdOptions = {
    loss,
    ...(loss === 'squaredError'
      ? { targetScale: given.targetScale ?? 1 }
      : { labelSmoothing: given.labelSmoothing ?? 0 }),
    steps: 0,
    batchSize,
    learningRate: given.learningRate ?? (loss === 'crossEntropy' ? 0.05 : 0.02 / Math.max(1, given.targetScale ?? 1)),
    momentum,
    nesterov: given.nesterov ?? momentum > 0,
    weightDecay: given.weightDecay,
    schedule: { type: 'constant', warmup: 0 },
    augment: { pad: augment?.pad ?? 0, flip: augment?.flip ?? false },
    batchNorm,
    batchNormMomentum: given.batchNormMomentum,
    ...(parameters && { parameters }),
    seed: given.seed,
  }
  const epoch = epochShape(rows, options, normalizations)
  options.steps = given.steps ?? (given.epochs ?? 10) * epoch.steps
  options.schedule = scheduleOf(given.schedule, options.steps, epoch.steps)
  return { options, epoch }
}
