// Shapes of every value of a description, by the rows' rules.
import { PalimpsestError } from '../errors.js'
import type { NetworkDescription } from '../network.js'
import type { Shape } from './dims.js'
import { rowShapes } from './rows.js'

/** @throws ERR_MODEL_FORMAT where a node reads what nothing makes, ERR_SHAPE and ERR_UNSUPPORTED_OPERATOR as the rows do */
export function inferShapes(network: NetworkDescription): Map<number, Shape> {
  const shapes = new Map<number, Shape>()
  for (const leaf of network.leaves) {
    shapes.set(leaf.id, { dims: leaf.kind === 'input' ? [-1, ...network.inputShape] : leaf.shape, outer: 1 })
  }
  for (const { op, inputs, outputs, attributes } of network.nodes) {
    const given = inputs.filter((id) => id >= 0).map((id) => shapes.get(id) ?? missing(op, id))
    const results = rowShapes({ op, inputs: given, attributes })
    outputs.forEach((id, i) => shapes.set(id, results[i] ?? missing(op, id)))
  }
  return shapes
}

function missing(op: string, id: number): never {
  throw new PalimpsestError('ERR_MODEL_FORMAT', `${op}: expected a value that an earlier node makes, got id ${id}`)
}
