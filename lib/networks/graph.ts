// A network while it is written: leaves and nodes are appended in order, every value's shape is known at once.
import { PalimpsestError } from '../errors.js'
import type { Dimension, LeafDescription, NetworkDescription, NodeAttributes, NodeDescription } from '../network.js'
import { product, sameDims, showDims, type Shape } from './dims.js'
import { rowShapes } from './rows.js'

/** A value of the network: its id in the description and its shape. */
export interface Value extends Shape {
  readonly id: number
}

export class NetworkGraph {
  readonly input: Value
  readonly #inputShape: readonly number[]
  readonly #leaves: LeafDescription[] = []
  readonly #nodes: NodeDescription[] = []
  readonly #values: Value[] = []
  readonly #producers = new Map<number, NodeDescription>()
  readonly #maxElements: number

  /** @param maxElements the most elements that a value may have for one example */
  constructor(inputShape: readonly number[], maxElements = Infinity) {
    this.#inputShape = [...inputShape]
    this.#maxElements = maxElements
    this.input = this.#value({ dims: [-1, ...inputShape], outer: 1 }, 'the input')
    this.#leaves.push({ kind: 'input', id: this.input.id })
  }

  /** The name of the parameter that a value is; none where it is something else. */
  parameterName({ id }: Value): string | undefined {
    const leaf = this.#leaves.find((each) => each.id === id)
    return leaf?.kind === 'parameter' ? leaf.name : undefined
  }

  /** Whether a value is one slice along an axis, repeated. */
  isRepeated({ id, dims }: Value, axis: number): boolean {
    const node = this.#producers.get(id)
    if (node?.op === 'Expand') {
      const from = this.#values[node.inputs[0]].dims
      const own = axis - dims.length + from.length
      return own < 0 || from[own] === 1
    }
    const { axis: along = 0, indices = [] } = node?.attributes ?? {}
    return node?.op === 'Gather' && along === axis && indices.every((i) => i === indices[0])
  }

  parameter(name: string, shape: readonly number[]): Value {
    const value = this.#value({ dims: shape, outer: 1 }, `parameter ${name}`)
    this.#leaves.push({ kind: 'parameter', id: value.id, name, shape: [...shape] })
    return value
  }

  constant(shape: readonly number[], data: Float32Array, name?: string): Value {
    const value = this.#value({ dims: shape, outer: 1 }, name ?? 'a constant')
    if (product(shape) !== data.length) {
      throw new PalimpsestError('ERR_SHAPE', `constant: expected ${product(shape)} values, got ${data.length}`)
    }
    this.#leaves.push({
      kind: 'constant',
      id: value.id,
      shape: [...shape],
      data,
      ...(name === undefined ? {} : { name }),
    })
    return value
  }

  /** Appends a row and returns its first result; shapes are checked (ERR_SHAPE). */
  append(op: string, inputs: readonly Value[], attributes: NodeAttributes = {}): Value {
    const shapes = rowShapes({ op, inputs, attributes })
    const outputs = shapes.map((shape) => this.#value(shape, op))
    const node = { op, inputs: inputs.map((v) => v.id), outputs: outputs.map((v) => v.id), attributes }
    this.#nodes.push(node)
    for (const { id } of outputs) this.#producers.set(id, node)
    return outputs[0]
  }

  /** The node that computes a value, unless it is a leaf. */
  producer(id: number): NodeDescription | undefined {
    return this.#producers.get(id)
  }

  /** The value of an id. */
  valueOf(id: number): Value {
    return this.#values[id]
  }

  reshape(x: Value, dims: readonly Dimension[]): Value {
    return sameDims(x.dims, dims) ? x : this.append('Reshape', [x], { dims: [...dims] })
  }

  transpose(x: Value, perm: readonly number[]): Value {
    return perm.every((axis, i) => axis === i) ? x : this.append('Transpose', [x], { perm: [...perm] })
  }

  expand(x: Value, dims: readonly Dimension[]): Value {
    return sameDims(x.dims, dims) ? x : this.append('Expand', [x], { dims: [...dims] })
  }

  /** What the logits need, and no more. @throws ERR_SHAPE where the logits are not [N, K] */
  finish(logits: Value): NetworkDescription {
    if (logits.dims.length !== 2 || logits.dims[0] !== -1 || logits.dims[1] < 1) {
      throw new PalimpsestError('ERR_SHAPE', `network: expected logits of shape [N, K], got ${showDims(logits.dims)}`)
    }
    const needed = new Set([logits.id, this.input.id])
    const nodes = this.#nodes.toReversed().filter((node) => {
      const wanted = node.outputs.some((id) => needed.has(id))
      if (wanted) for (const id of node.inputs) needed.add(id)
      return wanted
    })
    return {
      inputShape: [...this.#inputShape],
      classes: logits.dims[1],
      leaves: this.#leaves.filter((leaf) => needed.has(leaf.id)),
      nodes: nodes.reverse(),
      output: logits.id,
    }
  }

  #value(shape: Shape, what: string): Value {
    const elements = Math.abs(product(shape.dims))
    if (!(elements <= this.#maxElements)) {
      throw new PalimpsestError(
        'ERR_OUT_OF_MEMORY',
        `${what}: expected at most ${this.#maxElements} elements for one example, got ${showDims(shape.dims)}`,
      )
    }
    const value = { ...shape, id: this.#values.length }
    this.#values.push(value)
    return value
  }
}
