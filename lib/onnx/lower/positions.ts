// Positions that count examples: torch.as_strided, as an exporter writes it, gathers from a flattened tensor at
// positions computed from Range(0, N). Such a Gather is a view of every example for itself.
import { dimsOf, type Operand, type Positions, type Tensor } from '../emitter.js'
import { foldBinary } from '../folding.js'
import { knownInts, reshapeKnown } from '../known.js'
import type { NodeScope } from '../scope.js'
import type { Known } from '../tensors.js'

/** 0, 1, .., N - 1 */
export const examples: Positions = { kind: 'positions', slope: 1, offsets: knownInts([0]) }

function arithmetic(op: 'Add' | 'Mul', s: NodeScope, x: Positions, other: Known): Positions {
  if (
    other.shape.length > x.offsets.shape.length ||
    (other.shape.length === x.offsets.shape.length && other.shape[0] > 1)
  ) {
    return s.unsupported('expected numbers that are the same for every example')
  }
  if (op === 'Mul' && other.data.length !== 1) return s.unsupported('expected one factor')
  const offsets = foldBinary(op, x.offsets, other, s.emit.budget)
  return { ...x, slope: op === 'Mul' ? x.slope * other.data[0] : x.slope, offsets }
}

/** Axes of size 1 behind the first, which counts the examples. */
function unsqueeze(s: NodeScope, x: Positions): Positions {
  const given = s.ints(1, 'axes')
  const shape = [...x.offsets.shape]
  for (const axis of s.axes(given, shape.length + given.length)) {
    if (axis === 0) return s.unsupported('expected the axis of the examples to stay the first')
    shape.splice(axis, 0, 1)
  }
  return { ...x, offsets: reshapeKnown(x.offsets, shape) }
}

/** x [k N] at positions k n + offset: x as [N, k] at the offsets. */
function gather(s: NodeScope, x: Tensor, { slope, offsets }: Positions): Tensor {
  const dims = dimsOf(x)
  const offset = [...offsets.data]
  if (dims.length !== 1 || dims[0] !== -slope || offset.some((at) => !Number.isInteger(at) || at < 0 || at >= slope)) {
    return s.unsupported('expected positions within each example of a flattened tensor')
  }
  const taken = s.emit.gather(s.emit.reshape(x, [-1, slope]), 1, offset)
  return s.emit.reshape(taken, [-1, ...offsets.shape.slice(1)])
}

/** Lowers a node that reads positions. */
export function lowerPositions(s: NodeScope, inputs: readonly (Operand | undefined)[]): Operand {
  const at = inputs.findIndex((x) => x?.kind === 'positions')
  const positions = inputs[at] as Positions
  const other = inputs[1 - at]
  switch (s.node.opType) {
    case 'Add':
    case 'Mul':
      if (other?.kind === 'known') return arithmetic(s.node.opType, s, positions, other)
      break
    case 'Unsqueeze':
      return unsqueeze(s, positions)
    case 'Cast':
    case 'Identity':
      return positions
    case 'Gather':
      if (at === 1 && other?.kind === 'computed') return gather(s, other, positions)
      break
  }
  return s.unsupported('expected integers that are constant or sizes, got positions that count the examples of a batch')
}
