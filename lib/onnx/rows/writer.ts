// An ONNX graph while it is written: nodes, constants and names that are given once.
import { create } from '@bufbuild/protobuf'
import { product, type Shape } from '../../networks/dims.js'
import {
  AttributeProto_AttributeType as Type,
  AttributeProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
} from '../onnx_pb.js'

/** Attributes of an ONNX node: whole numbers and lists of them, strings, floats as `{ float }`, tensors. */
export type AttributeValue = number | readonly number[] | string | { readonly float: number } | TensorProto

export class GraphWriter {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  readonly #names = new Set<string>()
  readonly #constants = new Map<string, string>()

  /** @param input name of the network's input, whose first axis is the batch */
  constructor(readonly input: string) {
    this.#names.add(input)
  }

  /** A name that nothing else has: `wanted`, or with a number behind it. */
  name(wanted: string): string {
    let name = wanted
    for (let i = 1; this.#names.has(name); i++) name = `${wanted}_${i}`
    this.#names.add(name)
    return name
  }

  /** Appends a node and returns the name of its first result (`results` names them where they have names already). */
  node(
    opType: string,
    input: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    results?: readonly string[],
  ): string {
    const output = results ? [...results] : [this.name(opType)]
    const attribute = Object.entries(attributes).map(([name, value]) => attributeOf(name, value))
    this.nodes.push(create(NodeProtoSchema, { opType, name: `/${output[0]}`, input: [...input], output, attribute }))
    return output[0]
  }

  /** An initializer of float32. */
  floats(name: string, shape: readonly number[], data: Float32Array): string {
    const own = this.name(name)
    this.initializers.push(floatTensor(own, shape, data))
    return own
  }

  /** A single number, held once. */
  scalar(value: number): string {
    return this.#once(`float ${value}`, () => this.floats('number', [], Float32Array.of(value)))
  }

  ints(values: readonly number[]): string {
    return this.#once(`ints ${values.join()}`, () => {
      const name = this.name('sizes')
      this.initializers.push(
        create(TensorProtoSchema, {
          name,
          dataType: DataType.INT64,
          dims: [BigInt(values.length)],
          rawData: new Uint8Array(BigInt64Array.from(values, (v) => BigInt(v)).buffer),
        }),
      )
      return name
    })
  }

  /** Dimensions as a tensor; with a batch axis they are computed from the input's. */
  dims({ dims }: Shape): string {
    if (product(dims) >= 0) return this.ints(dims)
    const batch = this.#once('batch', () => {
      const shape = this.node('Shape', [this.input])
      return this.node('Slice', [shape, this.ints([0]), this.ints([1])])
    })
    const sizes = dims.map((d) =>
      d >= 0 ? this.ints([d]) : d === -1 ? batch : this.node('Mul', [batch, this.ints([-d])]),
    )
    return this.node('Concat', sizes, { axis: 0 })
  }

  #once(key: string, make: () => string): string {
    const name = this.#constants.get(key) ?? make()
    this.#constants.set(key, name)
    return name
  }
}

export function floatTensor(name: string, shape: readonly number[], data: Float32Array): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dataType: DataType.FLOAT,
    dims: shape.map((d) => BigInt(d)),
    rawData: new Uint8Array(data.slice().buffer),
  })
}

function attributeOf(name: string, value: AttributeValue): AttributeProto {
  if (typeof value === 'string')
    return create(AttributeProtoSchema, { name, type: Type.STRING, s: new TextEncoder().encode(value) })
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: Type.INT, i: BigInt(value) })
  if (Array.isArray(value)) {
    return create(AttributeProtoSchema, {
      name,
      type: Type.INTS,
      ints: (value as readonly number[]).map((v) => BigInt(v)),
    })
  }
  if ('float' in value) return create(AttributeProtoSchema, { name, type: Type.FLOAT, f: Math.fround(value.float) })
  return create(AttributeProtoSchema, { name, type: Type.TENSOR, t: value as TensorProto })
}
