// The networks and batches that products are timed on, and the FLOPs that the shortest schedule of each product takes.
import { networks, type Model, type NetworkSource } from '../lib/index.js'
import { product } from '../lib/networks/dims.js'
import { inferShapes } from '../lib/networks/shapes.js'

interface WorkloadSource {
  network: () => NetworkSource
  batch: number
  /** Whose rate is its limit. */
  bound: LimitName
}

export type WorkloadName = 'mlp' | 'convnet' | 'resnet18' | 'resnet50'

/** Those that are timed where none is named: ResNet-50's images of 224 x 224 are for GPUs. */
export const usualWorkloads = (device: string): WorkloadName[] =>
  device === 'cpu' ? ['mlp', 'convnet', 'resnet18'] : ['mlp', 'convnet', 'resnet18', 'resnet50']

export const workloads: Readonly<Record<WorkloadName, WorkloadSource>> = {
  mlp: { network: () => networks.mlp({ seed: 1 }), batch: 256, bound: 'gemm' },
  convnet: { network: () => networks.convnet({ seed: 1 }), batch: 128, bound: 'conv' },
  resnet18: { network: () => networks.resnet18({ seed: 1 }), batch: 32, bound: 'conv' },
  resnet50: { network: () => networks.resnet50({ seed: 1 }), batch: 32, bound: 'conv' },
}

/** The same at a size that takes no time: to see that everything runs. */
export const tinyWorkloads: typeof workloads = {
  mlp: { network: () => networks.mlp({ seed: 1, hidden: [16] }), batch: 8, bound: 'gemm' },
  convnet: { network: () => networks.convnet({ seed: 1, width: 4 }), batch: 4, bound: 'conv' },
  resnet18: { network: () => networks.resnet18({ seed: 1, width: 4 }), batch: 4, bound: 'conv' },
  resnet50: {
    network: () => networks.resnet50({ seed: 1, width: 4, inputShape: [3, 32, 32], classes: 10 }),
    batch: 4,
    bound: 'conv',
  },
}

export const quantities = [
  'forward',
  'gradient',
  'jvp',
  'jvp, linearised',
  'fisherDiagonal',
  'ggnProduct',
  'ggnProduct, linearised',
  'hessianProduct',
  'trainingStep',
] as const

export type Quantity = (typeof quantities)[number]

/** Quantities of a workload: training steps where there are convolutions. */
export const quantitiesOf = (name: WorkloadName): readonly Quantity[] =>
  quantities.filter((quantity) => quantity !== 'trainingStep' || name !== 'mlp')

/** A repeatable stream of values, uniform of variance 1: what is timed does not depend on them. */
export function* values(seed: number): Generator<number, never, undefined> {
  let state = seed >>> 0
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield (state / 2 ** 32 - 0.5) * Math.sqrt(12)
  }
}

export function filled(count: number, seed: number, scale = 1): Float32Array {
  const stream = values(seed)
  return Float32Array.from({ length: count }, () => scale * stream.next().value)
}

/** A batch for a model: normal-sized inputs, labels of every class. */
export function batchFor(model: Model, rows: number): { inputs: Float32Array; labels: Int32Array } {
  const inputs = filled(rows * product(model.inputShape), 2)
  return { inputs, labels: Int32Array.from({ length: rows }, (_, i) => (i * 7) % model.classes) }
}

/** Multiplications and additions of convolutions and products of one forward pass, a row. */
export interface Flops {
  /** F: 2 OH OW O (C / groups) KH KW of each convolution, 2 I O (times the rows of an example) of each product. */
  all: number
  /** F0: of those that read the network's input, which has neither tangent nor adjoint. */
  first: number
  /**
   * F1: of those that read the first ones' results through rows of zero second derivative and no scale of their own: no
   * product of second order needs the adjoint of their input, only its tangent.
   */
  second: number
}

const piecewiseLinear = new Set(['Add', 'Relu', 'LeakyRelu', 'MaxPool', 'Reshape', 'Transpose'])

/** Of one example. */
export function flopsOf({ network }: NetworkSource): Flops {
  const shapes = inferShapes(network)
  // How many convolutions or products lie before a value: 0, 1, or more; leaves other than the input have no depth.
  const depths = new Map(
    network.leaves.flatMap((leaf) => (leaf.kind === 'input' ? [[leaf.id, 0] as [number, number]] : [])),
  )
  const flops = { all: 0, first: 0, second: 0 }
  for (const { op, inputs, outputs, attributes } of network.nodes) {
    const before = inputs.flatMap((id) => depths.get(id) ?? [])
    if (before.length === 0) continue
    const depth = Math.max(...before)
    const alike = before.every((one) => one === depth)
    const dims = (id: number) => shapes.get(id)?.dims ?? []
    if (op !== 'Conv' && op !== 'MatMul') {
      const through = depth === 0 || (alike && piecewiseLinear.has(op))
      outputs.forEach((id) => depths.set(id, through ? depth : 2))
      continue
    }
    const [x, w, y] = [dims(inputs[0]), dims(inputs[1]), dims(outputs[0])]
    const inner = op === 'Conv' ? product(w.slice(1)) : x.at(attributes.transA === true ? -2 : -1)!
    const own = 2 * Math.abs(product(y)) * Math.abs(inner)
    flops.all += own
    if (depth === 0) flops.first += own
    if (depth === 1) flops.second += own
    outputs.forEach((id) => depths.set(id, depth + 1))
  }
  return flops
}

/**
 * FLOPs of the shortest schedule, in F and F0: forward F; an adjoint of the activations or their tangents F - F0; an
 * adjoint of the weights, or the tangents that come from them, F; the squares of an example's gradients F. A Hessian
 * product needs each but the adjoint of the weights once, its tangent too (twice F - F0 and 2 F - F0). Linearised
 * products leave out the forward pass.
 */
export const formulas: Readonly<Record<Quantity, { text: string; of: (flops: Flops) => number }>> = {
  forward: { text: 'F', of: ({ all }) => all },
  gradient: { text: '3 F - F0', of: ({ all, first }) => 3 * all - first },
  trainingStep: { text: '3 F - F0', of: ({ all, first }) => 3 * all - first },
  jvp: { text: '3 F - F0', of: ({ all, first }) => 3 * all - first },
  'jvp, linearised': { text: '2 F - F0', of: ({ all, first }) => 2 * all - first },
  'ggnProduct, linearised': { text: '4 F - 2 F0', of: ({ all, first }) => 4 * all - 2 * first },
  fisherDiagonal: { text: '3 F - F0', of: ({ all, first }) => 3 * all - first },
  ggnProduct: { text: '5 F - 2 F0', of: ({ all, first }) => 5 * all - 2 * first },
  hessianProduct: {
    text: '8 F - 5 F0 - F1',
    of: ({ all, first, second }) => 8 * all - 5 * first - second,
  },
}

/** Stacks whose forward pass is nearly nothing but one kind of kernel: the machine's limit, as this library reaches it. */
export const limits: Readonly<Record<LimitName, { batch: number; network: () => NetworkSource }>> = {
  /** Eight products of [256, 1024] and [1024, 1024]. */
  gemm: {
    batch: 256,
    network: () => {
      const b = new networks.NetworkBuilder([1024], { seed: 1 })
      let x = b.input
      for (let i = 1; i <= 8; i++) x = b.linear(x, `fc${i}`, { features: 1024, bias: false, gain: 1 })
      return b.build(x)
    },
  },
  /** Six 3 x 3 convolutions of 64 channels, 32 x 32 pixels, 32 rows. */
  conv: {
    batch: 32,
    network: () => {
      const b = new networks.NetworkBuilder([64, 32, 32], { seed: 1 })
      let x = b.input
      for (let i = 1; i <= 6; i++)
        x = b.conv(x, `conv${i}`, { channels: 64, kernel: 3, padding: 1, bias: false, gain: 1 })
      return b.build(b.globalAveragePool(x))
    },
  },
}

export type LimitName = 'gemm' | 'conv'
