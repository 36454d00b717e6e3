// Makes small ONNX files for tests, right and wrong ones.
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf'
import {
  AttributeProto_AttributeType as Type,
  ModelProtoSchema,
  TensorProto_DataType as DataType,
  type AttributeProtoSchema,
  type FunctionProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from '../lib/onnx/onnx_pb.js'

export type NodeInit = MessageInitShape<typeof NodeProtoSchema>
export type TensorInit = MessageInitShape<typeof TensorProtoSchema>
export type AttributeInit = MessageInitShape<typeof AttributeProtoSchema>
type ValueInit = MessageInitShape<typeof ValueInfoProtoSchema>

export function floats(name: string, dims: readonly number[], data: Iterable<number>): TensorInit {
  const rawData = new Uint8Array(Float32Array.from(data).buffer)
  return { name, dataType: DataType.FLOAT, dims: dims.map(BigInt), rawData }
}

export function ints(name: string, values: readonly (number | bigint)[], dims = [values.length]): TensorInit {
  const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
  return { name, dataType: DataType.INT64, dims: dims.map(BigInt), rawData }
}

export const attribute = {
  int: (name: string, i: number | bigint): AttributeInit => ({ name, type: Type.INT, i: BigInt(i) }),
  ints: (name: string, list: readonly number[]): AttributeInit => ({ name, type: Type.INTS, ints: list.map(BigInt) }),
  float: (name: string, f: number): AttributeInit => ({ name, type: Type.FLOAT, f }),
  string: (name: string, s: string): AttributeInit => ({ name, type: Type.STRING, s: new TextEncoder().encode(s) }),
  tensor: (name: string, t: TensorInit): AttributeInit => ({ name, type: Type.TENSOR, t }),
}

export function node(
  opType: string,
  input: string[],
  output: string[],
  attributes: AttributeInit[] = [],
  rest: NodeInit = {},
): NodeInit {
  return { opType, name: `${opType}_${output[0]}`, input, output, attribute: attributes, ...rest }
}

export function value(
  name: string,
  dims: readonly (number | string)[],
  elemType: DataType = DataType.FLOAT,
): ValueInit {
  const dim = dims.map((d) =>
    typeof d === 'string'
      ? { value: { case: 'dimParam' as const, value: d } }
      : { value: { case: 'dimValue' as const, value: BigInt(d) } },
  )
  return { name, type: { value: { case: 'tensorType', value: { elemType, shape: { dim } } } } }
}

export interface ModelInit {
  nodes: NodeInit[]
  initializers?: TensorInit[]
  input?: readonly (number | string)[]
  inputs?: ValueInit[]
  outputs?: ValueInit[]
  opset?: number
  functions?: MessageInitShape<typeof FunctionProtoSchema>[]
}

/** A model from "x" to "y" [N, K]. */
export function onnxModel({
  nodes,
  initializers = [],
  input = ['N', 4],
  inputs,
  outputs,
  opset = 17,
  functions = [],
}: ModelInit): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: '', version: BigInt(opset) }],
    functions,
    graph: {
      name: 'test',
      node: nodes,
      initializer: initializers,
      input: inputs ?? [value('x', input)],
      output: outputs ?? [value('y', ['N', 3])],
    },
  })
  return toBinary(ModelProtoSchema, model)
}
