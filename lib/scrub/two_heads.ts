// One backbone under two heads: networks that share one parameter layout, one for each head, and one at a temperature.
import { PalimpsestError } from '../errors.js'
import type { Model } from '../model.js'
import { findLastLayer, freshLastLayer, withOutputs, type LastLayer } from '../model/last_layer.js'
import type { Engine } from '../model/products.js'
import { Programs } from '../model/programs.js'
import { native, type DType, type NativeVector } from '../native.js'
import type { LeafDescription, NetworkDescription, NodeDescription } from '../network.js'
import { ParameterVector } from '../vector.js'
import { architectureOf } from './channel_statistics.js'

const named = 'source head/'
const headOf = ({ weight, bias }: LastLayer) => [weight.name, ...(bias ? [bias.name] : [])]
const purpose = "method 'dispose'"

/** ERR_SHAPE where the models differ in more than the number of outputs, ERR_UNSUPPORTED where one has no last layer. */
export function checkSameBackbone(model: Model, source: Model): LastLayer {
  const own = findLastLayer(model.description, purpose)
  const resized = withOutputs(source.description, findLastLayer(source.description, purpose), model.classes)
  if (architectureOf(resized) === architectureOf(model.description)) return own
  throw new PalimpsestError(
    'ERR_SHAPE',
    "expected a model of the same network but for its last layer for 'sourceHead', got another network",
  )
}

/** The target network beside the source head's rows: the same leaves first, so that vectors fit all three networks. */
function joined(model: NetworkDescription, layer: LastLayer, classes: number, temperature: number) {
  const ids = [...model.leaves.map(({ id }) => id), ...model.nodes.flatMap(({ outputs }) => outputs)]
  let free = Math.max(...ids) + 1
  const sized = withOutputs(model, layer, classes)
  const moved = new Map<number, number>()
  const head: LeafDescription[] = []
  for (const leaf of sized.leaves) {
    if (leaf.kind !== 'parameter' || (leaf.id !== layer.weight.id && leaf.id !== layer.bias?.id)) continue
    moved.set(leaf.id, free)
    head.push({ ...leaf, id: free++, name: named + leaf.name })
  }
  const nodes = layer.nodes.map((at): NodeDescription => {
    const { outputs, inputs, ...rest } = sized.nodes[at]
    const copy = { ...rest, inputs: inputs.map((id) => moved.get(id) ?? id), outputs: outputs.map(() => free++) }
    outputs.forEach((id, i) => moved.set(id, copy.outputs[i]))
    return copy
  })
  const target = { ...model, leaves: [...model.leaves, ...head] }
  const source = { ...target, nodes: [...model.nodes, ...nodes], output: moved.get(model.output) as number, classes }
  const attributes = { alpha: 1 / temperature, beta: 0 }
  const divided = { op: 'Affine', inputs: [model.output], outputs: [free], attributes }
  return { target, source, tempered: { ...target, nodes: [...model.nodes, divided], output: free } }
}

/**
 * The weights of a backbone with a target head and a source head in one vector, and what computes with them: `source`
 * gives the source task's logits, `target` the target task's, `tempered` those divided by the temperature.
 */
export class TwoHeads {
  readonly weights: NativeVector
  readonly source: Engine
  readonly target: Engine
  readonly tempered: Engine
  readonly #layer: LastLayer
  readonly #head: readonly string[]
  /** Names of the parameters of backbone and source head, and of backbone and target head. */
  readonly theta: readonly string[]
  readonly released: readonly string[]

  private constructor(engines: Engine[], weights: NativeVector, layer: LastLayer, released: readonly string[]) {
    ;[this.source, this.target, this.tempered] = engines
    this.weights = weights
    this.#layer = layer
    const head = headOf(layer)
    this.#head = head.map((name) => named + name)
    this.theta = [...released.filter((name) => !head.includes(name)), ...this.#head]
    this.released = released
  }

  /** Weights of the model, and of the source model the last layer, or zeros for a number of classes. */
  static async of(model: Model, sourceHead: Model | number, temperature: number): Promise<TwoHeads> {
    const layer = findLastLayer(model.description, purpose)
    const classes = typeof sourceHead === 'number' ? sourceHead : sourceHead.classes
    const views = joined(await model.describeConstants(), layer, classes, temperature)
    const networks = [views.source, views.target, views.tempered].map(
      (view) => new (native().Network)(view, model.device),
    )
    const own = [...(await model.tensors())].map(([name, { data }]) => [name, data] as const)
    const theirs = typeof sourceHead === 'number' ? undefined : await sourceHead.tensors()
    const head = headOf(layer).flatMap((name) => {
      const tensor = theirs?.get(name)
      return tensor ? [[named + name, tensor.data] as const] : []
    })
    const weights = new (native().Vector)(networks[0], 'float32', Object.fromEntries([...own, ...head]))
    const engines = networks.map((network, i) => ({
      network,
      programs: new Programs(network),
      inputShape: model.inputShape,
      classes: i === 0 ? classes : model.classes,
      weights: (dtype: DType) => inType(weights, dtype),
    }))
    return new TwoHeads(
      engines,
      weights,
      layer,
      own.map(([name]) => name),
    )
  }

  /** A fresh source head, a function of seed and step. */
  async redraw(seed: number, step: number): Promise<void> {
    const fresh = freshLastLayer(this.#layer, this.source.classes, seed, step)
    await Promise.all([...fresh].map(([name, { data }]) => this.weights.set(named + name, data)))
  }

  /** The same vector with zeros for the source head. */
  async withoutHead(vector: NativeVector): Promise<NativeVector> {
    const entries = vector.layout.filter(({ name }) => this.#head.includes(name))
    await Promise.all(entries.map(({ name, size }) => vector.set(name, new Float32Array(size))))
    return vector
  }

  /** The weights without the source head, as values by name. */
  values(weights: NativeVector = this.weights): Record<string, Float32Array> {
    const vector = new ParameterVector(weights)
    return Object.fromEntries(this.released.map((name) => [name, vector.get(name)]))
  }

  dispose(): void {
    for (const { programs, network } of [this.source, this.target, this.tempered]) {
      programs.dispose()
      network.dispose()
    }
    this.weights.dispose()
  }
}

function inType(weights: NativeVector, dtype: DType): Promise<NativeVector> {
  if (dtype === weights.dtype) return Promise.resolve(weights)
  throw new PalimpsestError('ERR_INTERNAL', `expected ${weights.dtype} for products under two heads, got ${dtype}`)
}
