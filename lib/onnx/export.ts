// Export of a model that came from ONNX: the same file with other weights.
import { PalimpsestError } from '../errors.js'
import type { TensorMap } from '../network.js'
import type { OnnxModel } from './import.js'
import type { AttributeProto, ModelProto, NodeProto, TensorProto } from './onnx_pb.js'
import type { ExportOptions } from './rows/network.js'
import { mergeStatistics } from './statistics.js'
import { encodeFloats, firstRepeated, isFloat, shallow, tensorShape } from './tensors.js'
import { writeModel } from './wire.js'

/**
 * The file that `model` came from with the given weights: graph, names, metadata and unknown fields stay, and so does
 * every tensor that is not named. Weights are written in the type and place that the file had them in; external data
 * are embedded.
 * @param weights by name, parameters and running statistics (any float initializer or Constant of the file)
 * @throws ERR_INVALID_ARGUMENT for a name or shape that the file does not have, or a value that its type cannot hold
 */
export function exportOnnx(
  model: Pick<OnnxModel, 'source'> & Partial<Pick<OnnxModel, 'separated' | 'repeated'>>,
  weights: TensorMap,
): Uint8Array {
  const left = new Map(weights)
  for (const [name, axis] of model.repeated ?? []) {
    const weight = left.get(name)
    if (weight) left.set(name, { ...weight, data: firstRepeated(weight.data, weight.shape, axis) })
  }
  const graph = shallow(model.source.graph!)
  graph.initializer = graph.initializer.map((tensor) => replaced(tensor, tensor.name, left))
  if (left.size > 0) graph.node = graph.node.map((node) => replacedConstant(node, left))
  const [unknown] = left.keys()
  if (unknown !== undefined) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `weights: expected names of tensors in the model, got "${unknown}"`,
    )
  }
  const copy: ModelProto = shallow(model.source)
  copy.graph = graph
  return writeModel(mergeStatistics(copy, model.separated ?? new Map()))
}

/** What an export of another network in this file's place keeps: its metadata, names and final function. */
export function fileOptions({ source, inputName, outputName, endsIn }: OnnxModel): ExportOptions {
  const { producerName, producerVersion, domain, modelVersion, docString, metadataProps, graph } = source
  return {
    metadata: Object.fromEntries(metadataProps.map(({ key, value }) => [key, value])),
    input: inputName,
    output: outputName,
    endsIn,
    head: { producerName, producerVersion, domain, modelVersion, docString },
    graph: { name: graph?.name ?? '', docString: graph?.docString ?? '' },
  }
}

/** The tensor with the data of `name`, which is taken from `left`. */
function replaced(tensor: TensorProto, name: string, left: TensorMap): TensorProto {
  const weight = left.get(name)
  if (!weight) return tensor
  left.delete(name)
  checkShape(name, tensorShape(tensor), weight)
  // A constant of booleans or integers is never changed.
  if (!isFloat(tensor.dataType)) return tensor
  return encodeFloats(tensor, weight.data)
}

function checkShape(
  name: string,
  shape: readonly number[],
  given: { shape: readonly number[]; data: Float32Array },
): void {
  const count = shape.reduce((a, b) => a * b, 1)
  if (given.shape.join() !== shape.join() || given.data.length !== count) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `weights: expected "${name}" of shape [${shape.join(', ')}], got [${given.shape.join(', ')}] with ${given.data.length} values`,
    )
  }
}

function replacedConstant(node: NodeProto, left: TensorMap): NodeProto {
  const name = node.output[0] ?? ''
  if (node.opType !== 'Constant' || !left.has(name)) return node
  const copy = shallow(node)
  copy.attribute = node.attribute.map((attribute) => replacedValue(attribute, name, left))
  return copy
}

function replacedValue(attribute: AttributeProto, name: string, left: TensorMap): AttributeProto {
  const copy = shallow(attribute)
  if (attribute.name === 'value' && attribute.t) copy.t = replaced(attribute.t, name, left)
  else if (attribute.name === 'value_floats') {
    const weight = left.get(name)!
    left.delete(name)
    checkShape(name, [attribute.floats.length], weight)
    copy.floats = [...weight.data]
  }
  return copy
}
