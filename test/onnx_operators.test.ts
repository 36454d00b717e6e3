// Every ONNX operator that is imported: the rows it becomes give what onnxruntime gives for the file.
import { describe, expect, it } from 'vitest'
import { product } from '../lib/networks/dims.js'
import { Model } from '../lib/index.js'
import { importOnnx } from '../lib/onnx/index.js'
import { lowerings } from '../lib/onnx/lower/index.js'
import { interpret } from './interpreter.js'
import {
  attribute as at,
  floats,
  ints,
  node,
  onnxModel,
  value,
  type AttributeInit,
  type NodeInit,
  type TensorInit,
} from './onnx_models.js'
import { runOnnx } from './onnxruntime.js'
import { normals } from './random.js'

interface Sample {
  name: string
  /** Nodes from "x" to "h". */
  nodes: NodeInit[]
  constants?: TensorInit[]
  /** Of one example. */
  input?: number[]
  opset?: number
  positive?: boolean
}

const batch = 3
const seen = new Set<string>()

function random(name: string, dims: number[], seed = 5): TensorInit {
  return floats(name, dims, normals(product(dims), seed))
}

/** One node from x. */
function one(op: string, attributes: AttributeInit[] = [], rest: Partial<Sample> & { more?: string[] } = {}): Sample {
  const { more = [], ...sample } = rest
  const text = attributes.map((a) => `${a.name}`).join(' ')
  return {
    name: `${op} ${text} ${sample.opset ?? ''}`,
    nodes: [node(op, ['x', ...more], ['h'], attributes)],
    ...sample,
  }
}

async function compare({ nodes, constants = [], input = [4, 6], opset = 17, positive = false }: Sample): Promise<void> {
  for (const { opType } of nodes) seen.add(opType!)
  const bytes = onnxModel({
    nodes: [...nodes, node('Flatten', ['h'], ['y'])],
    initializers: constants,
    input: ['N', ...input],
    outputs: [value('y', ['N', 'K'])],
    opset,
  })
  const inputs = normals(batch * product(input), 1).map((v) => (positive ? Math.abs(v) + 0.2 : v))
  const expected = await runOnnx(bytes, inputs, input)
  const { network, parameters } = await importOnnx(bytes)
  const got = interpret(network, parameters, inputs)
  expect(got.shape).toEqual(expected.shape)
  const largest = Math.max(...expected.data.map(Math.abs))
  expect(largest).toBeGreaterThan(0.05)
  expect(new Set(expected.data).size).toBeGreaterThan(1)
  const error = Math.max(...got.data.map((v, i) => Math.abs(v - expected.data[i])))
  expect(error).toBeLessThan(5e-6 * Math.max(1, largest))
  // The engine's own kernels, and the file that the model gives back.
  const model = await Model.load(bytes, { device: 'cpu' })
  const own = await model.evaluate({ inputs })
  expect(Math.max(...own.map((v, i) => Math.abs(v - expected.data[i])))).toBeLessThan(2e-5 * Math.max(1, largest))
  const again = await runOnnx(await model.exportOnnx(), inputs, input)
  expect(Math.max(...again.data.map((v, i) => Math.abs(v - expected.data[i])))).toBeLessThan(
    2e-5 * Math.max(1, largest),
  )
  model.dispose()
}

const image = [4, 7, 8]
const halves = [node('Split', ['x'], ['a', 'b'], [at.int('axis', 1)])]
const pads2 = at.ints('pads', [1, 0, 2, 1])
const strides2 = at.ints('strides', [2, 1])
const kernel2 = at.ints('kernel_shape', [3, 2])

const elementwise: Sample[] = [
  ...['Relu', 'Sigmoid', 'Tanh', 'Softplus', 'Softsign', 'Abs', 'Exp', 'Erf', 'Neg', 'HardSwish', 'Identity', 'Selu', 'Sign'].map((op) => one(op)),
  ...['Sqrt', 'Log', 'Reciprocal'].map((op) => one(op, [], { positive: true })),
  one('LeakyRelu'),
  one('LeakyRelu', [at.float('alpha', 0.3)]),
  one('Elu', [at.float('alpha', 0.6)]),
  one('Celu', [at.float('alpha', 0.6)]),
  one('HardSigmoid', [at.float('alpha', 0.3), at.float('beta', 0.4)]),
  one('HardSigmoid'),
  one('ThresholdedRelu', [at.float('alpha', 0.5)]),
  one('Shrink', [at.float('lambd', 0.4), at.float('bias', 0.1)]),
  one('Mish', [], { opset: 18 }),
  one('Gelu', [], { opset: 20 }),
  one('Gelu', [at.string('approximate', 'tanh')], { opset: 20 }),
  one('PRelu', [], { more: ['s'], constants: [random('s', [4, 1])] }),
  one('Clip', [], { more: ['low', 'high'], constants: [floats('low', [], [-0.4]), floats('high', [], [0.9])] }),
  one('Clip', [], { more: ['', 'high'], constants: [floats('high', [], [0.3])], name: 'Clip from above' }),
  one('Clip', [], { more: ['low'], constants: [floats('low', [], [0])], name: 'Clip at zero' }),
  ...[2, 3, 0.5, -1, -0.5, 1, 2.5].map((p) => one('Pow', [], { name: `Pow ${p}`, more: ['p'], constants: [floats('p', [], [p])], positive: true })),
  { name: 'Pow of a constant base', nodes: [node('Pow', ['c', 'x'], ['h'])], constants: [floats('c', [], [1.7])] },
  ...['Add', 'Sub', 'Mul', 'Div'].flatMap((op) => [
    one(op, [], { name: `${op} of a tensor`, more: ['c'], constants: [random('c', [4, 1])] }),
    one(op, [], { name: `${op} of a number`, more: ['c'], constants: [floats('c', [], [0.7])] }),
    one(op, [], { name: `${op} of equal numbers`, more: ['c'], constants: [floats('c', [6], new Array<number>(6).fill(0.7))] }),
    { name: `${op} to a number`, nodes: [node(op, ['c', 'x'], ['h'])], constants: [floats('c', [], [0.7])], positive: true },
    { name: `${op} of two`, nodes: [...halves, node('Exp', ['b'], ['e']), node(op, ['a', 'e'], ['h'])] },
  ]),
  ...['Max', 'Min', 'Sum', 'Mean'].map((op): Sample => ({ name: `${op} of three`, nodes: [...halves, node(op, ['a', 'b', 'c'], ['h'])], constants: [random('c', [6])] })),
  one('Max', [], { name: 'Max with a number', more: ['c'], constants: [floats('c', [], [0.1])] }),
  ...['Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'Equal'].map((op): Sample => ({
    name: `${op}, Where`,
    nodes: [...halves, node('Relu', ['a'], ['p']), node('Relu', ['b'], ['q']), node(op, ['p', 'q'], ['m']), node('Where', ['m', 'a', 'c'], ['h'])],
    constants: [random('c', [2, 1])],
  })),
  {
    name: 'And, Or, Not, Cast',
    nodes: [
      ...halves,
      node('Greater', ['a', 'b'], ['p']),
      node('Less', ['b', 'c'], ['q']),
      node('And', ['p', 'q'], ['r']),
      node('Not', ['q'], ['s']),
      node('Or', ['r', 's'], ['t']),
      node('Cast', ['t'], ['u'], [at.int('to', 1)]),
      node('Mul', ['u', 'a'], ['v']),
      node('Cast', ['v'], ['w'], [at.int('to', 9)]),
      node('Cast', ['w'], ['z'], [at.int('to', 1)]),
      node('Add', ['z', 'a'], ['h']),
    ],
    constants: [floats('c', [], [0.2])],
  },
  { name: 'CastLike, Dropout', nodes: [node('CastLike', ['c', 'x'], ['d']), node('Mul', ['x', 'd'], ['e']), node('Dropout', ['e'], ['h'])], constants: [ints('c', [3], [])] },
  {
    name: 'arithmetic of constants',
    nodes: [
      node('Mul', ['c', 'c'], ['d']),
      node('Sqrt', ['d'], ['e']),
      node('Floor', ['e'], ['f']),
      node('Ceil', ['e'], ['g']),
      node('Mod', ['f', 'g'], ['i'], [at.int('fmod', 1)]),
      node('Sub', ['x', 'e'], ['j']),
      node('Sub', ['j', 'i'], ['h']),
    ],
    constants: [floats('c', [2], [1.5, 2.25]), floats('unused', [1], [1])],
    input: [4, 2],
  },
] // prettier-ignore

const structure: Sample[] = [
  { name: 'Reshape with 0 and -1', nodes: [node('Reshape', ['x', 's'], ['h'])], constants: [ints('s', [0, -1, 3])] },
  { name: 'Reshape by a computed shape', nodes: [node('Shape', ['x'], ['d']), node('Gather', ['d', 'i'], ['n']), node('Unsqueeze', ['n', 'z'], ['m']), node('Concat', ['m', 's'], ['t'], [at.int('axis', 0)]), node('Reshape', ['x', 't'], ['h'])], constants: [ints('i', [0], []), ints('z', [0]), ints('s', [8, 3])] },
  { name: 'Reshape that merges the batch', nodes: [node('Reshape', ['x', 's'], ['r']), node('MatMul', ['r', 'w'], ['m']), node('Reshape', ['m', 't'], ['h'])], constants: [ints('s', [-1, 6]), ints('t', [-1, 4, 5]), random('w', [6, 5])] },
  { name: 'Shape of a part, Size, Div, Range', nodes: [node('Shape', ['x'], ['d'], [at.int('start', 1), at.int('end', 3)]), node('Size', ['x'], ['n']), node('Shape', ['x'], ['e'], [at.int('end', 1)]), node('Squeeze', ['e'], ['f']), node('Div', ['n', 'f'], ['g']), node('Range', ['zero', 'g', 'one'], ['r']), node('Cast', ['r'], ['c'], [at.int('to', 1)]), node('Reshape', ['c', 'd'], ['u']), node('Add', ['x', 'u'], ['h'])], constants: [ints('zero', [0], []), ints('one', [1], [])] },
  one('Flatten', [at.int('axis', 2)], { input: [1, 6] }),
  { name: 'Squeeze, Unsqueeze', nodes: [node('Unsqueeze', ['x', 'a'], ['u']), node('Squeeze', ['u', 'b'], ['v']), node('Squeeze', ['v'], ['h'])], constants: [ints('a', [1, -1]), ints('b', [-1])] },
  { name: 'Transpose there and back', nodes: [node('Transpose', ['x'], ['t']), node('Softmax', ['t'], ['s'], [at.int('axis', 0)]), node('Transpose', ['s'], ['h'], [at.ints('perm', [2, 0, 1])])] },
  { name: 'Expand by the batch', nodes: [node('Shape', ['x'], ['d'], [at.int('end', 1)]), node('Concat', ['d', 's'], ['t'], [at.int('axis', 0)]), node('Expand', ['c', 't'], ['e']), node('Concat', ['e', 'x'], ['h'], [at.int('axis', 1)])], constants: [ints('s', [1, 6]), random('c', [1, 1, 6])] },
  { name: 'Expand both ways', nodes: [node('Unsqueeze', ['x', 'a'], ['u']), node('Expand', ['u', 's'], ['h'])], constants: [ints('a', [2]), ints('s', [4, 3, 1])] },
  { name: 'ConstantOfShape by the batch', nodes: [node('Shape', ['x'], ['d']), node('ConstantOfShape', ['d'], ['c'], [at.tensor('value', floats('', [1], [0.5]))]), node('Mul', ['x', 'c'], ['h'])] },
  one('Concat', [at.int('axis', -1)], { more: ['x', 'c'], nodes: [node('Exp', ['x'], ['e']), node('Concat', ['x', 'e'], ['h'], [at.int('axis', -1)])] }),
  one('Tile', [], { more: ['r'], constants: [ints('r', [1, 2, 3])] }),
  one('DepthToSpace', [at.int('blocksize', 2)], { input: [8, 2, 3] }),
  one('DepthToSpace', [at.int('blocksize', 2), at.string('mode', 'CRD')], { input: [8, 2, 3] }),
  one('SpaceToDepth', [at.int('blocksize', 2)], { input: [2, 4, 6] }),
  { name: 'Slice of two axes', nodes: [node('Slice', ['x', 'b', 'e', 'a', 's'], ['h'])], constants: [ints('b', [-1, 1]), ints('e', [-100, 2 ** 40]), ints('a', [2, 1]), ints('s', [-2, 2])] },
  { name: 'Slice of leading axes', nodes: [node('Slice', ['x', 'b', 'e'], ['h'])], constants: [ints('b', [0, 1]), ints('e', [2n ** 63n - 1n, 3])] },
  { name: 'Split into unequal parts', nodes: [node('Split', ['x', 's'], ['a', 'b'], [at.int('axis', 2)]), node('MatMul', ['w', 'b'], ['m']), node('Concat', ['a', 'm'], ['h'], [at.int('axis', 2)])], constants: [ints('s', [2, 4]), random('w', [4, 4])] },
  { name: 'Split by number', opset: 18, nodes: [node('Split', ['x'], ['a', 'b', 'c'], [at.int('axis', 2), at.int('num_outputs', 3)]), node('Mul', ['a', 'b'], ['m']), node('Sub', ['m', 'c'], ['h'])] },
  { name: 'SplitToSequence, SequenceAt', nodes: [node('SplitToSequence', ['x', 's'], ['q'], [at.int('axis', 1)]), node('SequenceAt', ['q', 'i'], ['a']), node('SequenceAt', ['q', 'j'], ['b']), node('Sub', ['a', 'b'], ['h'])], constants: [ints('s', [2], []), ints('i', [0], []), ints('j', [-1], [])] },
  { name: 'SequenceConstruct', nodes: [node('SequenceConstruct', ['x', 'x'], ['q']), node('SequenceAt', ['q', 'i'], ['a']), node('Exp', ['a'], ['h'])], constants: [ints('i', [1], [])] },
  one('Gather', [at.int('axis', 2)], { name: 'Gather by a matrix', more: ['i'], constants: [ints('i', [5, 0, -1, 3, 3, 2], [2, 3])] }),
  one('Gather', [at.int('axis', 1)], { name: 'Gather of one position', more: ['i'], constants: [ints('i', [-2], [])] }),
  one('Gather', [at.int('axis', 1)], { name: 'Gather backwards', more: ['i'], constants: [ints('i', [3, 1])] }),
  { name: 'GatherND of two axes', nodes: [node('Transpose', ['x'], ['t']), node('GatherND', ['t', 'i'], ['g']), node('Transpose', ['g'], ['h'])], constants: [ints('i', [0, 1, 5, -1, 2, 2], [3, 2])] },
  { name: 'ScatterND into constants and weights', nodes: [node('ConstantOfShape', ['s'], ['c']), node('ScatterND', ['c', 'i', 'u'], ['d']), node('ScatterND', ['w', 'j', 'd'], ['v']), node('MatMul', ['x', 'v'], ['h'])], constants: [ints('s', [2, 3]), ints('i', [0, 1, 1, -1], [2, 2]), floats('u', [2], [5, 6]), ints('j', [4, 1], [2, 1]), random('w', [6, 3])] },
  { name: 'as_strided, by positions of examples', nodes: [node('Shape', ['x'], ['n'], [at.int('end', 1)]), node('Squeeze', ['n'], ['m']), node('Range', ['zero', 'm', 'one'], ['r']), node('Mul', ['r', 'k'], ['p']), node('Unsqueeze', ['p', 'a'], ['q']), node('Add', ['q', 'o'], ['t']), node('Reshape', ['x', 'flat'], ['f']), node('Gather', ['f', 't'], ['h'])], constants: [ints('zero', [0], []), ints('one', [1], []), ints('k', [24], []), ints('a', [1, 2]), ints('o', [3, 0, 23, 7], [1, 2, 2]), ints('flat', [-1])] },
  one('Pad', [], { more: ['p'], constants: [ints('p', [0, 1, 0, 0, 0, 2])] }),
  one('Pad', [], { name: 'Pad with a number', more: ['p', 'v'], constants: [ints('p', [0, 1, 0, 0, 0, 2]), floats('v', [], [0.75])] }),
  one('Pad', [], { name: 'Pad that crops', more: ['p'], constants: [ints('p', [0, -1, 2, 0, 1, -3])] }),
  one('Pad', [], { name: 'Pad of some axes', opset: 18, more: ['p', '', 'a'], constants: [ints('p', [1, 2]), ints('a', [-1])] }),
  ...['reflect', 'edge'].map((mode) => one('Pad', [at.string('mode', mode)], { name: `Pad ${mode}`, more: ['p'], constants: [ints('p', [0, 1, 2, 0, 3, 1])] })),
  one('Pad', [at.string('mode', 'wrap')], { name: 'Pad wrap', opset: 19, more: ['p'], constants: [ints('p', [0, 1, 2, 0, 3, 1])] }),
  one('AveragePool', [at.ints('kernel_shape', [5, 4]), at.ints('strides', [3, 2]), at.ints('dilations', [2, 1]), at.ints('pads', [2, 1, 1, 2]), at.int('ceil_mode', 1), at.int('count_include_pad', 1)], { name: 'AveragePool with dilations, rounded up', input: [2, 11, 10], opset: 19 }),
  { name: 'Where by a constant of booleans', nodes: [node('Cast', ['c'], ['m'], [at.int('to', 9)]), node('Exp', ['x'], ['e']), node('Where', ['m', 'x', 'e'], ['h'])], constants: [ints('c', [1, 0, 1, 0, 0, 1])] },
  { name: 'Pad with a large number, MaxPool', input: image, nodes: [node('Pad', ['x', 'p', 'v'], ['q']), node('MaxPool', ['q'], ['h'], [kernel2])], constants: [ints('p', [0, 0, 1, 1, 0, 0, 1, 0]), floats('v', [], [-3.4028234e38])] },
  { name: 'Pad with minus infinity, MaxPool', input: image, nodes: [node('Pad', ['x', 'p', 'v'], ['q']), node('MaxPool', ['q'], ['h'], [kernel2])], constants: [ints('p', [0, 0, 1, 1, 0, 0, 1, 0]), floats('v', [], [-Infinity])] },
  { name: 'NonZero, Trilu of constants', nodes: [node('Trilu', ['c'], ['t'], [at.int('upper', 0)]), node('NonZero', ['i'], ['n']), node('Squeeze', ['n', 'z'], ['p']), node('Gather', ['x', 'p'], ['g'], [at.int('axis', 2)]), node('MatMul', ['g', 't'], ['h'])], constants: [random('c', [3, 3]), ints('i', [1, 0, 1, 0, 0, 1]), ints('z', [0])] },
] // prettier-ignore

const sums: Sample[] = [
  ...['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare', 'ReduceLogSumExp'].flatMap((op) => [
    one(op, [at.ints('axes', [-1])]),
    one(op, [at.ints('axes', [1, 2]), at.int('keepdims', 0)], { input: [5, 4, 3] }),
    one(op, [], { name: `${op} 18`, opset: 18, more: ['a'], constants: [ints('a', [1])] }),
    one(op, [at.int('noop_with_empty_axes', 1)], { opset: 18 }),
  ]),
  one('ReduceLogSum', [at.ints('axes', [1])], { positive: true }),
  one('ReduceSum', [at.int('keepdims', 0)], { more: ['a'], constants: [ints('a', [1])] }),
  { name: 'ReduceProd of a shape', nodes: [node('Shape', ['x'], ['d'], [at.int('start', 1)]), node('ReduceProd', ['d'], ['p'], [at.int('keepdims', 0)]), node('Cast', ['p'], ['c'], [at.int('to', 1)]), node('Div', ['x', 'c'], ['h'])] },
  one('Softmax'),
  one('Softmax', [at.int('axis', 1)]),
  one('LogSoftmax', [at.int('axis', 1)]),
  one('LpNormalization', [at.int('axis', 1), at.int('p', 2)]),
  one('LpNormalization', [at.int('p', 1)]),
] // prettier-ignore

const layers: Sample[] = [
  one('MatMul', [], { more: ['w'], constants: [random('w', [6, 5])] }),
  one('MatMul', [], { name: 'MatMul of a vector', more: ['w'], constants: [random('w', [6])] }),
  { name: 'MatMul by a vector', nodes: [node('MatMul', ['w', 'x'], ['h'])], constants: [random('w', [4])] },
  { name: 'MatMul of batches, transposed', nodes: [...halves, node('Transpose', ['b'], ['t'], [at.ints('perm', [0, 2, 1])]), node('MatMul', ['a', 't'], ['m']), node('MatMul', ['m', 'b'], ['h'])] },
  one('Gemm', [at.float('alpha', 0.5), at.float('beta', 2), at.int('transB', 1)], { input: [6], more: ['w', 'c'], constants: [random('w', [5, 6]), random('c', [5])] }),
  one('Gemm', [], { name: 'Gemm without c', input: [6], more: ['w'], constants: [random('w', [6, 5])] }),
  { name: 'Gemm of a transposed', input: [6], nodes: [node('Transpose', ['x'], ['t']), node('Gemm', ['t', 'w', 'c'], ['h'], [at.int('transA', 1)])], constants: [random('w', [6, 5]), floats('c', [1, 1], [0.3])] },
  ...['bij,jk->bik', 'bij,kj->bki', 'bij,bij->b', 'bij,ijk->bk', 'bij,k->bjk'].map((equation) =>
    one('Einsum', [at.string('equation', equation)], { name: `Einsum ${equation}`, more: [equation === 'bij,bij->b' ? 'x' : 'w'], constants: [random('w', equation.includes('ijk') ? [4, 6, 5] : equation.includes(',k-') ? [5] : equation.includes('jk') ? [6, 5] : [5, 6])], nodes: equation === 'bij,bij->b' ? [node('Einsum', ['x', 'x'], ['e'], [at.string('equation', equation)]), node('Unsqueeze', ['e', 'one'], ['h'])] : [node('Einsum', ['x', 'w'], ['h'], [at.string('equation', equation)])], ...(equation === 'bij,bij->b' ? { constants: [ints('one', [1])] } : {}) }),
  ),
  { name: 'Einsum of one', nodes: [node('Einsum', ['x'], ['h'], [at.string('equation', 'bij->bj')])] },
  { name: 'Einsum of attention', nodes: [...halves, node('Einsum', ['a', 'b'], ['m'], [at.string('equation', 'bid, bjd -> bij')]), node('Einsum', ['m', 'b'], ['h'], [at.string('equation', 'bij,bjd->bid')])] },
  one('Conv', [strides2, pads2, at.ints('dilations', [1, 2]), at.int('group', 2), kernel2], { input: image, more: ['w', 'b'], constants: [random('w', [6, 2, 3, 2]), random('b', [6])] }),
  ...['SAME_UPPER', 'SAME_LOWER', 'VALID'].map((mode) => one('Conv', [at.string('auto_pad', mode), strides2], { name: `Conv ${mode}`, input: image, more: ['w'], constants: [random('w', [3, 4, 3, 2])] })),
  one('Conv', [at.ints('strides', [2]), at.ints('pads', [2, 1]), at.ints('dilations', [2])], { name: 'Conv of one axis', input: [4, 12], more: ['w', 'b'], constants: [random('w', [3, 4, 3]), random('b', [3])] }),
  one('Conv', [], { name: 'depthwise Conv', nodes: [node('Conv', ['x', 'w'], ['h'], [at.int('group', 4)])], input: image, constants: [random('w', [8, 1, 3, 3])] }),
  one('MaxPool', [kernel2, strides2, pads2], { input: image }),
  one('MaxPool', [kernel2, at.ints('dilations', [2, 1])], { input: image }),
  one('MaxPool', [at.ints('kernel_shape', [3, 3]), at.ints('strides', [2, 2]), at.int('ceil_mode', 1)], { input: [2, 8, 10] }),
  one('MaxPool', [at.ints('kernel_shape', [2, 2]), at.string('auto_pad', 'SAME_UPPER')], { input: image }),
  one('MaxPool', [at.ints('kernel_shape', [3]), at.ints('strides', [2])], { name: 'MaxPool of one axis', input: [4, 12] }),
  one('AveragePool', [kernel2, strides2, at.ints('pads', [1, 0, 2, 1])], { input: image }),
  one('AveragePool', [kernel2, strides2, at.ints('pads', [1, 0, 2, 1]), at.int('count_include_pad', 1)], { input: image }),
  one('AveragePool', [at.ints('kernel_shape', [3, 3]), at.ints('strides', [2, 2]), at.int('ceil_mode', 1)], { input: [2, 8, 10] }),
  one('AveragePool', [at.ints('kernel_shape', [3, 3]), at.ints('strides', [2, 2]), at.ints('pads', [1, 1, 1, 1]), at.int('ceil_mode', 1), at.int('count_include_pad', 1)], { input: [2, 8, 10], opset: 19 }),
  one('AveragePool', [at.ints('kernel_shape', [2, 2]), at.ints('dilations', [2, 3])], { input: image, opset: 19 }),
  one('AveragePool', [at.ints('kernel_shape', [3]), at.ints('strides', [2])], { name: 'AveragePool of one axis', input: [4, 12] }),
  one('GlobalAveragePool', [], { input: image }),
  one('GlobalMaxPool', [], { input: image }),
  one('BatchNormalization', [at.float('epsilon', 0.01)], { input: image, more: ['s', 'b', 'm', 'v'], constants: [random('s', [4]), random('b', [4], 6), random('m', [4], 7), floats('v', [4], [0.5, 1, 2, 3])] }),
  one('BatchNormalization', [], { name: 'BatchNormalization of vectors', input: [4], more: ['s', 'b', 'm', 'v'], constants: [random('s', [4]), random('b', [4], 6), random('m', [4], 7), floats('v', [4], [0.5, 1, 2, 3])] }),
  one('InstanceNormalization', [at.float('epsilon', 0.01)], { input: image, more: ['s', 'b'], constants: [random('s', [4]), random('b', [4], 6)] }),
  one('LayerNormalization', [], { more: ['s', 'b'], constants: [random('s', [6]), random('b', [6], 6)] }),
  one('LayerNormalization', [at.int('axis', 1), at.float('epsilon', 0.01)], { more: ['s'], constants: [random('s', [4, 6])] }),
  { name: 'LayerNormalization with its statistics', nodes: [node('LayerNormalization', ['x', 's'], ['n', 'm', 'i']), node('Mul', ['n', 'i'], ['p']), node('Add', ['p', 'm'], ['h'])], constants: [random('s', [6])] },
  one('GroupNormalization', [at.int('num_groups', 2)], { input: image, opset: 21, more: ['s', 'b'], constants: [random('s', [4]), random('b', [4], 6)] }),
  one('GroupNormalization', [at.int('num_groups', 2), at.float('epsilon', 0.01)], { input: image, opset: 18, more: ['s', 'b'], constants: [random('s', [2]), random('b', [2], 6)] }),
  one('MeanVarianceNormalization', [at.ints('axes', [1, 2])]),
  one('LRN', [at.int('size', 3), at.float('alpha', 0.2), at.float('beta', 0.6), at.float('bias', 1.5)], { input: image }),
] // prettier-ignore

describe.each([
  ['elementwise', elementwise],
  ['structure', structure],
  ['reductions', sums],
  ['layers', layers],
] as [string, Sample[]][])('%s', (_, samples) => {
  it.each(samples)('$name', compare)
})

it('has a sample for every operator', () => {
  const missing = [...lowerings.keys()].filter((op) => !seen.has(op))
  expect(missing).toEqual([])
})

describe('compositions', () => {
  const gelu = (scaleFirst: boolean): NodeInit[] => [
    node('Div', ['x', 'root'], ['d']),
    node('Erf', ['d'], ['e']),
    node('Add', ['e', 'one'], ['f']),
    ...(scaleFirst
      ? [node('Mul', ['x', 'half'], ['g']), node('Mul', ['g', 'f'], ['h'])]
      : [node('Mul', ['x', 'f'], ['g']), node('Mul', ['g', 'half'], ['h'])]),
  ]
  const tanhGelu = [
    node('Pow', ['x', 'three'], ['a']),
    node('Mul', ['a', 'c'], ['b']),
    node('Add', ['x', 'b'], ['d']),
    node('Mul', ['d', 'k'], ['e']),
    node('Tanh', ['e'], ['f']),
    node('Add', ['f', 'one'], ['g']),
    node('Mul', ['half', 'x'], ['i']),
    node('Mul', ['i', 'g'], ['h']),
  ]
  const numbers = [
    floats('root', [], [Math.SQRT2]),
    floats('half', [], [0.5]),
    floats('one', [], [1]),
    floats('three', [], [3]),
    floats('c', [], [0.044715]),
    floats('k', [], [Math.sqrt(2 / Math.PI)]),
    floats('six', [], [6]),
    floats('zero', [], [0]),
  ]
  const cases: [string, NodeInit[], string[]][] = [
    ['Gelu with Erf, x / 2 first', gelu(true), ['Gelu']],
    ['Gelu with Erf, halved last', gelu(false), ['Gelu']],
    ['Gelu with Tanh', tanhGelu, ['GeluTanh']],
    ['SiLU', [node('Sigmoid', ['x'], ['s']), node('Mul', ['x', 's'], ['h'])], ['Silu']],
    ['Mish', [node('Softplus', ['x'], ['s']), node('Tanh', ['s'], ['t']), node('Mul', ['t', 'x'], ['h'])], ['Mish']],
    ['HardSwish of HardSigmoid', [node('HardSigmoid', ['x'], ['s'], [at.float('alpha', 1 / 6)]), node('Mul', ['x', 's'], ['h'])], ['HardSwish']],
    ['HardSwish of Clip', [node('Add', ['x', 'three'], ['a']), node('Clip', ['a', 'zero', 'six'], ['b']), node('Mul', ['x', 'b'], ['c2']), node('Div', ['c2', 'six'], ['h'])], ['HardSwish']],
    ['scalings that follow one another', [node('Mul', ['x', 'three'], ['a']), node('Add', ['a', 'one'], ['b']), node('Neg', ['b'], ['h'])], ['Affine']],
  ] // prettier-ignore

  it.each(cases)('%s', async (_, nodes, rows) => {
    const sample = { name: '', nodes, constants: numbers, input: [7] }
    await compare(sample)
    const { network } = await importOnnx(
      onnxModel({ nodes: [...nodes, node('Identity', ['h'], ['y'])], initializers: numbers, input: ['N', 7] }),
    )
    expect(network.nodes.map((n) => n.op)).toEqual(rows)
  })

  it('are left alone where a constant differs', async () => {
    const other = numbers.with(0, floats('root', [], [1.4]))
    await compare({ name: '', nodes: gelu(true), constants: other, input: [7] })
  })
})
