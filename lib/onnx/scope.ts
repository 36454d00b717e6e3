// What a lowering sees of its node: inputs and attributes, read with checks; and how lowerings are declared.
import type { PalimpsestError } from '../errors.js'
import type { Attributes } from './attributes.js'
import { dimsOf, type Emitter, type Operand, type Tensor } from './emitter.js'
import { dimensionOf, linears, type Linear } from './known.js'
import { nodeError } from './names.js'
import type { GraphNode } from './nodes.js'
import type { Known } from './tensors.js'

export interface Lowering {
  readonly inputs: readonly [least: number, most: number]
  readonly lower: (scope: NodeScope) => Operand | Operand[]
}

/** A lowering of an operator that takes `least` to `most` inputs. */
export function lowering(least: number, most: number, lower: Lowering['lower']): Lowering {
  return { inputs: [least, most], lower }
}

export class NodeScope {
  readonly attributes: Attributes
  readonly #inputs: readonly (Operand | undefined)[]

  constructor(
    readonly emit: Emitter,
    readonly node: GraphNode,
    readonly opset: number,
    inputs: readonly (Operand | undefined)[],
  ) {
    this.attributes = node.attributes
    this.#inputs = inputs
  }

  get count(): number {
    return this.#inputs.length
  }

  get outputs(): number {
    return this.node.output.length
  }

  /** @throws ERR_MODEL_FORMAT where the input is absent or no tensor */
  input(i: number): Tensor {
    return this.optional(i) ?? this.malformed(`expected input ${i}, got none`)
  }

  optional(i: number): Tensor | undefined {
    const operand = this.#inputs[i]
    if (operand?.kind === 'sequence') this.malformed(`expected input ${i} to be a tensor, got a sequence`)
    if (operand?.kind === 'positions') this.unsupported(`expected input ${i} to be a tensor of floats, got integers`)
    return operand
  }

  operand(i: number): Operand {
    return this.#inputs[i] ?? this.malformed(`expected input ${i}, got none`)
  }

  tensors(): Tensor[] {
    return this.#inputs.map((_, i) => this.input(i))
  }

  rank(i: number): number {
    return dimsOf(this.input(i)).length
  }

  /** An input whose values must be known at import. */
  known(i: number, what: string): Known {
    const input = this.input(i)
    if (input.kind !== 'known') this.unsupported(`expected ${what} (input ${i}) to be constant, got a computed tensor`)
    return input
  }

  /** A known list of numbers, each of which may depend on the batch size. */
  linears(i: number, what: string): Linear[] {
    return linears(this.known(i, what))
  }

  ints(i: number, what: string): number[] {
    return this.linears(i, what).map((x) => {
      const value = dimensionOf(x)
      if (x.batch !== 0) this.unsupported(`expected ${what} to be the same for every batch size, got ${x.batch} N`)
      if (!Number.isInteger(value)) this.malformed(`expected ${what} to be whole numbers, got ${value}`)
      return value
    })
  }

  optionalInts(i: number, what: string): number[] | undefined {
    return this.optional(i) && this.ints(i, what)
  }

  /** A known single number. */
  number(i: number, what: string): number {
    const known = this.known(i, what)
    if (known.data.length !== 1 || known.batch)
      this.malformed(`expected ${what} to be one number, got shape [${known.shape.join(', ')}]`)
    return known.data[0]
  }

  /** An axis counted from the front. @throws ERR_MODEL_FORMAT outside -rank to rank - 1 */
  axis(axis: number, rank: number): number {
    if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
      this.malformed(`expected an axis from ${-rank} to ${rank - 1}, got ${axis}`)
    }
    return axis < 0 ? axis + rank : axis
  }

  axes(axes: readonly number[], rank: number): number[] {
    const checked = axes.map((axis) => this.axis(axis, rank))
    if (new Set(checked).size !== checked.length) this.malformed(`expected each axis once, got [${axes.join(', ')}]`)
    return checked.sort((a, b) => a - b)
  }

  unsupported(message: string): never {
    throw this.#error('ERR_UNSUPPORTED', message)
  }

  malformed(message: string): never {
    throw this.#error('ERR_MODEL_FORMAT', message)
  }

  shapeError(message: string): never {
    throw this.#error('ERR_SHAPE', message)
  }

  #error(code: PalimpsestError['code'], message: string): PalimpsestError {
    return nodeError(code, this.node, message)
  }
}
