// TF-IDF scores of channels (Wang et al. 2022, section 3.3) and the choice of those that go.
import { PalimpsestError } from '../errors.js'
import { invalid } from '../options.js'
import type { ChannelStatistics } from './channel_statistics.js'
import type { ChannelMap, ConvLayer } from './channels.js'

/** Which channels the rule takes first. */
export type PruneOrder = 'most' | 'least'

/** What the rule may take. */
export interface ChoiceOptions {
  rate: number
  order: PruneOrder
  channels: 'inner' | 'all'
  floor: number
  cap: number
  multipleOf: number
}

/**
 * score_c = tf_c idf_c of one layer for class u: tf_c = beta a_{c,u} / sum_c' a_{c',u}, idf_c = ln(K / (1 + n_c)) with
 * n_c the number of classes whose mean response a_{c,k} is at least the mean over the classes, beta = 1, or
 * 1 + ln(C / coe) for a `coe` above 0 (Wang et al. 2022, section 3.3; `coe` from their code). Classes without rows leave
 * K and the mean; a layer silent on u scores 0.
 */
export function channelScores(
  { channels, sums, remainders }: ChannelStatistics['layers'][number],
  counts: readonly number[],
  target: number,
  coe: number,
): Float64Array {
  const sampled = [...counts.keys()].filter((k) => counts[k] > 0)
  const mean = (k: number, c: number) => (sums[k * channels + c] + remainders[k * channels + c]) / counts[k]
  const beta = coe === 0 ? 1 : 1 + Math.log(channels / coe)
  let all = 0
  for (let c = 0; c < channels; c++) all += mean(target, c)
  return Float64Array.from({ length: channels }, (_, c) => {
    const responses = sampled.map((k) => mean(k, c))
    const average = responses.reduce((a, b) => a + b, 0) / sampled.length
    // Equal responses must count as at the mean whatever their sum's rounding.
    const high = responses.filter((a) => a >= average * (1 - 1e-12)).length
    const tf = all === 0 ? 0 : (beta * mean(target, c)) / all
    return tf === 0 ? 0 : tf * Math.log(sampled.length / (1 + high))
  })
}

/** Checks what scores need of the counts. */
export function checkCounts(counts: readonly number[], target: number): void {
  if (!(counts[target] > 0)) {
    throw invalid('class', 'a class of which the statistics have a row or more', target)
  }
  const sampled = counts.filter((count) => count > 0).length
  if (sampled < 3) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected statistics of three classes or more (with two every score is 0), got ${sampled}`,
    )
  }
}

/** Channels that can only go together, as one. */
interface Candidate {
  readonly root: number
  /** Layer and channel of each member. */
  readonly members: { layer: number; channel: number }[]
  score: number
}

/** What was chosen: roots of slots, and how many channels each layer loses. */
export interface Choice {
  readonly roots: ReadonlySet<number>
  readonly candidates: number
  readonly removed: readonly number[]
}

/**
 * floor(N R) of the N candidates, by score, ties by position; none beyond `cap` of a layer's channels, at least `floor`
 * left. With `multipleOf` each layer is left with a multiple of it: the last chosen are given back.
 */
export function chooseChannels(
  map: ChannelMap,
  layers: readonly ConvLayer[],
  scores: readonly Float64Array[],
  options: ChoiceOptions,
): Choice {
  const candidates = candidatesOf(map, layers, scores, options.channels)
  const wanted = shareOf(candidates.length, options.rate)
  if (wanted === 0) {
    throw invalid('rate', `a share that is one or more of ${candidates.length} channels`, options.rate)
  }
  const sign = options.order === 'most' ? -1 : 1
  // Array sorts are stable: equal scores keep the order of layers and channels.
  const ranked = candidates.toSorted((a, b) => sign * (a.score - b.score))
  const removed = layers.map(() => 0)
  const most = layers.map(({ slots }) =>
    Math.min(shareOf(slots.length, options.cap), slots.length - Math.min(options.floor, slots.length)),
  )
  const chosen: Candidate[] = []
  for (const candidate of ranked) {
    if (chosen.length === wanted) break
    if (candidate.members.some(({ layer }) => removed[layer] + membersIn(candidate, layer) > most[layer])) continue
    for (const { layer } of candidate.members) removed[layer]++
    chosen.push(candidate)
  }
  if (chosen.length < wanted) {
    const room = `at most ${chosen.length} of ${candidates.length} under cap ${options.cap} and floor ${options.floor}`
    throw invalid('rate', `a share that empties no layer (${room})`, options.rate)
  }
  const kept = options.multipleOf > 1 ? inMultiples(chosen, layers, removed, options.multipleOf) : chosen
  return { roots: new Set(kept.map(({ root }) => root)), candidates: candidates.length, removed }
}

/** floor(count share), where the product is a whole number but for rounding (100 x 0.29) that number. */
const shareOf = (count: number, share: number) => Math.floor(count * share * (1 + 2 * Number.EPSILON))

const membersIn = ({ members }: Candidate, layer: number) => members.filter((member) => member.layer === layer).length

/** Channels that can go; a group's score is the mean of its members'. */
function candidatesOf(
  { slots }: ChannelMap,
  layers: readonly ConvLayer[],
  scores: readonly Float64Array[],
  which: 'inner' | 'all',
): Candidate[] {
  const found = new Map<number, Candidate>()
  layers.forEach((layer, l) =>
    layer.slots.forEach((slot, channel) => {
      if (slots.stays(slot)) return
      const root = slots.root(slot)
      const candidate = found.get(root) ?? { root, members: [], score: 0 }
      candidate.members.push({ layer: l, channel })
      candidate.score += scores[l][channel]
      found.set(root, candidate)
    }),
  )
  const all = [...found.values()].filter(
    ({ root, members }) => which === 'all' || (members.length === 1 && !slots.isJoined(root)),
  )
  for (const candidate of all) candidate.score /= candidate.members.length
  if (all.length > 0) return all
  const more = which === 'inner' ? "; channels: 'all' takes residual and concatenation groups too" : ''
  throw new PalimpsestError('ERR_UNSUPPORTED', `expected a network with channels that can be removed, got none${more}`)
}

/** Gives back, last chosen first, what leaves a layer with no multiple; `removed` follows. */
function inMultiples(
  chosen: readonly Candidate[],
  layers: readonly ConvLayer[],
  removed: number[],
  multiple: number,
): Candidate[] {
  let kept = [...chosen]
  for (;;) {
    const odd = layers.findIndex(({ slots }, l) => removed[l] > 0 && (slots.length - removed[l]) % multiple !== 0)
    if (odd < 0) break
    const last = kept.findLast(({ members }) => members.some(({ layer }) => layer === odd))
    if (last === undefined) break
    for (const { layer } of last.members) removed[layer]--
    kept = kept.filter((candidate) => candidate !== last)
  }
  if (kept.length > 0) return kept
  throw invalid('multipleOf', `a number that some layer can be left with a multiple of`, multiple)
}
