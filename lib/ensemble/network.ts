// The networks of an ensemble as one: a shared input, each model's nodes, and the rows that put their outputs together.
import type { Model } from '../model.js'
import type { LeafDescription, NetworkDescription, NodeAttributes, NodeDescription, TensorMap } from '../network.js'

/** One network that predicts what the models do together, and its weights under names of their own. */
export async function combined(
  models: readonly Model[],
  aggregate: 'mean' | 'vote',
): Promise<{ network: NetworkDescription; weights: TensorMap }> {
  const leaves: LeafDescription[] = [{ kind: 'input', id: 0 }]
  const nodes: NodeDescription[] = []
  const weights: TensorMap = new Map()
  let next = 1
  const append = (op: string, inputs: number[], attributes: NodeAttributes, results = 1): number => {
    const outputs = Array.from({ length: results }, () => next++)
    nodes.push({ op, inputs, outputs, attributes })
    return outputs[0]
  }
  const outputs: number[] = []
  for (const [i, model] of models.entries()) {
    const prefix = models.length > 1 ? `shard${i}.` : ''
    const described = await model.describeConstants()
    const ids = new Map<number, number>([[-1, -1]])
    for (const leaf of described.leaves) {
      ids.set(leaf.id, leaf.kind === 'input' ? 0 : next++)
      if (leaf.kind === 'input') continue
      const name = leaf.name === undefined ? {} : { name: prefix + leaf.name }
      leaves.push({ ...leaf, ...name, id: ids.get(leaf.id)! })
    }
    for (const node of described.nodes) {
      for (const id of node.outputs) ids.set(id, next++)
      const renamed = (list: number[]) => list.map((id) => ids.get(id)!)
      nodes.push({ ...node, inputs: renamed(node.inputs), outputs: renamed(node.outputs) })
    }
    for (const [name, tensor] of await model.tensors()) weights.set(prefix + name, tensor)
    outputs.push(aggregated(ids.get(described.output)!, aggregate, append))
  }
  const sum = outputs.reduce((a, b) => append('Add', [a, b], {}))
  const output = append('Affine', [sum], { alpha: 1 / models.length, beta: 0 })
  const { inputShape, classes } = models[0]
  return { network: { inputShape, classes, leaves, nodes, output }, weights }
}

/** softmax(f), or [f = max f] / #[f = max f]; [N, K] */
function aggregated(
  logits: number,
  aggregate: 'mean' | 'vote',
  append: (op: string, inputs: number[], attributes: NodeAttributes, results?: number) => number,
): number {
  if (aggregate === 'mean') return append('Softmax', [logits], { axis: 1 })
  const most = append('ReduceMax', [logits], { axis: 1 }, 2)
  const winners = append('Equal', [logits, most], {})
  return append('Div', [winners, append('ReduceSum', [winners], { axes: [1], alpha: 1 })], {})
}
