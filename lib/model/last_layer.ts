// The last linear layer of a network: where it is, and the same network with a last layer of another number of outputs.
import { PalimpsestError } from '../errors.js'
import type { LeafDescription, NetworkDescription, NodeDescription, TensorMap } from '../network.js'
import { normalValues } from '../networks/normal.js'

type Parameter = Extract<LeafDescription, { kind: 'parameter' }>

/** logits = features W^T + bias */
export interface LastLayer {
  weight: Parameter
  /** True where the weight is stored [K, f], false for [f, K]. */
  outputsFirst: boolean
  bias: Parameter | undefined
  /** f, without the constant 1 of a bias. */
  width: number
  /** Id of the features' value, [N, f]. */
  features: number
  /** Positions of the layer's rows in the network's nodes: product and sum, and what turns weight and bias before them. */
  nodes: readonly number[]
}

/**
 * Finds the last linear layer.
 *
 * @param purpose - of the message: what needs it
 * @throws PalimpsestError `ERR_UNSUPPORTED` where the network ends in something else
 */
export function findLastLayer(network: NetworkDescription, purpose: string): LastLayer {
  const refuse = (why: string): never => {
    const what = `expected a network that ends in a linear layer for ${purpose}, got one where ${why}`
    throw new PalimpsestError('ERR_UNSUPPORTED', what)
  }
  const made = new Map<number, number>()
  network.nodes.forEach((node, i) => {
    for (const id of node.outputs) made.set(id, i)
  })
  const parameters = new Map(network.leaves.flatMap((leaf) => (leaf.kind === 'parameter' ? [[leaf.id, leaf]] : [])))
  const nodes: number[] = []
  const maker = (id: number): NodeDescription | undefined => network.nodes[made.get(id) ?? -1]
  const keep = (id: number) => void nodes.push(made.get(id) as number)
  const once = (id: number, what: string): number => {
    if (network.nodes.filter((node) => node.inputs.includes(id)).length !== 1) refuse(`${what} is used more than once`)
    return id
  }
  const behind = (id: number): number => {
    const node = maker(id)
    return node?.op === 'Reshape' ? behind(once(node.inputs[0], 'the last bias')) : id
  }
  let end = network.output
  let product = maker(end)
  let bias: Parameter | undefined
  if (product?.op === 'Add') {
    const { inputs } = product
    const at = inputs.findIndex((id) => parameters.has(behind(once(id, 'a part of the last Add'))))
    bias = at < 0 ? refuse('the last Add has no bias') : parameters.get(behind(inputs[at]))
    if (bias?.shape.reduce((a, b) => a * b, 1) !== network.classes) refuse('the last bias is not one number an output')
    keep(end)
    for (let id = inputs[at]; !parameters.has(id); id = (maker(id) as NodeDescription).inputs[0]) keep(id)
    end = inputs[1 - at]
    product = maker(end)
  }
  if (product?.op !== 'MatMul') return refuse(`the last layer is ${product?.op ?? 'an input'}`)
  keep(end)
  const { transA = false, transB = false, alpha = 1 } = product.attributes
  if (transA || alpha !== 1) refuse('the last MatMul is transposed or scaled')
  let weightId = once(product.inputs[1], 'the last weight')
  let outputsFirst = transB
  const turned = maker(weightId)
  if (turned?.op === 'Transpose') {
    keep(weightId)
    weightId = once(turned.inputs[0], 'the last weight')
    outputsFirst = !outputsFirst
  }
  const weight = parameters.get(weightId)
  if (weight?.shape.length !== 2) return refuse('the last MatMul has no weight of its own')
  const width = outputsFirst ? weight.shape[1] : weight.shape[0]
  return { weight, outputsFirst, bias, width, features: product.inputs[0], nodes: nodes.sort((a, b) => a - b) }
}

/** The sizes with K where there was the old K; other sizes are 1 (a bias) or f (a weight, whose K has its own place). */
const resized = (sizes: readonly number[], before: number, classes: number): number[] => {
  const at = sizes.lastIndexOf(before)
  return sizes.map((size, i) => (i === at ? classes : size))
}

/** The network with K outputs instead: the same ids, leaves and rows but for their sizes. */
export function withOutputs(network: NetworkDescription, layer: LastLayer, classes: number): NetworkDescription {
  const { weight, outputsFirst, bias, width, nodes } = layer
  const leaves = network.leaves.map((leaf) => {
    if (leaf.id === weight.id) return { ...weight, shape: outputsFirst ? [classes, width] : [width, classes] }
    return leaf.id === bias?.id ? { ...bias, shape: resized(bias.shape, network.classes, classes) } : leaf
  })
  const rewritten = network.nodes.map((node, i) => {
    const { dims } = node.attributes
    if (!nodes.includes(i) || dims === undefined) return node
    return { ...node, attributes: { ...node.attributes, dims: resized(dims, network.classes, classes) } }
  })
  return { ...network, leaves, nodes: rewritten, classes }
}

/** Weights of a fresh last layer of K outputs: normal of standard deviation 1 / sqrt(f) (He et al. 2015, eq. 10), bias zero. */
export function freshLastLayer(layer: LastLayer, classes: number, seed: number, draw = 0): TensorMap {
  const { weight, outputsFirst, bias, width } = layer
  const fresh: TensorMap = new Map()
  const shape = outputsFirst ? [classes, width] : [width, classes]
  fresh.set(weight.name, { shape, data: normalValues(classes * width, 1 / Math.sqrt(width), seed, firstDraw + draw) })
  const before = bias?.shape.reduce((a, b) => a * b, 1) ?? 0
  if (bias) fresh.set(bias.name, { shape: resized(bias.shape, before, classes), data: new Float32Array(classes) })
  return fresh
}

/** Of the sequences that fresh last layers are drawn from: beyond any tensor of a network that was built whole. */
const firstDraw = 2 ** 31
