// scrub() with method 'prune': class-discriminative pruning (Wang et al. 2022) with real removal of the channels.
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { fitModel, type FitOptions, type FitReport } from '../fit/sgd.js'
import type { Model, NetworkSource } from '../model.js'
import { checkData } from '../model/held_data.js'
import { checkSignal } from '../model/passes.js'
import type { NetworkDescription, TensorMap } from '../network.js'
import {
  boolean,
  check,
  either,
  integer,
  invalid,
  number,
  oneOf,
  optional,
  withDefault,
  type Check,
  type OptionsOf,
} from '../options.js'
import { channelMap, type ConvLayer } from './channels.js'
import { channelScores, checkCounts, chooseChannels, type Choice, type PruneOrder } from './channel_scores.js'
import {
  architectureOf,
  channelStatistics,
  readStatistics,
  scoredLayers,
  type ChannelStatistics,
  type ResponsePoint,
} from './channel_statistics.js'
import { datasetCheck, fitCheck, visits } from './fine_tune.js'
import type { CommonScrubOptions, CommonScrubReport, ScrubMethod, ScrubRun } from './method.js'
import { Removal, removeChannels, withZeros } from './surgery.js'

/** Class-discriminative pruning. */
export interface PruneOptions extends CommonScrubOptions {
  method: 'prune'
  /** The class or classes to destroy; several are done one after another, each on what the one before left. */
  class: number | readonly number[]
  /** Rows for the statistics and, without the classes, for the fine-tuning. */
  data?: Dataset
  /** Instead of rows for the statistics: what `channelStatistics` or `mergeStatistics` gave. One class only. */
  statistics?: ChannelStatistics
  /** Rows for the fine-tuning where they are others than `data` without the classes. */
  retainSet?: Dataset
  /** R, the share of the channels in question that go (default 0.05): exactly floor(N R), before `multipleOf`. */
  rate?: number
  /** 'most' (default): the most class-discriminative first, the paper's rule. 'least': as its released code does. */
  order?: PruneOrder
  /** 'inner' (default): channels that one convolution writes. 'all': residual and concatenation groups too, each as one
   * with the mean of its members' scores. */
  channels?: 'inner' | 'all'
  /** Channels that every convolution keeps at least (default 1). */
  floor?: number
  /** Largest share of a convolution's channels that goes (default 0.5). */
  cap?: number
  /** What the channels left to a convolution are a multiple of (default 1); rounds towards fewer removed. */
  multipleOf?: number
  /**
   * coe of the released code: beta = 1 + ln(C / coe) lifts wide layers; 0 (default) is beta = 1. Below e times the
   * narrowest layer's channels, for every class of those that the ones before left: 2.5 times them keeps narrow layers
   * from losing half of theirs.
   */
  coe?: number
  /** Where responses are read, with `data` only (default 'convolution'). */
  responses?: ResponsePoint
  /** Whether the channels are taken out of the network (default), or left in it with zero weights. */
  remove?: boolean
  /** Of fit(), with its defaults but 4 epochs; false: no fine-tuning. Without rows to retain there is none. */
  fineTune?: Omit<FitOptions, 'signal' | 'onProgress'> | false
}

/** What one convolution lost. */
export interface PrunedLayer {
  name: string
  channels: number
  removed: number
}

/** The engine's count for one example, before and after. */
export interface PruneCost {
  flops: { before: number; after: number }
  bytes: { before: number; after: number }
  parameters: { before: number; after: number }
}

export interface PruneReport extends CommonScrubReport {
  method: 'prune'
  /** A pass for each class. */
  passes: { class: number; candidates: number; removed: number; layers: PrunedLayer[] }[]
  /** Of a forward pass; with `remove: false` of what removal would leave. */
  cost: PruneCost
  fit: FitReport | null
}

const classes: Check<number | readonly number[]> = either(
  integer(),
  check('a list of one or more different classes', (value): value is readonly number[] => {
    const list: unknown = value
    return Array.isArray(list) && list.length > 0 && new Set(list).size === list.length
  }),
)
const noFit = check('false', (value): value is false => value === false)

const table = {
  class: classes,
  data: optional(datasetCheck),
  statistics: optional(check('channel statistics', (value): value is ChannelStatistics => value !== null)),
  retainSet: optional(datasetCheck),
  rate: withDefault(number({ above: 0, below: 1 }), 0.05),
  order: withDefault(oneOf('most', 'least'), 'most'),
  channels: withDefault(oneOf('inner', 'all'), 'inner'),
  floor: withDefault(integer({ min: 1 }), 1),
  cap: withDefault(number({ above: 0, below: 1 }), 0.5),
  multipleOf: withDefault(integer({ min: 1 }), 1),
  coe: withDefault(number({ min: 0 }), 0),
  responses: optional(oneOf('convolution', 'normalization')),
  remove: withDefault(boolean, true),
  fineTune: optional(either(noFit, fitCheck)),
}
type Options = OptionsOf<typeof table>

const targetsOf = (options: Options) => (typeof options.class === 'number' ? [options.class] : [...options.class])

function checkOptions(model: Model, options: Options): void {
  const layers = scoredLayers(model.description)
  for (const target of targetsOf(options)) {
    if (!Number.isSafeInteger(target) || target < 0 || target >= model.classes) {
      throw invalid('class', `classes from 0 to ${model.classes - 1}`, target)
    }
  }
  checkCoe(layers, options)
  if ((options.data === undefined) === (options.statistics === undefined)) {
    const what = 'either data or statistics (scrub() with method prune)'
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected ${what}, got ${options.data === undefined ? 'neither' : 'both'}`,
    )
  }
  for (const rows of [options.data, options.retainSet]) if (rows) checkData(rows, model.engine, true)
  if (options.statistics && options.responses) {
    throw invalid('responses', 'nothing beside statistics, which have their own', options.responses)
  }
  if (options.statistics !== undefined) checkStatistics(model, layers, options.statistics, targetsOf(options))
}

/** beta = 1 + ln(C / coe) has to be above 0 in the narrowest layer, or the order there is turned around. */
function checkCoe(layers: readonly ConvLayer[], { coe }: Options): void {
  const narrowest = Math.min(...layers.map(({ slots }) => slots.length))
  if (coe >= Math.E * narrowest) throw invalid('coe', `a number below e x ${narrowest}, the narrowest layer`, coe)
}

function checkStatistics(model: Model, layers: readonly ConvLayer[], given: unknown, targets: readonly number[]): void {
  const statistics = readStatistics(given, 'statistics')
  const architecture = architectureOf(model.description)
  if (statistics.architecture !== architecture) {
    throw invalid('statistics.architecture', `${architecture}, this model's`, statistics.architecture)
  }
  const shape = (list: readonly { name: string; channels: number }[]) =>
    JSON.stringify(list.map((l) => [l.name, l.channels]))
  const own = layers.map(({ name, slots }) => ({ name, channels: slots.length }))
  if (shape(statistics.layers) !== shape(own) || statistics.counts.length !== model.classes) {
    throw invalid('statistics.layers', `the layers and classes of this model`, shape(statistics.layers))
  }
  if (targets.length > 1) {
    const cure = 'what is left responds otherwise: prune one class, gather statistics again'
    throw invalid('class', `one class where statistics are given (${cure})`, targets)
  }
  checkCounts(statistics.counts, targets[0])
}

export const prune: ScrubMethod<typeof table, Omit<PruneReport, keyof CommonScrubReport>> = {
  table,
  check: checkOptions,
  async run(run, options) {
    const targets = targetsOf(options)
    const retained = retainedRows(options, targets)
    const before = await costOf(run.model)
    const steps: Step[] = []
    let pruned = run.work
    let responses: ResponsePoint | undefined
    const replace = (next: Model): void => {
      if (pruned !== run.work) pruned.dispose()
      pruned = next
    }
    try {
      for (const target of targets) {
        const statistics = await statisticsOf(pruned, options, run)
        responses = statistics.responses
        const { source, step } = await pruneClass(pruned, statistics, target, options)
        replace(pruned.rebuilt(source))
        steps.push(step)
        checkSignal(run.passes.signal)
      }
      const fit = retained && (await fineTuned(pruned, retained, options, run))
      const cost = costs(before, await costOf(pruned))
      const details = { passes: steps.map(({ pass }) => pass), cost, fit: fit ?? null }
      const chosen = { class: targets, responses, ...(fit && { fineTune: fit.options }) }
      const sampleVisits = targets.length * (options.data?.size ?? 0) + (fit ? visits(fit) : 0)
      if (options.remove) return { scrubbed: pruned, sampleVisits, chosen, details }
      await putBack(run.work, pruned, steps)
      replace(run.work)
      return { sampleVisits, chosen, details }
    } catch (error) {
      replace(run.work)
      throw error
    } finally {
      if (retained !== options.retainSet) retained?.dispose()
    }
  },
}

/** What one class took out of the network as it was then. */
interface Step {
  readonly network: NetworkDescription
  readonly removal: Removal
  readonly pass: PruneReport['passes'][number]
}

async function statisticsOf(model: Model, { data, statistics, responses }: Options, run: ScrubRun) {
  return statistics ?? channelStatistics(model, data as Dataset, { ...(responses && { responses }), ...run.passes })
}

/** Scores, choice and surgery for one class. */
async function pruneClass(
  model: Model,
  statistics: ChannelStatistics,
  target: number,
  options: Options,
): Promise<{ source: NetworkSource; step: Step }> {
  const network = await model.describeConstants()
  const map = channelMap(network)
  const layers = scoredLayers(network, map)
  checkCoe(layers, options)
  checkCounts(statistics.counts, target)
  const scores = statistics.layers.map((layer) => channelScores(layer, statistics.counts, target, options.coe))
  const choice = chooseChannels(map, layers, scores, options)
  const removal = new Removal(map, choice.roots)
  const source = await removeChannels({ network, parameters: await model.tensors() }, removal)
  return { source, step: { network, removal, pass: { class: target, ...passOf(layers, choice) } } }
}

function passOf(layers: readonly ConvLayer[], { candidates, removed, roots }: Choice) {
  const lost = layers.map(({ name, slots }, l) => ({ name, channels: slots.length, removed: removed[l] }))
  return { candidates, removed: roots.size, layers: lost }
}

function retainedRows({ data, retainSet, fineTune }: Options, targets: readonly number[]): Dataset | undefined {
  if (fineTune === false) return undefined
  if (retainSet) return retainSet
  if (!data) return undefined
  const rest = data.where(({ label }) => !targets.includes(label))
  if (rest.size === 0) throw invalid('data', 'rows of classes besides those that go', data)
  return rest
}

async function fineTuned(model: Model, rows: Dataset, { fineTune }: Options, run: ScrubRun): Promise<FitReport> {
  const given = fineTune === false || fineTune === undefined ? {} : fineTune
  const length = given.epochs === undefined && given.steps === undefined ? { epochs: 4 } : {}
  return fitModel(model, rows, { ...length, ...given, ...run.passes })
}

/**
 * The whole network with the pruned one's weights, and zeros for all that removal takes: filters, biases, scales and
 * shifts of the channels that went, and the weights that read them. What a channel would emit, after normalisation and
 * activation, then enters nothing, under zero padding too.
 */
async function putBack(work: Model, pruned: Model, steps: readonly Step[]): Promise<void> {
  let tensors: TensorMap = new Map([...(await pruned.statistics()), ...(await pruned.tensors())])
  for (const { network, removal } of steps.toReversed()) tensors = await withZeros(network, removal, tensors)
  const values = work.parameters.map(({ name }) => [name, (tensors.get(name) as { data: Float32Array }).data])
  const constants = work.engine.network.constants.flatMap(({ name }, i): [number, Float32Array][] => {
    const tensor = tensors.get(name)
    return name !== '' && tensor ? [[i, tensor.data]] : []
  })
  const weights = work.vector(Object.fromEntries(values) as Record<string, Float32Array>)
  try {
    await work.replace(weights.native, new Map(constants))
  } finally {
    weights.dispose()
  }
}

interface Cost {
  flops: number
  bytes: number
  parameters: number
}

/** The engine's count of a forward pass over one example. */
async function costOf({ engine }: Model): Promise<Cost> {
  using lease = await engine.programs.lease({ quantity: 'evaluate', batch: 1 })
  const { flops, bytes } = lease.program
  return { flops, bytes, parameters: engine.network.layout.reduce((sum, { size }) => sum + size, 0) }
}

function costs(before: Cost, after: Cost): PruneCost {
  const both = (key: keyof Cost) => ({ before: before[key], after: after[key] })
  return { flops: both('flops'), bytes: both('bytes'), parameters: both('parameters') }
}
