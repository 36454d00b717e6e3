// How nodes are named in messages, and errors that name them.
import { PalimpsestError, type ErrorCode } from '../errors.js'

/** What a message needs to know of a node. */
export interface NamedNode {
  readonly name: string
  readonly opType: string
  readonly output: readonly string[]
}

/** `node "/conv1/Conv" (Conv)` */
export function describeNode(node: NamedNode): string {
  return `node "${node.name || (node.output[0] ?? '')}" (${node.opType})`
}

export function nodeError(code: ErrorCode, node: NamedNode, message: string): PalimpsestError {
  return new PalimpsestError(code, `${describeNode(node)}: ${message}`)
}

/** Runs a step of a node; errors of the layers below gain the node's name. */
export function naming<T>(node: NamedNode, step: () => T): T {
  try {
    return step()
  } catch (error) {
    if (error instanceof PalimpsestError && !error.message.startsWith('node "')) {
      throw new PalimpsestError(error.code, `${describeNode(node)}: ${error.message}`, { cause: error })
    }
    throw error
  }
}
