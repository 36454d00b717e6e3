// The network description: what the ONNX importer and the builder make, and what the native engine takes.
import { PalimpsestError } from './errors.js'

/** A dimension: 0 or more is itself; a negative entry -k stands for k times the batch size. */
export type Dimension = number

/** Attributes of a node, named as in native/ops/graph.h (`Attributes`); what a row does not read is left out. */
export interface NodeAttributes {
  kernel?: number[]
  strides?: number[]
  /** top, left, bottom, right */
  pads?: number[]
  dilations?: number[]
  group?: number
  /** Result dimensions of Reshape, Expand, Slice and Unslice. */
  dims?: Dimension[]
  axes?: number[]
  perm?: number[]
  starts?: number[]
  steps?: number[]
  indices?: number[]
  axis?: number
  order?: number
  transA?: boolean
  transB?: boolean
  countPads?: boolean
  alpha?: number
  beta?: number
  epsilon?: number
}

export interface NodeDescription {
  /** A row of the operator table (native/ops/operators.h). */
  op: string
  /** Value ids; -1 where an optional input is absent. */
  inputs: number[]
  /** Value ids of the results. */
  outputs: number[]
  attributes: NodeAttributes
}

export type LeafDescription =
  | { kind: 'input'; id: number }
  | { kind: 'parameter'; id: number; name: string; shape: number[] }
  /** `name` where training may change it (running statistics) and where the file named it. */
  | { kind: 'constant'; id: number; shape: number[]; data: Float32Array; name?: string }
  /** Only in linearised graphs: the tangent of the parameter of that name. */
  | { kind: 'tangent'; id: number; name: string; shape: number[] }

export interface NetworkDescription {
  /** Shape of one example, without the batch axis. */
  inputShape: number[]
  /** K, the number of outputs. */
  classes: number
  leaves: LeafDescription[]
  /** In topological order. */
  nodes: NodeDescription[]
  /** Value id of the [N, K] logits (before a final Softmax or LogSoftmax, where the network ends in one). */
  output: number
}

/** Weights by parameter name, ONNX layout, and what a training pass may change besides (running statistics). */
export type TensorMap = Map<string, { shape: number[]; data: Float32Array }>

/** Positions, among a network's constants, of running variances: BatchNormalization reads x, scale, bias, mean, variance. */
export function variancesOf({ nodes, leaves }: NetworkDescription): ReadonlySet<number> {
  const variances = new Set(nodes.flatMap(({ op, inputs }) => (op === 'BatchNormalization' ? [inputs[4]] : [])))
  const constants = leaves.filter(({ kind }) => kind === 'constant')
  return new Set(constants.flatMap(({ id }, i) => (variances.has(id) ? [i] : [])))
}

/** Throws ERR_MODEL_FORMAT where a running variance is below 0, of which there is no root. */
export function requireVariance(name: string, data: Float32Array): void {
  const wrong = data.findIndex((value) => value < 0)
  if (wrong < 0) return
  const got = `${data[wrong]} at position ${wrong}`
  throw new PalimpsestError('ERR_MODEL_FORMAT', `expected a running variance of at least 0, got ${got} of '${name}'`)
}
