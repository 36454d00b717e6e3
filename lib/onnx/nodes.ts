// The graph's nodes as a flat list: local functions inlined, in topological order, every name produced once.
import { PalimpsestError } from '../errors.js'
import { Attributes } from './attributes.js'
import { describeNode, nodeError, type NamedNode } from './names.js'
import type { AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto } from './onnx_pb.js'
import { shallow } from './tensors.js'

export interface GraphNode extends NamedNode {
  readonly domain: string
  readonly input: readonly string[]
  readonly attributes: Attributes
  /** False inside local functions, whose constants belong to every call. */
  readonly atTop: boolean
}

/** Nodes after inlining that a model may have. */
const mostNodes = 200_000
/** Calls of functions in functions. */
const deepestCalls = 32

/** How the body of a local function is written into the graph: names and attributes of one call. */
interface Call {
  readonly prefix: string
  readonly depth: number
  readonly names: Map<string, string>
  readonly attributes: ReadonlyMap<string, AttributeProto>
}

/**
 * @throws ERR_MODEL_FORMAT where names clash, values are never produced or the graph has a cycle
 */
export function flattenNodes(model: ModelProto): GraphNode[] {
  const graph = model.graph!
  const functions = new Map(model.functions.map((f) => [`${f.domain}:${f.name}:${f.overload}`, f]))
  const nodes: GraphNode[] = []
  inline(graph.node, functions, undefined, { nodes, seen: 0 })
  return sorted(nodes, checkedSources(graph, nodes))
}

/** Nodes so far, and how many were seen, calls among them. */
interface Inlined {
  readonly nodes: GraphNode[]
  seen: number
}

function inline(
  protos: readonly NodeProto[],
  functions: ReadonlyMap<string, FunctionProto>,
  call: Call | undefined,
  into: Inlined,
): void {
  for (const proto of protos) {
    // Calls count too: functions that call others twice each need no node to go on for ever.
    if (++into.seen > mostNodes) {
      throw new PalimpsestError(
        'ERR_UNSUPPORTED',
        `model: expected at most ${mostNodes} nodes, functions inlined, got more`,
      )
    }
    const node = renamed(proto, call)
    const body = functions.get(`${node.domain}:${node.opType}:${proto.overload}`)
    if (body) inlineCall(node, proto, body, functions, call, into)
    else into.nodes.push(node)
  }
}

function inlineCall(
  node: GraphNode,
  proto: NodeProto,
  body: FunctionProto,
  functions: ReadonlyMap<string, FunctionProto>,
  call: Call | undefined,
  into: Inlined,
): void {
  const depth = (call?.depth ?? 0) + 1
  if (depth > deepestCalls)
    throw nodeError('ERR_MODEL_FORMAT', node, 'expected local functions that do not call themselves')
  if (node.input.length > body.input.length || node.output.length > body.output.length) {
    throw nodeError(
      'ERR_MODEL_FORMAT',
      node,
      `expected at most ${body.input.length} inputs and ${body.output.length} outputs, got ${node.input.length} and ${node.output.length}`,
    )
  }
  const names = new Map<string, string>([['', '']])
  body.input.forEach((name, i) => names.set(name, node.input[i] ?? ''))
  body.output.forEach((name, i) => {
    if (node.output[i]) names.set(name, node.output[i])
  })
  const attributes = new Map(body.attributeProto.map((a) => [a.name, a]))
  for (const a of resolved(proto.attribute, call)) attributes.set(a.name, a)
  // Names of nodes may repeat, names of values do not.
  const prefix = `${node.output.find((name) => name) ?? node.name}/`
  inline(body.node, functions, { prefix, depth, names, attributes }, into)
}

function renamed(proto: NodeProto, call: Call | undefined): GraphNode {
  const domain = proto.domain === 'ai.onnx' ? '' : proto.domain
  const shared = { name: (call?.prefix ?? '') + proto.name, opType: proto.opType, domain, atTop: !call }
  const rename = (name: string): string => {
    if (!call) return name
    if (!call.names.has(name)) call.names.set(name, call.prefix + name)
    return call.names.get(name)!
  }
  const node = { ...shared, input: proto.input.map(rename), output: proto.output.map(rename) }
  return { ...node, attributes: new Attributes(node, resolved(proto.attribute, call)) }
}

/** Attributes of a node, those that refer to an attribute of the calling node replaced. */
function resolved(attributes: readonly AttributeProto[], call: Call | undefined): AttributeProto[] {
  if (!call) return [...attributes]
  return attributes.flatMap((attribute) => {
    if (!attribute.refAttrName) return [attribute]
    const given = call.attributes.get(attribute.refAttrName)
    if (!given) return []
    const copy = shallow(given)
    copy.name = attribute.name
    return [copy]
  })
}

/** Names that exist before any node runs. */
function checkedSources(graph: GraphProto, nodes: readonly GraphNode[]): Set<string> {
  const initializers = new Set<string>()
  for (const { name } of graph.initializer) {
    if (!name || initializers.has(name)) throw duplicate('initializer', name)
    initializers.add(name)
  }
  const inputs = new Set<string>()
  for (const { name } of graph.input) {
    if (!name || inputs.has(name)) throw duplicate('input', name)
    inputs.add(name)
  }
  const sources = new Set([...initializers, ...inputs])
  const produced = new Set<string>()
  for (const node of nodes) {
    for (const name of node.output) {
      if (!name) continue
      if (sources.has(name) || produced.has(name)) throw duplicate(describeNode(node), name)
      produced.add(name)
    }
  }
  return sources
}

function duplicate(what: string, name: string): PalimpsestError {
  return new PalimpsestError(
    'ERR_MODEL_FORMAT',
    `${what}: expected every name once, got "${name}" ${name ? 'twice' : 'empty'}`,
  )
}

/** Depth first, so that a file in order keeps its order. */
function sorted(nodes: readonly GraphNode[], sources: ReadonlySet<string>): GraphNode[] {
  const producer = new Map(nodes.flatMap((node) => node.output.map((name) => [name, node] as const)))
  const order: GraphNode[] = []
  const done = new Set<GraphNode>()
  const open = new Set<GraphNode>()
  for (const root of nodes) {
    const stack = [root]
    while (stack.length > 0) {
      const node = stack.at(-1)!
      const next = done.has(node) ? undefined : firstMissing(node, sources, producer, done)
      if (next) {
        open.add(node)
        if (open.has(next))
          throw nodeError('ERR_MODEL_FORMAT', node, 'expected a graph without cycles, got one through this node')
        stack.push(next)
        continue
      }
      if (!done.has(node)) order.push(node)
      done.add(node)
      open.delete(node)
      stack.pop()
    }
  }
  return order
}

/** The first node that must run before this one and has not. */
function firstMissing(
  node: GraphNode,
  sources: ReadonlySet<string>,
  producer: ReadonlyMap<string, GraphNode>,
  done: ReadonlySet<GraphNode>,
): GraphNode | undefined {
  for (const name of node.input) {
    if (!name || sources.has(name)) continue
    const before = producer.get(name)
    if (!before) {
      throw nodeError(
        'ERR_MODEL_FORMAT',
        node,
        `expected input "${name}" to be produced before, got nothing of that name`,
      )
    }
    if (!done.has(before)) return before
  }
  return undefined
}
