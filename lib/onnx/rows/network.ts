// Export of a network description as an ONNX file of its own: built networks, and tangent models with both streams.
import { create } from '@bufbuild/protobuf'
import { PalimpsestError } from '../../errors.js'
import type { LeafDescription, NetworkDescription, NodeDescription, TensorMap } from '../../network.js'
import { sameDims, showDims, type Shape } from '../../networks/dims.js'
import { unaryRows, type UnaryRow } from '../../networks/rows.js'
import { inferShapes } from '../../networks/shapes.js'
import {
  GraphProtoSchema,
  ModelProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataType as DataType,
  ValueInfoProtoSchema,
  type ValueInfoProto,
} from '../onnx_pb.js'
import { writeModel } from '../wire.js'
import { rowWriters } from './rows.js'
import { writeUnary } from './unary.js'
import { GraphWriter } from './writer.js'

export interface ExportOptions {
  /** Written as metadata_props. */
  metadata?: Readonly<Record<string, string>>
  /** Names of input and output; `input` and `logits` where left out. */
  input?: string
  output?: string
  /** A function after the logits. */
  endsIn?: 'Softmax' | 'LogSoftmax' | null
  /** What the file says of itself; `palimpsest` as the producer where left out. */
  head?: {
    producerName: string
    producerVersion: string
    domain: string
    modelVersion: bigint
    docString: string
  }
  graph?: { name: string; docString: string }
}

const opset = 17
const irVersion = 8

/**
 * Writes a network as ONNX, opset 17, input `input` [N, ...] and output `logits` [N, K] with an open batch size.
 * @param weights by name; a constant whose name is here takes its values from here (running statistics)
 * @param tangents by parameter name, where the network has leaves of kind 'tangent'; initializers `tangent.NAME`
 * @throws ERR_INVALID_ARGUMENT where weights are missing or do not fit, ERR_UNSUPPORTED_OPERATOR for rows that only
 * gradients use
 */
export function exportNetwork(
  network: NetworkDescription,
  weights: TensorMap,
  tangents: TensorMap = new Map(),
  {
    metadata = {},
    input = 'input',
    output: outputName = 'logits',
    endsIn = null,
    head,
    graph = { name: 'network', docString: '' },
  }: ExportOptions = {},
): Uint8Array {
  const w = new GraphWriter(input)
  const result = w.name(outputName)
  const names = new Map<number, string>()
  const shapes = inferShapes(network)
  for (const leaf of network.leaves) names.set(leaf.id, writeLeaf(w, leaf, weights, tangents))
  const used = new Set([network.output, ...network.nodes.flatMap((node) => node.inputs)])
  for (const node of network.nodes) {
    const results = writeRow(w, node, names, shapes, used)
    node.outputs.forEach((id, i) => names.set(id, results[i] ?? ''))
  }
  const output = names.get(network.output)
  if (!output || !sameDims(shapes.get(network.output)!.dims, [-1, network.classes])) {
    throw new PalimpsestError('ERR_SHAPE', `network: expected logits of shape [N, ${network.classes}]`)
  }
  w.node(endsIn ?? 'Identity', [output], endsIn ? { axis: 1 } : {}, [result])
  return writeModel(
    create(ModelProtoSchema, {
      irVersion: BigInt(irVersion),
      ...(head ?? { producerName: 'palimpsest' }),
      opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })],
      metadataProps: Object.entries(metadata).map(([key, value]) =>
        create(StringStringEntryProtoSchema, { key, value }),
      ),
      graph: create(GraphProtoSchema, {
        ...graph,
        node: w.nodes,
        initializer: w.initializers,
        input: [valueInfo(input, network.inputShape)],
        output: [valueInfo(result, [network.classes])],
      }),
    }),
  )
}

function writeLeaf(w: GraphWriter, leaf: LeafDescription, weights: TensorMap, tangents: TensorMap): string {
  switch (leaf.kind) {
    case 'input':
      return w.input
    case 'parameter':
      return w.floats(leaf.name, leaf.shape, fitting('weights', weights, leaf.name, leaf.shape))
    case 'tangent':
      return w.floats(`tangent.${leaf.name}`, leaf.shape, fitting('tangents', tangents, leaf.name, leaf.shape))
    case 'constant': {
      const given = leaf.name !== undefined && weights.has(leaf.name)
      return w.floats(
        leaf.name ?? 'constant',
        leaf.shape,
        given ? fitting('weights', weights, leaf.name!, leaf.shape) : leaf.data,
      )
    }
  }
}

function fitting(what: string, from: TensorMap, name: string, shape: readonly number[]): Float32Array {
  const tensor = from.get(name)
  if (!tensor || !sameDims(tensor.shape, shape)) {
    const got = tensor ? showDims(tensor.shape) : 'none'
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `${what}: expected "${name}" of shape ${showDims(shape)}, got ${got}`,
    )
  }
  return tensor.data
}

function writeRow(
  w: GraphWriter,
  node: NodeDescription,
  names: ReadonlyMap<number, string>,
  shapes: ReadonlyMap<number, Shape>,
  used: ReadonlySet<number>,
): readonly string[] {
  const ids = node.inputs.filter((id) => id >= 0)
  const inputs = ids.map((id) => names.get(id)!)
  if ((unaryRows as readonly string[]).includes(node.op)) {
    if ((node.attributes.order ?? 0) > 1) {
      throw new PalimpsestError(
        'ERR_UNSUPPORTED_OPERATOR',
        `${node.op}: expected order 0 or 1, got ${node.attributes.order}`,
      )
    }
    const result = shapes.get(node.outputs[0])!
    const narrow = ids.length > 1 && !sameDims(shapes.get(ids[1])!.dims, result.dims)
    const b = narrow ? w.node('Expand', [inputs[1], w.dims(result)]) : inputs[1]
    return [writeUnary(w, node.op as UnaryRow, inputs[0], b, node.attributes)]
  }
  const write = rowWriters[node.op]
  return write(w, {
    op: node.op,
    inputs,
    shapes: ids.map((id) => shapes.get(id)!),
    results: node.outputs.map((id) => shapes.get(id)!),
    attributes: node.attributes,
    wanted: node.outputs.map((id) => used.has(id)),
  })
}

function valueInfo(name: string, shape: readonly number[]): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: {
          elemType: DataType.FLOAT,
          shape: {
            dim: [
              { value: { case: 'dimParam', value: 'batch' } },
              ...shape.map((d) => ({ value: { case: 'dimValue' as const, value: BigInt(d) } })),
            ],
          },
        },
      },
    },
  })
}
