// audit(): what a model still shows of forgotten rows, each number beside that of a retrained model, which is the target.
import { compare, type Interval } from './audit/intervals.js'
import { membershipOf, type Membership } from './audit/membership.js'
import { readSet, type OutputDistances, type SetPass, type SetReadout } from './audit/readouts.js'
import { relearn, type Relearn, type RelearnOptions } from './audit/relearn.js'
import { Dataset } from './dataset.js'
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { checkData } from './model/held_data.js'
import { checkSignal, type PassOptions, type Progress } from './model/passes.js'
import { memory } from './native.js'
import {
  abortSignal,
  callback,
  check,
  integer,
  invalid,
  number,
  object,
  optional,
  readOptions,
  withDefault,
  type Check,
} from './options.js'

export interface AuditOptions {
  /** The rows that were to be forgotten, as they were trained on. */
  forgetSet: Dataset
  /** The rows that were to stay. */
  retainSet: Dataset
  /** Rows that no model saw, of all classes. */
  testSet: Dataset
  /** The same network retrained without the forget set: the target of every number. */
  reference?: Model
  /** Of every interval, default 0.95. */
  confidence?: number
  relearn?: RelearnOptions
  /** Of the halves and pairs of the membership attack, default 0. */
  seed?: number
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
}

type Sets<T> = Record<'forget' | 'retain' | 'test', T>

export interface Readouts {
  sets: Sets<SetReadout>
  /** Where the forget set is whole classes: accuracy on test rows of the others (A_R), error on those of its own (E_F). */
  classes: { retainAccuracy: number; forgetError: number } | null
  /** Forgotten rows against test rows of the same classes; null where there are fewer than 2 of either. */
  membership: Membership | null
  relearn: Relearn
}

/** 'as-reference' is never said: intervals that overlap show no difference, not that there is none. */
export type Verdict = 'over-forgotten' | 'under-forgotten' | 'cannot-conclude'

export interface Finding {
  readout: 'forgetAccuracy' | 'membershipAuc' | 'membershipBalancedAccuracy'
  verdict: Verdict
  model: Interval
  /** Of the reference; for the membership attack without one, the value of no information, 0.5. */
  target: Interval | null
  statement: string
}

export interface AuditReport {
  verb: 'audit'
  options: Record<string, unknown>
  model: Readouts
  reference: Readouts | null
  /** |w - w_reference|, and of the outputs on each set. */
  distances: { parameters: number | null; outputs: Sets<OutputDistances> } | null
  findings: Finding[]
  seconds: number
  peakMemoryBytes: number
  device: string
}

const dataset: Check<Dataset> = check(
  'a Dataset of one row or more',
  (v): v is Dataset => v instanceof Dataset && v.size > 0,
)
const table = {
  forgetSet: dataset,
  retainSet: dataset,
  testSet: dataset,
  reference: optional(check('a Model', (v): v is Model => v instanceof Model)),
  confidence: withDefault(number({ above: 0, below: 1 }), 0.95),
  relearn: optional(
    object({
      targetLoss: optional(number({ above: 0 })),
      maxSteps: withDefault(integer({ min: 1 }), 100),
      learningRate: withDefault(number({ above: 0 }), 0.01),
      batchSize: withDefault(integer({ min: 1 }), 128),
      seed: withDefault(integer(), 0),
    }),
  ),
  seed: withDefault(integer(), 0),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/**
 * Measures a model, and a reference beside it: accuracy and loss on each set and class, relearn time, distances of outputs
 * and weights, a loss-threshold membership attack with exact intervals. Measurements are no certificate. A forget accuracy
 * surely below the reference's is over-forgetting, which gives the rows away as well as remembering them does.
 *
 * Errors: ERR_INVALID_ARGUMENT for options, ERR_SHAPE for rows or a reference that do not fit, ERR_DISPOSED, the reason of
 * an aborted signal. Nothing is changed.
 */
export async function audit(model: Model, given: AuditOptions): Promise<AuditReport> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  const start = performance.now()
  const options = readOptions(given, table, 'audit()')
  const { forgetSet, retainSet, testSet, reference, confidence, seed, signal, onProgress } = options
  const passes: PassOptions = { ...(signal && { signal }), ...(onProgress && { onProgress }) }
  checkSignal(signal)
  for (const each of reference ? [model, reference] : [model]) {
    if (each.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
    for (const set of [forgetSet, retainSet, testSet]) checkData(set, each.engine, true)
    if (each.classes !== model.classes)
      throw invalid('reference', `${model.classes} classes`, each.classes, 'ERR_SHAPE')
  }
  const read = (phase: string, set: Dataset) => readSet(phase, set, model, reference, confidence, passes)
  const sets = {
    forget: await read('forgetSet', forgetSet),
    retain: await read('retainSet', retainSet),
    test: await read('testSet', testSet),
  }
  const known = (sets.retain.reference ?? sets.retain.model).readout.loss
  const relearning = {
    ...{ targetLoss: 1.1 * known, maxSteps: 100, learningRate: 0.01, batchSize: 128, seed: 0 },
    ...Object.fromEntries(Object.entries(options.relearn ?? {}).filter(([, value]) => value !== undefined)),
  }
  const readouts = async (of: 'model' | 'reference', which: Model): Promise<Readouts> => ({
    ...summary(sets, of, { forgetSet, retainSet, testSet }, confidence, seed),
    relearn: await relearn(which, forgetSet, relearning, passes),
  })
  const own = await readouts('model', model)
  const other = reference ? await readouts('reference', reference) : null
  checkSignal(signal)
  return {
    verb: 'audit',
    options: {
      ...{ confidence, seed, relearn: relearning },
      ...{ forgetSet: { rows: forgetSet.size }, retainSet: { rows: retainSet.size }, testSet: { rows: testSet.size } },
    },
    model: own,
    reference: other,
    distances: reference ? await distancesOf(model, reference, sets) : null,
    findings: findingsOf(own, other),
    seconds: (performance.now() - start) / 1000,
    peakMemoryBytes: memory().peak,
    device: model.device,
  }
}

function summary(
  passes: Sets<SetPass>,
  of: 'model' | 'reference',
  data: { forgetSet: Dataset; retainSet: Dataset; testSet: Dataset },
  confidence: number,
  seed: number,
): Omit<Readouts, 'relearn'> {
  const pass = (set: keyof Sets<unknown>) => passes[set][of] as SetPass['model']
  const forgotten = new Set(data.forgetSet.labels)
  const { labels } = data.testSet
  const others = pass('test').losses.filter((_, i) => forgotten.has(labels[i]))
  const members = pass('forget').losses
  const enough = members.length > 1 && others.length > 1
  const sets = { forget: pass('forget').readout, retain: pass('retain').readout, test: pass('test').readout }
  const whole = !data.retainSet.labels.some((label) => forgotten.has(label))
  return {
    sets,
    classes: whole ? byClass(sets.test, forgotten) : null,
    membership: enough ? membershipOf(members, others, confidence, seed) : null,
  }
}

/** A_R and E_F; null where the test set lacks rows of either kind. */
function byClass({ classes }: SetReadout, forgotten: ReadonlySet<number>): Readouts['classes'] {
  const accuracy = (wanted: boolean) => {
    const chosen = classes.filter((each) => forgotten.has(each.class) === wanted)
    const rows = chosen.reduce((sum, each) => sum + each.rows, 0)
    return rows === 0 ? undefined : chosen.reduce((sum, each) => sum + each.accuracy * each.rows, 0) / rows
  }
  const [retained, own] = [accuracy(false), accuracy(true)]
  return retained === undefined || own === undefined ? null : { retainAccuracy: retained, forgetError: 1 - own }
}

async function distancesOf(model: Model, reference: Model, sets: Sets<SetPass>): Promise<AuditReport['distances']> {
  const outputs = (set: keyof Sets<unknown>) => sets[set].distances as OutputDistances
  return {
    parameters: await parameterDistance(model, reference),
    outputs: { forget: outputs('forget'), retain: outputs('retain'), test: outputs('test') },
  }
}

/** |w - w_reference|; null where the architectures differ, after pruning for instance. */
async function parameterDistance(model: Model, reference: Model): Promise<number | null> {
  const shapes = (of: Model) => of.parameters.map(({ name, shape }) => `${name} ${shape.join()}`).join()
  if (shapes(model) !== shapes(reference)) return null
  const [difference, other] = [await model.weights('float64'), await reference.weights('float64')]
  await difference.axpy(-1, other)
  const distance = await difference.norm()
  difference.dispose()
  other.dispose()
  return distance
}

function findingsOf(model: Readouts, reference: Readouts | null): Finding[] {
  const none: Interval = [0.5, 0.5]
  const found = [
    finding('forgetAccuracy', model.sets.forget.accuracyInterval, reference?.sets.forget.accuracyInterval ?? null),
  ]
  const { membership } = model
  if (membership !== null) {
    const target = reference === null ? undefined : reference.membership
    found.push(
      finding('membershipAuc', membership.aucInterval, target?.aucInterval ?? none),
      finding(
        'membershipBalancedAccuracy',
        membership.balancedAccuracyInterval,
        target?.balancedAccuracyInterval ?? none,
      ),
    )
  }
  return found
}

function finding(readout: Finding['readout'], model: Interval, target: Interval | null): Finding {
  const side = target === null ? 0 : compare(model, target)
  const verdict = side < 0 ? 'over-forgotten' : side > 0 ? 'under-forgotten' : 'cannot-conclude'
  const words = ([low, high]: Interval) => `${low.toFixed(4)} to ${high.toFixed(4)}`
  const statement = {
    'over-forgotten': `below the target: ${target && words(target)}, got ${words(model)}; that gives the rows away too`,
    'under-forgotten': `above the target: ${target && words(target)}, got ${words(model)}`,
    'cannot-conclude':
      target === null
        ? `no reference to compare ${words(model)} with`
        : `${words(model)} and ${words(target)} overlap: no difference shown, nor that there is none`,
  }[verdict]
  return { readout, verdict, model, target, statement }
}
