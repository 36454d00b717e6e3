// Export of descriptions: every row written in ONNX's operators gives in onnxruntime what the reference interpreter gives.
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import type { NetworkDescription, NodeAttributes, TensorMap } from '../lib/network.js'
import { product } from '../lib/networks/dims.js'
import { NetworkGraph, type Value } from '../lib/networks/graph.js'
import { unaryRows } from '../lib/networks/rows.js'
import { exportNetwork, importOnnx } from '../lib/onnx/index.js'
import { readSafetensors } from '../lib/safetensors.js'
import { interpret } from './interpreter.js'
import { runOnnx } from './onnxruntime.js'
import { normals } from './random.js'

const batch = 3

/** Runs a network both ways and compares; refuses samples that could not show a difference. */
async function compare(
  network: NetworkDescription,
  weights: TensorMap,
  inputs: Float32Array,
  tangents?: TensorMap,
): Promise<void> {
  const expected = interpret(network, weights, inputs, tangents)
  const got = await runOnnx(exportNetwork(network, weights, tangents), inputs, network.inputShape)
  expect(got.shape).toEqual(expected.shape)
  const largest = Math.max(...expected.data.map(Math.abs))
  expect(largest).toBeGreaterThan(0.1)
  expect(expected.data.filter((v) => Math.abs(v) > 1e-3 * largest).length).toBeGreaterThan(expected.data.length / 6)
  const error = Math.max(...expected.data.map((v, i) => Math.abs(v - got.data[i])))
  expect(error).toBeLessThan(8e-6 * Math.max(1, largest))
}

interface Sample {
  name: string
  input: number[]
  build: (graph: NetworkGraph) => Value
  shift?: number
}

function weight(graph: NetworkGraph, shape: number[], seed = 7): Value {
  return graph.constant(shape, normals(shape.reduce((a, b) => a * b, 1), seed)) // prettier-ignore
}

const row =
  (op: string, attributes: NodeAttributes = {}, ...others: number[][]) =>
  (graph: NetworkGraph): Value =>
    graph.append(op, [graph.input, ...others.map((shape, i) => weight(graph, shape, 7 + i))], attributes)

const window = { kernel: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1], dilations: [1, 2] }

/** Pooled values twice: those of another image at the maxima of this one. */
function pooledElsewhere(graph: NetworkGraph): Value {
  const y = graph.append('MaxPool', [graph.input], window)
  const index = graph.valueOf(graph.producer(y.id)!.outputs[1])
  const other = graph.append('Mul', [graph.input, weight(graph, [1, 2, 7, 8])])
  return graph.append('Add', [y, graph.append('PoolGather', [other, index], window)])
}

function takenAlong(graph: NetworkGraph): Value {
  const y = graph.append('ReduceMax', [graph.input], { axis: 2 })
  const index = graph.valueOf(graph.producer(y.id)!.outputs[1])
  const other = graph.append('Mul', [graph.input, weight(graph, [4, 5])])
  return graph.append('Add', [y, graph.append('TakeAlongAxis', [other, index], { axis: 2 })])
}

const samples: Sample[] = [
  ...(['Add', 'Sub', 'Mul', 'Div'] as const).map((op) => ({ name: op, input: [4, 5], build: row(op, {}, [4, 1]) })),
  ...(['Greater', 'GreaterOrEqual'] as const).map((op) => ({ name: op, input: [4, 5], build: row(op, {}, [5]) })),
  { name: 'Equal', input: [6], build: (g) => g.append('Equal', [g.append('Greater', [g.input, weight(g, [6])]), g.constant([], Float32Array.of(1))]) },
  { name: 'Where', input: [6], build: (g) => g.append('Where', [g.append('Greater', [g.input, weight(g, [6])]), g.input, weight(g, [1, 6], 9)]) },
  { name: 'MatMul of matrices', input: [6], build: row('MatMul', { transB: true, alpha: 0.5 }, [4, 6]) },
  { name: 'MatMul of batches', input: [2, 3, 5], build: row('MatMul', { transA: true, transB: true, alpha: 0.5 }, [2, 4, 3]) },
  { name: 'Conv', input: [4, 7, 8], build: row('Conv', { strides: [2, 1], pads: [1, 0, 2, 1], dilations: [1, 2], group: 2 }, [6, 2, 3, 2]) },
  { name: 'Reshape', input: [4, 6], build: (g) => g.reshape(g.input, [-2, 3, 4]) },
  { name: 'Transpose', input: [4, 6], build: (g) => g.transpose(g.append('Exp', [g.transpose(g.input, [2, 0, 1])]), [1, 2, 0]) },
  { name: 'Expand', input: [1, 6], build: row('Expand', { dims: [-1, 4, 6] }) },
  { name: 'Expand of a constant', input: [4, 6], build: (g) => g.append('Mul', [g.input, g.append('Expand', [weight(g, [1, 4, 1])], { dims: [-1, 4, 6] })]) },
  { name: 'Concat', input: [4, 6], build: (g) => g.append('Concat', [g.input, g.append('Exp', [g.input])], { axis: 1 }) },
  { name: 'Slice', input: [4, 6], build: row('Slice', { starts: [0, 1, 5], steps: [1, 2, -2], dims: [-1, 2, 3] }) },
  { name: 'Slice back to 0', input: [4, 6], build: row('Slice', { starts: [0, 3, 1], steps: [1, -1, 1], dims: [-1, 4, 4] }) },
  { name: 'Unslice', input: [4, 6], build: row('Unslice', { starts: [0, 1, 0], steps: [1, 1, 1], dims: [-1, 6, 7] }) },
  { name: 'Unslice by steps', input: [4, 3], build: row('Unslice', { starts: [0, 1, 5], steps: [1, 2, -2], dims: [-1, 9, 7] }) },
  { name: 'Gather', input: [4, 6], build: row('Gather', { axis: 2, indices: [5, 0, 0, 3] }) },
  { name: 'ReduceSum', input: [4, 6], build: row('ReduceSum', { axes: [1, 2], alpha: 0.25 }) },
  { name: 'ReduceMax, TakeAlongAxis', input: [4, 5], build: takenAlong },
  { name: 'Softmax', input: [4, 6], build: row('Softmax', { axis: 1 }) },
  { name: 'LogSoftmax', input: [4, 6], build: row('LogSoftmax', { axis: 2 }) },
  { name: 'MaxPool, PoolGather', input: [2, 7, 8], build: pooledElsewhere },
  { name: 'AveragePool', input: [2, 7, 8], build: row('AveragePool', { ...window, dilations: [1, 1] }) },
  { name: 'AveragePool with pads', input: [2, 7, 8], build: row('AveragePool', { ...window, dilations: [1, 1], countPads: true }) },
  { name: 'ConstantOfShape', input: [4], build: (g) => g.append('Mul', [g.input, g.append('ConstantOfShape', [], { dims: [-1, 4], alpha: 3 })]) },
  { name: 'StopGradient', input: [4], build: row('StopGradient') },
  { name: 'BatchNormalization', input: [5, 3, 2], build: (g) => g.append('BatchNormalization', [g.input, weight(g, [5]), weight(g, [5], 8), weight(g, [5], 9), g.append('Exp', [weight(g, [5], 10)])], { epsilon: 1e-3 }) },
] // prettier-ignore

describe('rows in onnxruntime', () => {
  it.each(samples)('$name', async ({ input, build }) => {
    const graph = new NetworkGraph(input)
    const y = build(graph)
    const classes = Math.abs(product(y.dims))
    const network = graph.finish(graph.reshape(y, [-1, classes]))
    await compare(network, new Map(), normals(batch * input.reduce((a, b) => a * b, 1), 1))
  })
})

/** Parameters of unary rows, and a shift of standard normal inputs into the domain. */
const unaryAttributes: Record<string, NodeAttributes> = {
  LeakyRelu: { alpha: 0.2 },
  Elu: { alpha: 0.7 },
  HardSigmoid: { alpha: 0.3, beta: 0.4 },
  Clip: { alpha: -0.5, beta: 0.8 },
  Pow: { alpha: 2.5 },
  Affine: { alpha: -1.5, beta: 0.3 },
}
const positive = new Set(['Sqrt', 'Pow', 'Log', 'Reciprocal'])

describe.each(unaryRows)('the unary row %s', (op) => {
  it.each([0, 1])('order %i', async (order) => {
    // Between multiples of 0.05, where no kink is: the interpreter takes differences.
    const between = (v: number): number => Math.round(20 * v) / 20 + 0.025
    const inputs = normals(batch * 40, 2).map((v) => between(positive.has(op) ? Math.abs(v) + 0.3 : 1.5 * v))
    const graph = new NetworkGraph([40])
    const others = order === 0 ? [] : [weight(graph, [40])]
    const attributes = { ...unaryAttributes[op], ...(order === 0 ? {} : { order }) }
    await compare(graph.finish(graph.append(op, [graph.input, ...others], attributes)), new Map(), inputs)
  })
})

describe('tangent models', () => {
  it('hold tangents as initializers beside the weights', async () => {
    const graph = new NetworkGraph([5])
    const w = graph.parameter('fc.weight', [3, 5])
    const primal = graph.append('MatMul', [graph.input, w], { transB: true })
    const network = graph.finish(primal)
    const tangent = { kind: 'tangent' as const, id: 100, name: 'fc.weight', shape: [3, 5] }
    network.leaves.push(tangent)
    network.nodes.push({ op: 'MatMul', inputs: [graph.input.id, 100], outputs: [101], attributes: { transB: true } })
    network.nodes.push({ op: 'Add', inputs: [network.output, 101], outputs: [102], attributes: {} })
    network.output = 102
    const weights: TensorMap = new Map([['fc.weight', { shape: [3, 5], data: normals(15, 3) }]])
    const tangents: TensorMap = new Map([['fc.weight', { shape: [3, 5], data: normals(15, 4) }]])
    await compare(network, weights, normals(batch * 5, 5), tangents)
    expect(() => exportNetwork(network, weights)).toThrow(/tangents: expected "fc.weight" of shape \[3, 5\], got none/)
  })
})

describe.each(['mlp', 'lenet', 'lqf', 'vgg', 'resnet', 'mobilenet', 'vit', 'tied'])(
  'the network of the fixture %s',
  (name) => {
    it('runs in onnxruntime with the logits of PyTorch', async () => {
      const fixture = (file: string): URL => new URL(`fixtures/${file}`, import.meta.url)
      const { network, parameters } = await importOnnx(fixture(`${name}.onnx`))
      const { tensors } = readSafetensors(await readFile(fixture(`${name}.safetensors`)))
      const got = await runOnnx(exportNetwork(network, parameters), tensors.get('x')!.data, network.inputShape)
      const expected = tensors.get('logits')!.data
      const largest = Math.max(...expected.map(Math.abs))
      expected.forEach((v, i) => expect(Math.abs(got.data[i] - v)).toBeLessThan(1e-5 * Math.max(1, largest)))
    })
  },
)
