// Removal of channels from a network: smaller leaves, rows with the sizes that are left; and its opposite, zeros in the
// places of what went.
import { PalimpsestError } from '../errors.js'
import type { LeafDescription, NetworkDescription, NodeAttributes, NodeDescription, TensorMap } from '../network.js'
import { sameDims, showDims } from '../networks/dims.js'
import { inferShapes } from '../networks/shapes.js'
import type { NetworkSource } from '../model.js'
import { inTurns } from '../turns.js'
import type { Axis, ChannelMap } from './channels.js'

/** Positions along each axis that stay; null: all of them. */
type Kept = readonly (Int32Array | null)[]

/** What goes: roots of slots. */
export class Removal {
  readonly #map: ChannelMap
  readonly #roots: ReadonlySet<number>

  constructor(map: ChannelMap, roots: ReadonlySet<number>) {
    this.#map = map
    this.#roots = roots
  }

  /** Positions along each axis of a value that stay. */
  kept(id: number): Kept {
    return (this.#map.axes.get(id) ?? []).map((axis) => this.#keptAlong(axis))
  }

  dims(id: number): number[] {
    const { dims } = this.#map.shapes.get(id) as { dims: readonly number[] }
    return this.kept(id).map((kept, i) => (kept === null ? dims[i] : kept.length))
  }

  #keptAlong(axis: Axis): Int32Array | null {
    if (axis === null) return null
    const { slots } = this.#map
    const positions = Int32Array.from(axis, (_, i) => i).filter((i) => !this.#roots.has(slots.root(axis[i])))
    return positions.length === axis.length ? null : positions
  }
}

/** The network without the channels; equal to the one whose removed weights are zero. */
export async function removeChannels({ network, parameters }: NetworkSource, removal: Removal): Promise<NetworkSource> {
  const made: TensorMap = new Map()
  const smallerLeaf = async (leaf: LeafDescription): Promise<LeafDescription> => {
    if (leaf.kind === 'input') return leaf
    const [kept, shape] = [removal.kept(leaf.id), removal.dims(leaf.id)]
    if (leaf.kind === 'constant') return { ...leaf, shape, data: await gathered(leaf.data, leaf.shape, kept) }
    const tensor = parameters.get(leaf.name)
    if (tensor) made.set(leaf.name, { shape, data: await gathered(tensor.data, leaf.shape, kept) })
    return { ...leaf, shape }
  }
  const leaves: LeafDescription[] = []
  for (const leaf of network.leaves) leaves.push(await smallerLeaf(leaf))
  const nodes = network.nodes.map((node) => ({ ...node, attributes: smaller(node, removal) }))
  const pruned: NetworkDescription = { ...network, leaves, nodes }
  checkShapes(pruned, removal)
  return { network: pruned, parameters: made }
}

/**
 * Tensors of the smaller network in the shapes of the whole one, zeros where channels went; constants that are no factors
 * of convolutions and products (running statistics, divisors) keep theirs.
 * ERR_UNSUPPORTED where the factor that reads a channel is a constant without a name, which cannot be set.
 */
export async function withZeros(whole: NetworkDescription, removal: Removal, pruned: TensorMap): Promise<TensorMap> {
  const made: TensorMap = new Map()
  const factors = factorsOf(whole)
  for (const leaf of whole.leaves) {
    if (leaf.kind === 'input') continue
    const kept = removal.kept(leaf.id)
    const tensor = pruned.get(leaf.name ?? '')
    if (leaf.name === undefined || tensor === undefined) {
      if (!factors.has(leaf.id) || kept.every((axis) => axis === null)) continue
      const what = 'expected weights that can be set, so that channels can stay with zeros'
      throw new PalimpsestError('ERR_UNSUPPORTED', `${what}, got constants without a name; remove: true takes them out`)
    }
    // What reads a channel makes it zero; a divisor must not be.
    const stays = leaf.kind === 'constant' && !factors.has(leaf.id)
    const data = stays ? leaf.data.slice() : new Float32Array(elements(leaf.shape))
    const places = positions(leaf.shape, kept)
    await inTurns(places.length, (from, to) => {
      for (let i = from; i < to; i++) data[places[i]] = tensor.data[i]
    })
    made.set(leaf.name, { shape: leaf.shape, data })
  }
  return made
}

/** Second factors of convolutions and products. */
const factorsOf = ({ nodes }: NetworkDescription): ReadonlySet<number> =>
  new Set(nodes.flatMap(({ op, inputs }) => (op === 'Conv' || op === 'MatMul' ? inputs.slice(1) : [])))

const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** Flat positions of what stays, in order. */
function positions(shape: readonly number[], kept: Kept): Int32Array {
  let places = Int32Array.of(0)
  shape.forEach((size, axis) => {
    const along = kept[axis] ?? Int32Array.from({ length: size }, (_, i) => i)
    const next = new Int32Array(places.length * along.length)
    places.forEach((place, i) => along.forEach((at, j) => (next[i * along.length + j] = place * size + at)))
    places = next
  })
  return places
}

async function gathered(data: Float32Array, shape: readonly number[], kept: Kept): Promise<Float32Array> {
  if (kept.every((axis) => axis === null)) return data
  const places = positions(shape, kept)
  const found = new Float32Array(places.length)
  await inTurns(places.length, (from, to) => {
    for (let i = from; i < to; i++) found[i] = data[places[i]]
  })
  return found
}

/** Attributes that name sizes or positions, as they are without the channels. */
function smaller(node: NodeDescription, removal: Removal): NodeAttributes {
  const { op, attributes, inputs, outputs } = node
  const group = attributes.group ?? 1
  switch (op) {
    case 'Conv':
      return group === 1 ? attributes : { ...attributes, group: removal.dims(inputs[0])[1] / groupWidth(node, removal) }
    case 'Reshape':
    case 'Expand':
      return { ...attributes, dims: removal.dims(outputs[0]) }
    case 'Slice':
      return { ...attributes, dims: removal.dims(outputs[0]), starts: movedStarts(attributes, removal.kept(inputs[0])) }
    case 'Unslice':
      return {
        ...attributes,
        dims: removal.dims(outputs[0]),
        starts: movedStarts(attributes, removal.kept(outputs[0])),
      }
    case 'Gather':
      return { ...attributes, indices: movedIndices(node, removal) }
    default:
      return attributes
  }
}

/** Input channels of a group; the axis of the weight that holds them loses nothing. */
function groupWidth({ inputs }: NodeDescription, removal: Removal): number {
  return removal.dims(inputs[1])[1]
}

/** How many positions before each start stay. */
function movedStarts({ starts = [] }: NodeAttributes, kept: Kept): number[] {
  return starts.map((start, axis) => kept[axis]?.filter((position) => position < start).length ?? start)
}

function movedIndices({ attributes, inputs, outputs }: NodeDescription, removal: Removal): number[] {
  const { axis = 0, indices = [] } = attributes
  const from = removal.kept(inputs[0])[axis]
  const to = removal.kept(outputs[0])[axis]
  const staying = to === null ? indices : [...to].map((i) => indices[i])
  return from === null ? staying : staying.map((index) => from.indexOf(index))
}

/** The rows' own shape rules must find the sizes that the slots foretell. */
function checkShapes(pruned: NetworkDescription, removal: Removal): void {
  const shapes = inferShapes(pruned)
  for (const [id, { dims }] of shapes) {
    const expected = removal.dims(id)
    if (sameDims(dims, expected) && !expected.includes(0)) continue
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `expected a network that can lose these channels, got ${showDims(dims)} for a value of ${showDims(expected)}`,
    )
  }
}
