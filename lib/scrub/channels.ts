// Which channels of a network hang together: every axis of every value is labelled with slots, and slots that must go
// together are united.
import { PalimpsestError } from '../errors.js'
import type { NetworkDescription, NodeDescription } from '../network.js'
import type { Shape } from '../networks/dims.js'
import { inferShapes } from '../networks/shapes.js'
import { slotRule } from './slot_rules.js'

/** Slots of the positions along an axis; null where nothing along it can be removed. */
export type Axis = Int32Array | null

/** A value of the network as the rules see it. */
export interface Slotted {
  readonly dims: readonly number[]
  readonly axes: readonly Axis[]
}

/** A convolution whose output channels are slots. */
export interface ConvLayer {
  /** Of its weight, or `conv N` where that is computed. */
  readonly name: string
  readonly node: NodeDescription
  /** Of its output channels, in order. */
  readonly slots: Int32Array
  /** One filter a channel: its channels are those of what it reads. */
  readonly depthwise: boolean
}

/** Slots united by what reads and writes them (union by size is not needed: paths are halved). */
export class Slots {
  readonly #parent: number[] = []
  readonly #pinned: boolean[] = []
  readonly #joined: boolean[] = []

  fresh(count: number): Int32Array {
    const first = this.#parent.length
    for (let i = 0; i < count; i++) {
      this.#parent.push(first + i)
      this.#pinned.push(false)
      this.#joined.push(false)
    }
    return Int32Array.from({ length: count }, (_, i) => first + i)
  }

  /** The slot that stands for all that hang together with this one. */
  root(slot: number): number {
    const parent = this.#parent
    while (parent[slot] !== slot) {
      parent[slot] = parent[parent[slot]]
      slot = parent[slot]
    }
    return slot
  }

  unite(a: number, b: number): void {
    const [x, y] = [this.root(a), this.root(b)]
    if (x === y) return
    const [kept, gone] = x < y ? [x, y] : [y, x]
    this.#parent[gone] = kept
    this.#pinned[kept] ||= this.#pinned[gone]
    this.#joined[kept] ||= this.#joined[gone]
  }

  /** The positions of two axes of one length go together; with an axis that stays, both stay. */
  uniteAxes(a: Axis, b: Axis): Axis {
    if (a === null || b === null || a.length !== b.length) {
      this.pin(a)
      this.pin(b)
      return null
    }
    a.forEach((slot, i) => this.unite(slot, b[i]))
    return a
  }

  /** What lies along the axis stays. */
  pin(axis: Axis): void {
    for (const slot of axis ?? []) this.#pinned[this.root(slot)] = true
  }

  /** What lies along the axis passes a concatenation. */
  join(axis: Axis): void {
    for (const slot of axis ?? []) this.#joined[this.root(slot)] = true
  }

  stays(slot: number): boolean {
    return this.#pinned[this.root(slot)]
  }

  isJoined(slot: number): boolean {
    return this.#joined[this.root(slot)]
  }
}

/** The slots of a whole network. */
export interface ChannelMap {
  readonly slots: Slots
  readonly shapes: ReadonlyMap<number, Shape>
  /** Axes by value id. */
  readonly axes: ReadonlyMap<number, readonly Axis[]>
  readonly layers: readonly ConvLayer[]
}

/** Labels a network. Logits, inputs and what a row cannot lose stay. */
export function channelMap(network: NetworkDescription): ChannelMap {
  const slots = new Slots()
  const shapes = inferShapes(network)
  const axes = new Map<number, readonly Axis[]>()
  const names = new Map<number, string>()
  const layers: ConvLayer[] = []
  for (const leaf of network.leaves) {
    const { dims } = shapes.get(leaf.id) as Shape
    axes.set(leaf.id, leaf.kind === 'input' ? dims.map(() => null) : dims.map((d) => (d > 1 ? slots.fresh(d) : null)))
    if (leaf.kind === 'parameter') names.set(leaf.id, leaf.name)
  }
  const slotted = (id: number): Slotted => ({
    dims: (shapes.get(id) as Shape).dims,
    axes: axes.get(id) ?? unknown(id),
  })
  for (const node of network.nodes) {
    const inputs = node.inputs.filter((id) => id >= 0).map(slotted)
    const results = node.outputs.map((id) => (shapes.get(id) as Shape).dims)
    const made = slotRule(node.op)(slots, { node, inputs, results })
    node.outputs.forEach((id, i) => axes.set(id, made[i]))
    if (node.op !== 'Conv' || made[0][1] === null) continue
    const name = names.get(node.inputs[1]) ?? `conv ${layers.length}`
    layers.push({ name, node, slots: made[0][1], depthwise: (node.attributes.group ?? 1) > 1 })
  }
  for (const axis of axes.get(network.output) ?? []) slots.pin(axis)
  return { slots, shapes, axes, layers }
}

function unknown(id: number): never {
  throw new PalimpsestError('ERR_MODEL_FORMAT', `expected a value that an earlier node makes, got id ${id}`)
}
