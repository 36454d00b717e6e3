// Networks of a few nodes whose results can be checked by hand.
import type { NetworkDescription } from '../lib/network.js'
import { native, type NativeNetwork, type NativeVector } from '../lib/native.js'

/** y = x w^T + b: x [N, 3], w [2, 3], b [2]. */
export const linear: NetworkDescription = {
  inputShape: [3],
  classes: 2,
  leaves: [
    { kind: 'input', id: 0 },
    { kind: 'parameter', id: 1, name: 'w', shape: [2, 3] },
    { kind: 'parameter', id: 2, name: 'b', shape: [2] },
  ],
  nodes: [
    { op: 'MatMul', inputs: [0, 1], outputs: [3], attributes: { transB: true } },
    { op: 'Add', inputs: [3, 2], outputs: [4], attributes: {} },
  ],
  output: 4,
}

/** y = tanh(x w^T): the second derivative is not zero. */
export const curved: NetworkDescription = {
  ...linear,
  leaves: linear.leaves.slice(0, 2),
  nodes: [linear.nodes[0], { op: 'Tanh', inputs: [3], outputs: [4], attributes: {} }],
}

/** y = s * flat(x) with s [1], x [N, ...shape]: shows what a program was given as inputs. */
export function flat(shape: number[]): NetworkDescription {
  const width = shape.reduce((a, b) => a * b, 1)
  return {
    inputShape: shape,
    classes: width,
    leaves: [
      { kind: 'input', id: 0 },
      { kind: 'parameter', id: 1, name: 's', shape: [1] },
    ],
    nodes: [
      { op: 'Reshape', inputs: [0], outputs: [2], attributes: { dims: [-1, width] } },
      { op: 'Mul', inputs: [2, 1], outputs: [3], attributes: {} },
    ],
    output: 3,
  }
}

export const weights = { w: Float32Array.of(1, 2, 3, 4, 5, 6), b: Float32Array.of(10, 20) }

export function place(description: NetworkDescription = linear): NativeNetwork {
  return new (native().Network)(description, 'cpu')
}

export function vectorOf(network: NativeNetwork, values: Record<string, Float32Array> = {}): NativeVector {
  return new (native().Vector)(network, 'float32', values)
}
