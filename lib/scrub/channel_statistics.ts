// Channel statistics by class: what a client sends, its checks, and the merge that gives what one machine would have got.
import { createHash } from 'node:crypto'
import { PalimpsestError } from '../errors.js'
import { Model } from '../model.js'
import { withHeld, type Data } from '../model/held_data.js'
import { checkPassOptions, type PassOptions } from '../model/passes.js'
import { runPass } from '../model/products.js'
import type { DType, FloatArray } from '../native.js'
import type { NetworkDescription, NodeDescription } from '../network.js'
import { oneHot } from '../data/targets.js'
import { abortSignal, callback, invalid, is, oneOf, optional, readOptions, withDefault } from '../options.js'
import type { Progress } from '../model/passes.js'
import { channelMap, type ChannelMap, type ConvLayer } from './channels.js'

const format = 'palimpsest-channel-statistics-1'

/** Where a convolution's responses are read: at its output with its bias, or after the normalisation that follows it. */
export type ResponsePoint = 'convolution' | 'normalization'

export interface ChannelStatisticsOptions extends PassOptions {
  /** 'convolution' (default): before the normalisation, as Wang et al.'s code. 'normalization': after it. */
  responses?: ResponsePoint
  /** 'float32' (default) or 'float64': of the forward pass; sums are kept in pairs of float64 in both. */
  precision?: DType
}

/** Sums of one convolution's responses. */
export interface LayerStatistics {
  /** Of the convolution's weight. */
  name: string
  channels: number
  /** [K, C], row by row: over the rows of class k, of the mean over the image of max(response of channel c, 0). */
  sums: number[]
  /** [K, C]: what rounding to float64 left of each sum. */
  remainders: number[]
}

/**
 * Sums and counts by class: plain JSON, without rows or weights. Counts tell which classes a client has; whoever must not
 * learn that adds clients' objects up under secure aggregation.
 */
export interface ChannelStatistics {
  format: typeof format
  /** Digest of the network's structure: of names, shapes and rows, not of weights. */
  architecture: string
  responses: ResponsePoint
  precision: DType
  /** Rows of each class, [K]. */
  counts: number[]
  layers: LayerStatistics[]
}

const table = {
  responses: withDefault(oneOf('convolution', 'normalization'), 'convolution'),
  precision: withDefault(oneOf('float32', 'float64'), 'float32'),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/** Rows of a micro-batch, whatever the data: a row's responses then have the same bits on every client. */
const microBatch = 64

/**
 * How strongly each channel of each convolution responds to each class (Wang et al. 2022, section 3.2): one forward pass.
 * The result is small and serialisable, and `mergeStatistics` adds up what several clients computed. In 'float32' the
 * sums are exact, so that rows may be shared out and ordered at will: on one machine type the merged object is the one
 * machine's, bit for bit.
 *
 * Errors: ERR_UNSUPPORTED where there is no convolution, ERR_SHAPE and ERR_INVALID_ARGUMENT for data that do not fit or
 * responses that are not finite, ERR_DISPOSED, and the reason of an aborted signal.
 */
export async function channelStatistics(
  model: Model,
  data: Data,
  options: ChannelStatisticsOptions = {},
): Promise<ChannelStatistics> {
  if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
  if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  const { responses, precision, signal, onProgress } = readOptions(options, table, 'channelStatistics()')
  const passes: PassOptions = { ...(signal && { signal }), ...(onProgress && { onProgress }) }
  checkPassOptions(passes)
  const { description, classes } = model
  const layers = scoredLayers(description)
  const taps = layers.map(({ node }) => tapOf(description, node, responses))
  const sums = layers.map(({ slots }) => new PairSums(classes * slots.length))
  const counts = new Array<number>(classes).fill(0)
  await withHeld(data, model.engine, true, (held) =>
    runPass(model.engine, {
      phase: 'channelStatistics',
      program: { quantity: 'channelStatistics', dtype: precision, taps },
      data: held,
      options: passes,
      needLabels: true,
      batch: microBatch,
      inputs: ({ labels }) => ({ cotangents: oneHot(labels as Int32Array, classes) }),
      collect: (outputs, { labels, rows }) => {
        for (let i = 0; i < rows; i++) counts[(labels as Int32Array)[i]]++
        outputs.forEach((parts, layer) => sums[layer].addParts(parts))
      },
    }),
  )
  layers.forEach(({ name }, i) => sums[i].check(name))
  return {
    format,
    architecture: architectureOf(description),
    responses,
    precision,
    counts,
    layers: layers.map(({ name, slots }, i) => ({ name, channels: slots.length, ...sums[i].lists() })),
  }
}

/** Convolutions with channels of their own. @throws ERR_UNSUPPORTED where there is none */
export function scoredLayers(network: NetworkDescription, map: ChannelMap = channelMap(network)): ConvLayer[] {
  const layers = map.layers.filter(({ depthwise }) => !depthwise)
  if (layers.length > 0) return layers
  throw new PalimpsestError('ERR_UNSUPPORTED', 'expected a network with convolutions to prune, got one without')
}

/** The value that holds a convolution's responses. */
function tapOf(network: NetworkDescription, conv: NodeDescription, responses: ResponsePoint): number {
  const next = (id: number, op: string): NodeDescription | undefined => {
    const readers = network.nodes.filter(({ inputs }) => inputs.includes(id))
    return readers.length === 1 && readers[0].op === op && network.output !== id ? readers[0] : undefined
  }
  const [output] = conv.outputs
  const added = next(output, 'Add')
  const bias = added?.inputs.find((id) => id !== output)
  const response = added && bias !== undefined && isWeight(network, bias) ? added.outputs[0] : output
  return responses === 'convolution' ? response : (next(response, 'BatchNormalization')?.outputs[0] ?? response)
}

/** Whether a value is a leaf, or one in another shape. */
function isWeight({ leaves, nodes }: NetworkDescription, id: number): boolean {
  if (leaves.some((leaf) => leaf.id === id && leaf.kind !== 'input')) return true
  const maker = nodes.find(({ outputs }) => outputs.includes(id))
  return maker?.op === 'Reshape' && isWeight({ leaves, nodes } as NetworkDescription, maker.inputs[0])
}

/** Digest of a network's structure. */
export function architectureOf({ inputShape, classes, leaves, nodes, output }: NetworkDescription): string {
  const shapes = leaves.map((leaf) =>
    leaf.kind === 'input' ? [leaf.kind, leaf.id] : [leaf.kind, leaf.id, leaf.name ?? '', leaf.shape],
  )
  const text = JSON.stringify({ inputShape, classes, shapes, nodes, output })
  return createHash('sha256').update(text).digest('hex')
}

/** Sums in pairs of float64: exact, and so the same in any order, while all terms are multiples of one unit. */
class PairSums {
  readonly #high: Float64Array
  readonly #low: Float64Array

  constructor(count: number) {
    this.#high = new Float64Array(count)
    this.#low = new Float64Array(count)
  }

  /** Knuth's two-sum, then Dekker's quick one: as native/core/exact_sum.h. */
  #add(i: number, x: number): void {
    const [high, low] = [this.#high[i], this.#low[i]]
    const sum = high + x
    const ofX = sum - high
    const rest = low + (high - (sum - ofX) + (x - ofX))
    this.#high[i] = sum + rest
    this.#low[i] = rest - (this.#high[i] - sum)
  }

  /** [3, K, C], parts of one sum each. */
  addParts(parts: FloatArray): void {
    const count = this.#high.length
    for (let i = 0; i < count; i++) {
      for (let part = 2; part >= 0; part--) this.#add(i, parts[part * count + i])
    }
  }

  addLists({ sums, remainders }: Pick<LayerStatistics, 'sums' | 'remainders'>): void {
    for (let i = 0; i < this.#high.length; i++) {
      this.#add(i, remainders[i])
      this.#add(i, sums[i])
    }
  }

  check(layer: string): void {
    const wrong = this.#high.findIndex((value) => !Number.isFinite(value))
    if (wrong < 0) return
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected inputs and weights whose responses are finite, got ${this.#high[wrong]} in '${layer}'`,
    )
  }

  lists(): Pick<LayerStatistics, 'sums' | 'remainders'> {
    return { sums: [...this.#high], remainders: [...this.#low] }
  }
}

/**
 * The statistics of all clients' rows together, from those of each: counts and sums are added up. Clients without a row
 * of a class add nothing to it. The order of the list does not matter in 'float32'.
 *
 * Errors: ERR_INVALID_ARGUMENT for an empty list, an object of another form, a different architecture, response point or
 * precision.
 */
export function mergeStatistics(list: readonly ChannelStatistics[]): ChannelStatistics {
  if (!Array.isArray(list) || list.length === 0) throw invalid('statistics', 'a list of one or more', list)
  const read = list.map((each, i) => readStatistics(each, `statistics[${i}]`))
  const [first] = read
  const sums = first.layers.map(({ sums: own }) => new PairSums(own.length))
  const counts = first.counts.map(() => 0)
  read.forEach((each, i) => {
    for (const key of ['architecture', 'responses', 'precision'] as const) {
      if (each[key] === first[key]) continue
      throw invalid(`statistics[${i}].${key}`, `${first[key]}, as in the first of the list`, each[key])
    }
    checkLayers(each, first, `statistics[${i}]`)
    each.counts.forEach((count, k) => (counts[k] += count))
    each.layers.forEach((layer, l) => sums[l].addLists(layer))
  })
  const layers = first.layers.map(({ name, channels }, l) => ({ name, channels, ...sums[l].lists() }))
  return { ...first, counts, layers }
}

function checkLayers(each: ChannelStatistics, first: ChannelStatistics, name: string): void {
  const shape = ({ counts, layers }: ChannelStatistics) =>
    JSON.stringify([counts.length, layers.map(({ name: layer, channels }) => [layer, channels])])
  if (shape(each) !== shape(first)) throw invalid(name, 'layers and classes of the same network', shape(each))
}

/** Statistics that came from elsewhere. @throws ERR_INVALID_ARGUMENT naming what is wrong */
export function readStatistics(value: unknown, name: string): ChannelStatistics {
  if (!is.plainObject(value) || value.format !== format) throw invalid(name, `statistics of format ${format}`, value)
  const { architecture, responses, precision, counts, layers } = value as Partial<ChannelStatistics>
  const refuse = (what: string, expected: string, got: unknown) => invalid(`${name}.${what}`, expected, got)
  if (!is.string(architecture)) throw refuse('architecture', 'a digest', architecture)
  oneOf('convolution', 'normalization').read(responses, `${name}.responses`)
  oneOf('float32', 'float64').read(precision, `${name}.precision`)
  const whole = (list: unknown): list is number[] =>
    Array.isArray(list) && list.length > 0 && list.every((count) => is.integer(count) && count >= 0)
  if (!whole(counts)) throw refuse('counts', 'a whole number a class', counts)
  if (!Array.isArray(layers) || layers.length === 0) throw refuse('layers', 'a list of layers', layers)
  layers.forEach((layer: unknown, i) => checkLayer(layer, `${name}.layers[${i}]`, counts.length))
  return value as unknown as ChannelStatistics
}

function checkLayer(layer: unknown, name: string, classes: number): void {
  if (!is.plainObject(layer)) throw invalid(name, 'an object with name, channels, sums, remainders', layer)
  const { channels } = layer
  if (!is.string(layer.name)) throw invalid(`${name}.name`, 'a string', layer.name)
  if (!is.integer(channels) || channels < 1) throw invalid(`${name}.channels`, 'a whole number of at least 1', channels)
  for (const key of ['sums', 'remainders']) {
    const list = layer[key]
    const good = Array.isArray(list) && list.length === classes * channels && list.every(is.number)
    if (!good) throw invalid(`${name}.${key}`, `${classes} x ${channels} finite numbers`, list)
    // Of means of max(., 0).
    const wrong = key === 'sums' ? list.find((sum: number) => sum < 0) : undefined
    if (wrong !== undefined) throw invalid(`${name}.sums`, 'sums of at least 0', wrong)
  }
}
