// Tensors that a graph holds: initializers and the values of Constant nodes.
import type { Budget } from './budget.js'
import { castKnown, knownInts } from './known.js'
import { nodeError } from './names.js'
import type { GraphNode } from './nodes.js'
import { TensorProto_DataType as DataType, type ModelProto, type TensorProto } from './onnx_pb.js'
import { decodeTensor, isFloat, tensorShape, type Known } from './tensors.js'

/** A float tensor of the file that may become a parameter. */
export interface Source {
  readonly name: string
  readonly shape: readonly number[]
  /** A Constant node or an initializer whose name an exporter made up. */
  readonly anonymous: boolean
  readonly constant: boolean
  readonly read: (budget: Budget) => Known
}

/** Names that exporters give to what they computed themselves. */
const madeUp = /^(val_\d+|onnx::.*|_?inlfunc.*|.*Constant(_\d+)?_output_\d+)$/

/** Float initializers in the file's order, then float Constants in the graph's. */
export function floatSources(model: ModelProto, nodes: readonly GraphNode[]): Map<string, Source> {
  const sources = new Map<string, Source>()
  for (const tensor of model.graph!.initializer) {
    if (isFloat(tensor.dataType)) sources.set(tensor.name, sourceOf(tensor.name, tensor, false))
  }
  for (const node of nodes) {
    if (node.opType !== 'Constant' || node.domain !== '' || !node.atTop) continue
    const name = node.output[0] ?? ''
    const tensor = node.attributes.tensor('value')
    if (tensor && isFloat(tensor.dataType)) sources.set(name, sourceOf(name, tensor, true))
    const floats = node.attributes.floats('value_floats')
    if (floats) {
      const read = (): Known => constantValue(node)
      sources.set(name, { name, shape: [floats.length], anonymous: true, constant: true, read })
    }
  }
  return sources
}

function sourceOf(name: string, tensor: TensorProto, constant: boolean): Source {
  return {
    name,
    shape: tensorShape(tensor),
    anonymous: constant || madeUp.test(name),
    constant,
    read: (budget) => ({ ...decodeTensor(tensor, budget), name }),
  }
}

/** The value of a Constant node. */
export function constantNode(node: GraphNode, budget: Budget): Known {
  const tensor = node.attributes.tensor('value')
  const { name: _, ...known } = tensor ? decodeTensor(tensor, budget) : constantValue(node)
  // A local function's constant belongs to all its calls: no name to change it by.
  return node.atTop ? { ...known, name: node.output[0] } : known
}

function constantValue(node: GraphNode): Known {
  const { attributes } = node
  const float = (known: Known): Known => castKnown(known, DataType.FLOAT)
  const name = node.output[0]
  if (attributes.has('value_float')) return { ...float(knownInts([attributes.float('value_float', 0)], [])), name }
  if (attributes.has('value_floats')) return { ...float(knownInts(attributes.floats('value_floats')!)), name }
  if (attributes.has('value_int')) return knownInts(attributes.longs('value_int')!, [])
  if (attributes.has('value_ints')) return knownInts(attributes.longs('value_ints')!)
  throw nodeError(
    'ERR_UNSUPPORTED',
    node,
    `expected a tensor or numbers as value, got ${attributes.names().join(', ') || 'none'}`,
  )
}
