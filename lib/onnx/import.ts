// Import: an ONNX classifier becomes a network of rows, its parameters and what is needed to write it back.
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { PalimpsestError } from '../errors.js'
import type { NetworkDescription, TensorMap } from '../network.js'
import { NetworkGraph, type Value } from '../networks/graph.js'
import { Budget } from './budget.js'
import { computed, Emitter, type Operand } from './emitter.js'
import { embedExternalData, readModelFile } from './files.js'
import { readInput, readOutput, type ModelInput } from './interface.js'
import { lowerings } from './lower/index.js'
import { lowerPositions } from './lower/positions.js'
import { naming, nodeError } from './names.js'
import { flattenNodes, type GraphNode } from './nodes.js'
import type { ModelProto } from './onnx_pb.js'
import { TensorProto_DataType as DataType } from './onnx_pb.js'
import { classify, type LeftOut, type ParameterChoice } from './parameters.js'
import { NodeScope, type Lowering } from './scope.js'
import { constantNode, floatSources, type Source } from './sources.js'
import { separateStatistics, type Separated } from './statistics.js'
import { areAlike, decodeTensor, isFloat, typeName, type Known } from './tensors.js'
import { readModel } from './wire.js'

export interface ImportOptions {
  /** Which float tensors are parameters; by default the rule of docs/operators.md. */
  parameters?: ParameterChoice
  /** Name of the output that holds the logits (or probabilities); needed where the file has several. */
  output?: string
  /** Shape of one example, where the file leaves axes besides the batch open. */
  inputShape?: readonly number[]
  /** The most bytes that reading the file may take; 2 GiB. */
  maxBytes?: number
}

/** A classifier that was read from a file. */
export interface OnnxModel {
  network: NetworkDescription
  /** Weights by name, in float32. Running statistics are constants of the network, under their names. */
  parameters: TensorMap
  /** Float tensors of the file that are no parameters, and why. */
  leftOut: LeftOut[]
  /** The function after the logits that the file ends in; exports keep it. */
  endsIn: 'Softmax' | 'LogSoftmax' | null
  /** The parsed file, external data inside: what an export with new weights starts from. */
  source: ModelProto
  /** Running statistics that the file has under one name, and the source under one each. */
  separated: Separated
  inputName: string
  outputName: string
  opset: number
  /** Parameters of which the file has one for each example of its batch, all alike, with the axis: exports keep them so. */
  repeated: ReadonlyMap<string, number>
  /** What was read with a loss: weights of other float types. */
  notes: string[]
}

const oldestOpset = 13
const newestOpset = 21

/**
 * Reads an ONNX classifier, opset 13 to 21, as the exporters of PyTorch write them.
 * @param model the bytes of a file (copied), or its path; external data are read from the path's folder only
 * @throws ERR_IO, ERR_MODEL_FORMAT, ERR_SHAPE, ERR_UNSUPPORTED, ERR_UNSUPPORTED_OPERATOR, ERR_OUT_OF_MEMORY,
 * ERR_INVALID_ARGUMENT; messages name node and operator
 */
export async function importOnnx(model: string | URL | Uint8Array, options: ImportOptions = {}): Promise<OnnxModel> {
  const maxBytes = options.maxBytes ?? 2 ** 31
  const file = pathOf(model)
  const files = new Budget(maxBytes)
  const bytes = file === undefined ? copyOf(model as Uint8Array, files) : await readModelFile(file, files)
  const folder = file === undefined ? undefined : path.dirname(file)
  const whole = await embedExternalData(readModel(bytes, maxBytes), folder, files)
  const { model: source, separated } = separateStatistics(whole)
  return { ...lowerModel(source, options, new Budget(maxBytes)), separated }
}

/** The path that a model is given by; undefined for bytes. */
function pathOf(model: string | URL | Uint8Array): string | undefined {
  if (typeof model === 'string') return model
  if (model instanceof URL && model.protocol === 'file:') return fileURLToPath(model)
  if (model instanceof Uint8Array) return undefined
  const got = (model as unknown) instanceof URL ? `"${String(model)}"` : typeof model
  throw new PalimpsestError('ERR_INVALID_ARGUMENT', `model: expected a path, a file URL or a Uint8Array, got ${got}`)
}

function copyOf(model: Uint8Array, budget: Budget): Uint8Array {
  budget.take(model.byteLength, 'model')
  try {
    return new Uint8Array(model)
  } catch (cause) {
    throw new PalimpsestError('ERR_INVALID_ARGUMENT', 'model: expected bytes that are there, got a detached array', {
      cause,
    })
  }
}

function lowerModel(source: ModelProto, options: ImportOptions, budget: Budget): Omit<OnnxModel, 'separated'> {
  const opset = readOpset(source)
  const nodes = flattenNodes(source)
  const input = readInput(source.graph!, options.inputShape)
  const outputName = readOutput(source.graph!, options.output)
  const live = liveNodes(nodes, outputName)
  live.forEach(loweringOf)
  const sources = floatSources(source, live)
  const { parameters, leftOut } = classify(live, sources, input.name, options.parameters)
  const graph = new NetworkGraph(input.shape, Math.floor(budget.limit / 4))
  const lowered = new Lowered(source, sources, graph, input, opset, budget)
  for (const name of parameters) lowered.addParameter(sources.get(name)!)
  for (const node of live) lowered.lowerNode(node)
  const { logits, endsIn } = beforeSoftmax(graph, outputValue(lowered.operand(outputName), outputName))
  const network = graph.finish(logits)
  const kept = new Set(network.leaves.flatMap((leaf) => (leaf.kind === 'parameter' ? [leaf.name] : [])))
  const unused = parameters
    .filter((name) => !kept.has(name))
    .map((name) => ({ name, reason: 'the logits do not depend on it' }))
  return {
    network,
    parameters: new Map([...lowered.parameters].filter(([name]) => kept.has(name))),
    leftOut: [...leftOut, ...unused],
    endsIn,
    source,
    inputName: input.name,
    outputName,
    opset,
    repeated: lowered.repeated,
    notes: lowered.notes,
  }
}

function readOpset(model: ModelProto): number {
  const versions = model.opsetImport
    .filter((o) => o.domain === '' || o.domain === 'ai.onnx')
    .map((o) => Number(o.version))
  const [opset] = versions
  if (versions.length !== 1 || opset === undefined || opset < oldestOpset || opset > newestOpset) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `model: expected opset ${oldestOpset} to ${newestOpset}, got ${versions.join(', ') || 'none'}`,
    )
  }
  return opset
}

/** Nodes that the output needs, in order. */
function liveNodes(nodes: readonly GraphNode[], output: string): GraphNode[] {
  const needed = new Set([output])
  return nodes
    .toReversed()
    .filter((node) => {
      const wanted = node.output.some((name) => name && needed.has(name))
      if (wanted) for (const name of node.input) needed.add(name)
      return wanted
    })
    .reverse()
}

/** How a node is lowered; undefined for Constant. @throws ERR_UNSUPPORTED_OPERATOR, ERR_MODEL_FORMAT by arity */
function loweringOf(node: GraphNode): Lowering | undefined {
  if (node.opType === 'Constant' && node.domain === '') return undefined
  const lowering = node.domain === '' ? lowerings.get(node.opType) : undefined
  if (!lowering) {
    const name = `${node.domain || 'ai.onnx'}.${node.opType}`
    throw nodeError('ERR_UNSUPPORTED_OPERATOR', node, `expected an operator of docs/operators.md, got ${name}`)
  }
  const [least, most] = lowering.inputs
  if (node.input.length < least || node.input.length > most) {
    throw nodeError('ERR_MODEL_FORMAT', node, `expected ${least} to ${most} inputs, got ${node.input.length}`)
  }
  return lowering
}

function outputValue(operand: Operand, name: string): Value {
  if (operand.kind !== 'computed') {
    throw new PalimpsestError('ERR_SHAPE', `output "${name}": expected logits that depend on the input, got a constant`)
  }
  return operand.value
}

/** The logits under a final Softmax or LogSoftmax over the classes, reshapes of [N, K, 1, ..] to [N, K] between. */
function beforeSoftmax(graph: NetworkGraph, output: Value): { logits: Value; endsIn: OnnxModel['endsIn'] } {
  const node = graph.producer(output.id)
  if (output.dims.length !== 2 || output.dims[0] !== -1) return { logits: output, endsIn: null }
  const inner = node?.op === 'Reshape' ? graph.valueOf(node.inputs[0]) : output
  const softmax = graph.producer(inner.id)
  if (softmax?.op !== 'Softmax' && softmax?.op !== 'LogSoftmax') return { logits: output, endsIn: null }
  const axis = softmax.attributes.axis!
  if (inner.dims[axis] !== output.dims[1] || inner.dims.some((d, i) => d > 1 && i !== axis))
    return { logits: output, endsIn: null }
  return { logits: graph.reshape(graph.valueOf(softmax.inputs[0]), output.dims), endsIn: softmax.op }
}

function notFinite(name: string, { data }: Known, at: number): PalimpsestError {
  const message = `tensor "${name}": expected finite numbers of float32, got ${data[at]} at ${at}`
  return new PalimpsestError('ERR_MODEL_FORMAT', message)
}

/** Values by ONNX name while the graph is lowered. */
class Lowered {
  readonly parameters: TensorMap = new Map()
  readonly notes: string[] = []
  readonly #values = new Map<string, Operand>()
  readonly #initializers = new Map<string, () => Known>()
  readonly #emit: Emitter

  constructor(
    model: ModelProto,
    readonly sources: ReadonlyMap<string, Source>,
    readonly graph: NetworkGraph,
    input: ModelInput,
    readonly opset: number,
    readonly budget: Budget,
  ) {
    this.#emit = new Emitter(graph, budget, input.fixedBatch)
    for (const tensor of model.graph!.initializer) {
      let known: Known | undefined
      this.#initializers.set(tensor.name, () => (known ??= this.#checked(decodeTensor(tensor, budget), tensor.name)))
    }
    this.#values.set(input.name, computed(graph.input))
  }

  /** @throws ERR_MODEL_FORMAT where no node made it */
  operand(name: string): Operand {
    const operand = this.#values.get(name) ?? this.#initializers.get(name)?.()
    if (!operand)
      throw new PalimpsestError('ERR_MODEL_FORMAT', `value "${name}": expected a node that makes it, got none`)
    return operand
  }

  /** @throws ERR_UNSUPPORTED where one differs between the examples */
  get repeated(): ReadonlyMap<string, number> {
    const { repeated } = this.#emit
    for (const [name, axis] of repeated) {
      const { data, shape } = this.parameters.get(name) as { data: Float32Array; shape: number[] }
      if (areAlike(data, shape, axis)) continue
      const what = `expected rows that are repeated for every example of the fixed batch, got others in "${name}"`
      throw new PalimpsestError('ERR_UNSUPPORTED', what)
    }
    return repeated
  }

  addParameter(source: Source): void {
    const known = this.#checked(source.read(this.budget), source.name)
    if (known.type !== DataType.FLOAT) {
      this.notes.push(
        `parameter "${source.name}": ${typeName(known.type)} in the file, float32 here; exports write ${typeName(known.type)}`,
      )
    }
    const data = Float32Array.from(known.data)
    const at = data.findIndex((v) => !Number.isFinite(v))
    if (at >= 0) throw notFinite(source.name, known, at)
    this.parameters.set(source.name, { shape: [...known.shape], data })
    this.#values.set(source.name, computed(this.graph.parameter(source.name, known.shape)))
  }

  lowerNode(node: GraphNode): void {
    if (node.output.some((name) => this.#values.has(name))) return
    naming(node, () => {
      const results =
        node.opType === 'Constant' && node.domain === '' ? [constantNode(node, this.budget)] : this.#lower(node)
      node.output.forEach((name, i) => {
        if (!name) return
        if (!results[i])
          throw nodeError(
            'ERR_UNSUPPORTED',
            node,
            `expected ${results.length} outputs to be used, got ${node.output.length}`,
          )
        this.#values.set(name, results[i])
      })
    })
  }

  #lower(node: GraphNode): Operand[] {
    const lowering = loweringOf(node)!
    const inputs = node.input.map((name) => (name ? this.operand(name) : undefined))
    const scope = new NodeScope(this.#emit, node, this.opset, inputs)
    const counted = inputs.some((operand) => operand?.kind === 'positions')
    const result = counted ? lowerPositions(scope, inputs) : lowering.lower(scope)
    return Array.isArray(result) ? result : [result]
  }

  /** Weights are finite; a single number may be an infinite bound. */
  #checked(known: Known, name: string): Known {
    if (!isFloat(known.type)) return { ...known, name }
    const at = known.data.findIndex((v) => !(Number.isFinite(v) || (known.data.length === 1 && !Number.isNaN(v))))
    if (at >= 0) throw notFinite(name, known, at)
    return { ...known, name }
  }
}
