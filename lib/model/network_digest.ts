// What names a network without its weights: a digest of its graph.
import { createHash } from 'node:crypto'
import type { NetworkDescription } from '../network.js'

/**
 * Digest of a network: its graph, and its constants.
 *
 * @param left - positions of constants whose values are left out
 */
export function networkDigest(network: NetworkDescription, left: { has(constant: number): boolean }): string {
  const hash = createHash('sha256')
  const { inputShape, classes, nodes, output } = network
  let constant = 0
  for (const leaf of network.leaves) {
    const { kind, id } = leaf
    hash.update(JSON.stringify([kind, id, kind === 'input' ? [] : leaf.shape, kind === 'parameter' ? leaf.name : '']))
    if (leaf.kind === 'constant' && !left.has(constant++)) hash.update(leaf.data)
  }
  return hash.update(JSON.stringify({ inputShape, classes, nodes, output })).digest('hex')
}
