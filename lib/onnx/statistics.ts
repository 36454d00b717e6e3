// Running statistics that an exporter merged with equal tensors: one tensor a use for fitting, merged again on export.
import type { ModelProto, NodeProto, TensorProto } from './onnx_pb.js'
import { shallow } from './tensors.js'

/** A tensor that was made from another one of the file, by name. */
export type Separated = ReadonlyMap<string, string>

/** Running mean and variance among BatchNormalization's inputs. */
const places: readonly number[] = [3, 4]

function isStatistic(node: NodeProto, place: number): boolean {
  return node.opType === 'BatchNormalization' && node.domain === '' && places.includes(place)
}

function withNodes(model: ModelProto, node: NodeProto[], initializer: TensorProto[]): ModelProto {
  return Object.assign(shallow(model), { graph: Object.assign(shallow(model.graph!), { node, initializer }) })
}

/**
 * The model with a tensor of its own for every running mean and variance. Exporters write equal tensors once; in training
 * mode the averages of different normalisations part, and they are no bias or scale that happened to be equal.
 */
export function separateStatistics(model: ModelProto): { model: ModelProto; separated: Separated } {
  const graph = model.graph!
  const tensors = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const taken = new Set([...tensors.keys(), ...graph.node.flatMap(({ input, output }) => [...input, ...output])])
  // Names whose first use as a statistic, the only kind of use they have, keeps the name.
  const free = new Set(tensors.keys())
  for (const node of graph.node) node.input.forEach((name, i) => isStatistic(node, i) || free.delete(name))
  const separated = new Map<string, string>()
  const copies = new Map<string, TensorProto[]>()
  const node = graph.node.map((each) => {
    const input = each.input.map((name, i) => {
      const tensor = tensors.get(name)
      if (tensor === undefined || !isStatistic(each, i) || free.delete(name)) return name
      const made = [...(copies.get(name) ?? []), Object.assign(shallow(tensor), { name: unusedName(name, taken) })]
      copies.set(name, made)
      separated.set(made.at(-1)!.name, name)
      return made.at(-1)!.name
    })
    return input.every((name, i) => name === each.input[i]) ? each : Object.assign(shallow(each), { input })
  })
  if (separated.size === 0) return { model, separated }
  const initializer = graph.initializer.flatMap((tensor) => [tensor, ...(copies.get(tensor.name) ?? [])])
  return { model: withNodes(model, node, initializer), separated }
}

function unusedName(name: string, taken: Set<string>): string {
  let i = 2
  while (taken.has(`${name}.${i}`)) i++
  taken.add(`${name}.${i}`)
  return `${name}.${i}`
}

/** The model with those tensors under one name again that are still equal: the file's own graph where nothing changed. */
export function mergeStatistics(model: ModelProto, separated: Separated): ModelProto {
  if (separated.size === 0) return model
  const graph = model.graph!
  const tensors = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const same = new Map(
    [...separated].filter(([copy, name]) =>
      equalData(tensors.get(copy) as TensorProto, tensors.get(name) as TensorProto),
    ),
  )
  const node = graph.node.map((each) =>
    each.input.some((name) => same.has(name))
      ? Object.assign(shallow(each), { input: each.input.map((name) => same.get(name) ?? name) })
      : each,
  )
  return withNodes(
    model,
    node,
    graph.initializer.filter(({ name }) => !same.has(name)),
  )
}

/** Data of two tensors of one type, in the same field. */
function equalData(a: TensorProto, b: TensorProto): boolean {
  const lists = (tensor: TensorProto) => [tensor.floatData, tensor.doubleData, tensor.int32Data]
  return (
    Buffer.compare(a.rawData, b.rawData) === 0 &&
    lists(a).every(
      (list, i) => list.length === lists(b)[i].length && list.every((v, j) => Object.is(v, lists(b)[i][j])),
    )
  )
}
