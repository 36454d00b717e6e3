// Attributes of one node, read by name and type.
import {
  AttributeProto_AttributeType as Type,
  type AttributeProto,
  type GraphProto,
  type TensorProto,
} from './onnx_pb.js'
import { nodeError, type NamedNode } from './names.js'

export class Attributes {
  readonly #node: NamedNode
  readonly #byName: ReadonlyMap<string, AttributeProto>

  constructor(node: NamedNode, attributes: readonly AttributeProto[]) {
    this.#node = node
    this.#byName = new Map(attributes.map((a) => [a.name, a]))
    if (this.#byName.size !== attributes.length) {
      throw nodeError('ERR_MODEL_FORMAT', node, 'expected each attribute once, got one twice')
    }
  }

  has(name: string): boolean {
    return this.#byName.has(name)
  }

  names(): string[] {
    return [...this.#byName.keys()]
  }

  /** @throws ERR_MODEL_FORMAT where it is no integer within 2^53 */
  int(name: string, otherwise: number): number {
    const attribute = this.#get(name, Type.INT)
    return attribute ? this.#safe(name, attribute.i) : otherwise
  }

  ints(name: string): number[] | undefined {
    return this.#get(name, Type.INTS)?.ints.map((i) => this.#safe(name, i))
  }

  /** As numbers, those beyond 2^53 without their last digits: ends of slices that mean "to the end". */
  longs(name: string): number[] | undefined {
    const attribute = this.#byName.get(name)
    if (attribute?.type === Type.INT) return [Number(attribute.i)]
    return this.#get(name, Type.INTS)?.ints.map(Number)
  }

  float(name: string, otherwise: number): number {
    const value = this.#get(name, Type.FLOAT)?.f ?? otherwise
    if (Number.isNaN(value))
      throw nodeError('ERR_MODEL_FORMAT', this.#node, `expected attribute ${name} to be a number, got NaN`)
    return value
  }

  floats(name: string): number[] | undefined {
    return this.#get(name, Type.FLOATS)?.floats
  }

  string(name: string, otherwise: string): string {
    const attribute = this.#get(name, Type.STRING)
    return attribute ? new TextDecoder().decode(attribute.s) : otherwise
  }

  tensor(name: string): TensorProto | undefined {
    return this.#get(name, Type.TENSOR)?.t
  }

  graph(name: string): GraphProto | undefined {
    return this.#get(name, Type.GRAPH)?.g
  }

  #get(name: string, type: Type): AttributeProto | undefined {
    const attribute = this.#byName.get(name)
    if (!attribute) return undefined
    if (attribute.type !== type) {
      const got = attribute.refAttrName
        ? `a reference to ${attribute.refAttrName}`
        : (Type[attribute.type] ?? 'no type')
      throw nodeError('ERR_MODEL_FORMAT', this.#node, `expected attribute ${name} of type ${Type[type]}, got ${got}`)
    }
    return attribute
  }

  #safe(name: string, value: bigint): number {
    const number = Number(value)
    if (!Number.isSafeInteger(number)) {
      throw nodeError('ERR_MODEL_FORMAT', this.#node, `expected attribute ${name} within 2^53, got ${value}`)
    }
    return number
  }
}
