// Files that no import may accept: each is a coded error that names what was expected and where, and nothing crashes.
import { mkdtemp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PalimpsestError, type ErrorCode } from '../lib/errors.js'
import { exportOnnx, importOnnx, type ImportOptions } from '../lib/onnx/index.js'
import { TensorProto_DataLocation, TensorProto_DataType as DataType } from '../lib/onnx/onnx_pb.js'
import { attribute, floats, ints, node, onnxModel, value, type ModelInit, type TensorInit } from './onnx_models.js'
import { Model } from '../lib/index.js'
import { normals, uniform } from './random.js'

const weight = floats(
  'w',
  [4, 3],
  Array.from({ length: 12 }, (_, i) => i / 12),
)
const head = node('MatMul', ['h', 'w'], ['y'])
const plain: ModelInit = { nodes: [node('MatMul', ['x', 'w'], ['y'])], initializers: [weight] }

async function refused(
  model: ModelInit | Uint8Array | string,
  code: ErrorCode,
  message: RegExp,
  options?: ImportOptions,
): Promise<void> {
  const source = typeof model === 'string' || model instanceof Uint8Array ? model : onnxModel(model)
  const error: unknown = await importOnnx(source, options).then(() => 'imported', (e: unknown) => e) // prettier-ignore
  expect(error).toBeInstanceOf(PalimpsestError)
  expect({ code: (error as PalimpsestError).code, message: (error as PalimpsestError).message }).toEqual({
    code,
    message: expect.stringMatching(message) as string,
  })
}

/** A model whose hidden value h comes from `nodes`, before a good head. */
const before = (
  nodes: ModelInit['nodes'],
  initializers: TensorInit[] = [],
  rest: Partial<ModelInit> = {},
): ModelInit => ({
  nodes: [...nodes, head],
  initializers: [weight, ...initializers],
  ...rest,
})

it('the model that the others are made from imports', async () => {
  const model = await importOnnx(onnxModel(plain))
  expect([...model.parameters.keys()]).toEqual(['w'])
})

describe('bytes that are no model', () => {
  it('empty, text, truncated at every length', async () => {
    await refused(new Uint8Array(0), 'ERR_MODEL_FORMAT', /without a graph/)
    await refused(new TextEncoder().encode('not a model'), 'ERR_MODEL_FORMAT', /expected the bytes of an ONNX file/)
    const bytes = onnxModel(plain)
    for (let length = 1; length < bytes.length; length++) {
      await expect(importOnnx(bytes.subarray(0, length))).rejects.toMatchObject({ name: 'PalimpsestError' })
    }
  })

  it('with random bytes changed, imports or refuses with a code', async () => {
    const fixture = await readFile(new URL('fixtures/tied.onnx', import.meta.url))
    const next = uniform(1)
    let refusals = 0
    for (let round = 0; round < 300; round++) {
      const bytes = new Uint8Array(fixture)
      for (let i = 0; i < 3; i++) bytes[Math.floor(next() * bytes.length)] = Math.floor(256 * next())
      const result: unknown = await importOnnx(bytes).catch((error: unknown) => error)
      if (!(result instanceof Error)) continue
      expect(result).toBeInstanceOf(PalimpsestError)
      expect((result as PalimpsestError).code).not.toBe('ERR_INTERNAL')
      refusals++
    }
    expect(refusals).toBeGreaterThan(100)
  })

  it('messages nested without end, and files that unpack to more than they may', async () => {
    // A graph holds a node, the node an attribute, the attribute a graph.
    let bytes = new Uint8Array()
    for (let i = 0; i < 100; i++) {
      for (const tag of [0x5a, 0x2a, 0x0a]) bytes = Uint8Array.from([tag, ...varint(bytes.length), ...bytes])
    }
    await refused(
      Uint8Array.from([0x3a, ...varint(bytes.length), ...bytes]),
      'ERR_MODEL_FORMAT',
      /nested deeper than 64/,
    )
    const many = onnxModel({ ...plain, initializers: [weight, { name: 'n', dataType: DataType.INT64, dims: [100000n], int64Data: new Array<bigint>(100000).fill(0n) }] }) // prettier-ignore
    await refused(many, 'ERR_OUT_OF_MEMORY', /maxBytes: expected a model of at most 1000000 bytes/, { maxBytes: 1e6 })
  })

  it('neither bytes nor a path', async () => {
    await expect(importOnnx(5 as unknown as string)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(importOnnx(new URL('https://example.org/a.onnx'))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    const detached = onnxModel(plain).slice()
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    await expect(importOnnx(detached)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await refused('/no/such/file.onnx', 'ERR_IO', /model file/)
    await refused(tmpdir(), 'ERR_IO', /regular file/)
  })
})

function varint(n: number): number[] {
  return n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]
}

describe('graphs that are none', () => {
  it('cycles, values that nothing makes, names twice', async () => {
    const cycle = [node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']), node('Relu', ['b'], ['h'])]
    await refused(before(cycle), 'ERR_MODEL_FORMAT', /node "Relu_b" \(Relu\): expected a graph without cycles/)
    await refused(before([node('Relu', ['nowhere'], ['h'])]), 'ERR_MODEL_FORMAT', /Relu_h.*expected input "nowhere" to be produced/)
    await refused(before([node('Relu', ['x'], ['h']), node('Tanh', ['x'], ['h'])]), 'ERR_MODEL_FORMAT', /Tanh_h.*every name once, got "h" twice/)
    await refused({ ...plain, initializers: [weight, weight] }, 'ERR_MODEL_FORMAT', /initializer: expected every name once, got "w" twice/)
    await refused(before([node('Relu', ['x'], ['w']), node('Relu', ['x'], ['h'])]), 'ERR_MODEL_FORMAT', /got "w" twice/)
    await refused({ ...plain, inputs: [value('x', ['N', 4]), value('x', ['N', 4])] }, 'ERR_MODEL_FORMAT', /input: expected every name once/)
    await refused({ ...plain, outputs: [value('z', ['N', 3])] }, 'ERR_MODEL_FORMAT', /value "z"/)
  }) // prettier-ignore

  it('nodes out of order import: only cycles are refused', async () => {
    const model = await importOnnx(onnxModel({ ...plain, nodes: [head, node('Relu', ['x'], ['h'])] }))
    expect(model.network.nodes.map((n) => n.op)).toEqual(['Relu', 'MatMul'])
  })

  it('wrong arity, attributes of a wrong type, attributes twice', async () => {
    await refused(before([node('Relu', ['x', 'x'], ['h'])]), 'ERR_MODEL_FORMAT', /Relu_h.*expected 1 to 1 inputs, got 2/)
    await refused(before([node('Add', ['x'], ['h'])]), 'ERR_MODEL_FORMAT', /Add_h.*expected 2 to 2 inputs, got 1/)
    await refused(before([node('Add', ['x', ''], ['h'])]), 'ERR_MODEL_FORMAT', /Add_h.*expected input 1, got none/)
    const alpha = attribute.string('alpha', '0.1')
    await refused(before([node('LeakyRelu', ['x'], ['h'], [alpha])]), 'ERR_MODEL_FORMAT', /LeakyRelu_h.*attribute alpha of type FLOAT, got STRING/)
    const twice = [attribute.float('alpha', 1), attribute.float('alpha', 2)]
    await refused(before([node('Elu', ['x'], ['h'], twice)]), 'ERR_MODEL_FORMAT', /Elu_h.*each attribute once/)
    await refused(before([node('Elu', ['x'], ['h'], [attribute.float('alpha', NaN)])]), 'ERR_MODEL_FORMAT', /alpha to be a number, got NaN/)
    const axis = attribute.int('axis', 2n ** 60n)
    await refused(before([node('Concat', ['x', 'x'], ['h'], [axis])]), 'ERR_MODEL_FORMAT', /Concat_h.*axis within 2\^53/)
    await refused(before([node('Softmax', ['x'], ['h'], [attribute.int('axis', 5)])]), 'ERR_MODEL_FORMAT', /axis from -2 to 1, got 5/)
    await refused(before([node('MaxPool', ['x'], ['h'])]), 'ERR_MODEL_FORMAT', /kernel_shape/)
  }) // prettier-ignore

  it('operators, domains and operator sets that are not supported', async () => {
    await refused(before([node('Frobnicate', ['x'], ['h'])]), 'ERR_UNSUPPORTED_OPERATOR', /node "Frobnicate_h" \(Frobnicate\).*ai\.onnx\.Frobnicate/)
    await refused(before([node('Relu', ['x'], ['h'], [], { domain: 'com.microsoft' })]), 'ERR_UNSUPPORTED_OPERATOR', /com\.microsoft\.Relu/)
    for (const op of ['If', 'Loop', 'Scan', 'GRU', 'LSTM', 'Resize', 'QuantizeLinear', 'GatherElements', 'TopK']) {
      await refused(before([node(op, ['x'], ['h'])]), 'ERR_UNSUPPORTED_OPERATOR', new RegExp(`\\(${op}\\)`))
    }
    await refused({ ...plain, opset: 12 }, 'ERR_UNSUPPORTED', /expected opset 13 to 21, got 12/)
    await refused({ ...plain, opset: 22 }, 'ERR_UNSUPPORTED', /expected opset 13 to 21, got 22/)
    await refused(before([node('Constant', [], ['h'], [attribute.string('value_string', 'a')])]), 'ERR_UNSUPPORTED', /Constant_h/)
  }) // prettier-ignore

  it('local functions that call themselves, without end or in great number', async () => {
    const self = {
      name: 'f',
      domain: 'd',
      input: ['a'],
      output: ['b'],
      node: [node('f', ['a'], ['b'], [], { domain: 'd' })],
    }
    const call = node('f', ['x'], ['h'], [], { domain: 'd' })
    await refused(before([call], [], { functions: [self] }), 'ERR_MODEL_FORMAT', /do not call themselves/)
    const doubling = Array.from({ length: 30 }, (_, i) => {
      const inner = i === 0 ? 'Relu' : `f${i - 1}`
      const domain = i === 0 ? '' : 'd'
      const body = [node(inner, ['a'], ['m'], [], { domain }), node(inner, ['m'], ['b'], [], { domain })]
      return { name: `f${i}`, domain: 'd', input: ['a'], output: ['b'], node: body }
    })
    const bomb = node('f29', ['x'], ['h'], [], { domain: 'd' })
    await refused(before([bomb], [], { functions: doubling }), 'ERR_UNSUPPORTED', /at most 200000 nodes/)
    // The same without a node in the end: calls alone.
    const hollow = doubling.map((each, i) => (i === 0 ? { ...each, node: [] } : each))
    await refused(before([bomb], [], { functions: hollow }), 'ERR_UNSUPPORTED', /at most 200000 nodes/)
  })
})

describe('tensors that are none', () => {
  it('data that do not fit, dimensions that overflow or are negative', async () => {
    const broken = (tensor: object): ModelInit => ({ ...plain, initializers: [{ ...weight, ...tensor }] })
    await refused(
      broken({ dims: [4n, 4n] }),
      'ERR_MODEL_FORMAT',
      /tensor "w": expected 16 elements for shape \[4, 4\], got 12/,
    )
    await refused(broken({ dims: [2n ** 40n, 2n ** 40n] }), 'ERR_MODEL_FORMAT', /product stays below 2\^53/)
    await refused(broken({ dims: [-4n, -3n] }), 'ERR_MODEL_FORMAT', /product stays below/)
    await refused(broken({ dims: [2n ** 62n] }), 'ERR_MODEL_FORMAT', /product stays below/)
    await refused(broken({ dataType: DataType.STRING }), 'ERR_UNSUPPORTED', /tensor "w": expected numbers, got string/)
    await refused(broken({ dataType: 99 }), 'ERR_UNSUPPORTED', /got type 99/)
    await refused(broken({ rawData: new Uint8Array(47) }), 'ERR_MODEL_FORMAT', /expected 12 elements/)
  })

  it('weights that are not finite', async () => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const data = Array.from({ length: 12 }, (_, i) => (i === 5 ? bad : 1))
      await refused({ ...plain, initializers: [floats('w', [4, 3], data)] }, 'ERR_MODEL_FORMAT', /tensor "w": expected finite numbers of float32, got \S+ at 5/)
    }
    const scalar = [node('Mul', ['x', 'c'], ['h'])]
    await refused(before(scalar, [floats('c', [1], [Infinity])]), 'ERR_MODEL_FORMAT', /tensor "c": expected finite/)
    const wide = new Uint8Array(Float64Array.from({ length: 12 }, () => 1e300).buffer)
    const double = { name: 'w', dataType: DataType.DOUBLE, dims: [4n, 3n], rawData: wide }
    await refused({ ...plain, initializers: [double] }, 'ERR_MODEL_FORMAT', /finite numbers of float32, got 1e\+300 at 0/)
    await refused(before([node('Sub', ['x', 'c'], ['h'])], [floats('c', [4], [1, NaN, 1, 1])]), 'ERR_MODEL_FORMAT', /tensor "c": expected finite/)
    const constant = node('Constant', [], ['c'], [attribute.tensor('value', floats('', [4], [1, NaN, 1, 1]))])
    await refused(before([constant, node('Sub', ['x', 'c'], ['h'])]), 'ERR_MODEL_FORMAT', /NaN/)
  }) // prettier-ignore

  it('shapes that ask for more memory than they may', async () => {
    const big = ints('s', [1, 2 ** 40])
    await refused(before([node('Unsqueeze', ['x', 'a'], ['u']), node('Expand', ['u', 's'], ['h'])], [ints('a', [2]), ints('s', [1, 1, 2 ** 40])]), 'ERR_OUT_OF_MEMORY', /Expand_h.*elements for one example/)
    await refused(before([node('ConstantOfShape', ['s'], ['c']), node('Add', ['x', 'c'], ['h'])], [big]), 'ERR_OUT_OF_MEMORY', /ConstantOfShape_c/)
    await refused(before([node('Pad', ['x', 'p'], ['h'])], [ints('p', [0, 0, 0, 2 ** 45])]), 'ERR_OUT_OF_MEMORY', /Pad_h/)
    await refused(before([node('Tile', ['x', 'r'], ['h'])], [ints('r', [1, 2 ** 45])]), 'ERR_OUT_OF_MEMORY', /Tile_h/)
    await refused(before([node('Range', ['a', 'b', 'c'], ['r']), node('Add', ['x', 'r'], ['h'])], [ints('a', [0], []), ints('b', [2 ** 50], []), ints('c', [1], [])]), 'ERR_OUT_OF_MEMORY', /Range_r/)
    await refused(before([node('Expand', ['x', 's'], ['h'])], [ints('s', [2n ** 62n, 4n])]), 'ERR_MODEL_FORMAT', /within 2\^53/)
    await refused(before([node('Reshape', ['x', 's'], ['h'])], [ints('s', [2n ** 62n, 4n])]), 'ERR_MODEL_FORMAT', /within 2\^53/)
    const conv = node('Conv', ['x', 'k'], ['h'], [attribute.ints('pads', [2 ** 40, 2 ** 40, 2 ** 40, 2 ** 40])])
    await refused(before([conv], [floats('k', [1, 1, 1, 1], [1])], { input: ['N', 1, 4, 4] }), 'ERR_OUT_OF_MEMORY', /Conv_h/)
    const wide = node('Conv', ['x', 'k'], ['h'], [attribute.ints('pads', [2 ** 24, 2 ** 24, 2 ** 24, 2 ** 24])])
    await refused(before([wide], [floats('k', [1, 1, 1, 1], [1])], { input: ['N', 1, 4, 4] }), 'ERR_OUT_OF_MEMORY', /Conv_h/)
  }) // prettier-ignore
})

describe('networks that treat no example alone, or are no classifier', () => {
  it('slices, sums, products and reshapes across the batch', async () => {
    const cases: [ModelInit['nodes'], TensorInit[]][] = [
      [[node('Slice', ['x', 'b', 'e', 'a'], ['h'])], [ints('b', [0]), ints('e', [1]), ints('a', [0])]],
      [[node('Gather', ['x', 'i'], ['h'])], [ints('i', [0, 0])]],
      [[node('ReduceMean', ['x'], ['m'], [attribute.ints('axes', [0])]), node('Sub', ['x', 'm'], ['h'])], []],
      [[node('ReduceSum', ['x'], ['m']), node('Sub', ['x', 'm'], ['h'])], []],
      [[node('Softmax', ['x'], ['h'], [attribute.int('axis', 0)])], []],
      [[node('Concat', ['x', 'x'], ['h'], [attribute.int('axis', 0)])], []],
      [[node('Reshape', ['x', 's'], ['r']), node('Transpose', ['r'], ['h'])], [ints('s', [4, -1])]],
      [[node('Transpose', ['x'], ['t']), node('MatMul', ['t', 'x'], ['g']), node('MatMul', ['x', 'g'], ['h'])], []],
      [[node('Transpose', ['x'], ['t']), node('MatMul', ['x', 't'], ['g']), node('MatMul', ['g', 'x'], ['h'])], []],
      [[node('Pad', ['x', 'p'], ['h'])], [ints('p', [1, 0, 0, 0])]],
    ]
    for (const [nodes, initializers] of cases)
      await refused(before(nodes, initializers), 'ERR_SHAPE', /example.*(apart|axis)|batch/)
  })

  it('outputs that are not [N, K], several of them, or constants', async () => {
    const relu = [node('Relu', ['x'], ['y'])]
    await refused(
      { nodes: relu, input: ['N', 2, 3] },
      'ERR_SHAPE',
      /expected logits of shape \[N, K\], got \[N, 2, 3\]/,
    )
    await refused({ nodes: [node('Transpose', ['x'], ['y'])] }, 'ERR_SHAPE', /got \[4, N\]/)
    await refused({ nodes: [node('Identity', ['w'], ['y'])], initializers: [weight] }, 'ERR_SHAPE', /output "y"/)
    const two = {
      nodes: [node('Relu', ['x'], ['y']), node('Tanh', ['x'], ['z'])],
      outputs: [value('y', ['N', 4]), value('z', ['N', 4])],
    }
    await refused(two, 'ERR_UNSUPPORTED', /one output or the option output, got "y", "z"/)
    await refused(two, 'ERR_INVALID_ARGUMENT', /expected one of "y", "z", got "a"/, { output: 'a' })
    expect((await importOnnx(onnxModel(two), { output: 'z' })).network.nodes[0].op).toBe('Tanh')
  })

  it('inputs that are several, integers, open or without a batch', async () => {
    await refused(
      { ...plain, inputs: [value('x', ['N', 4]), value('z', ['N', 4])] },
      'ERR_UNSUPPORTED',
      /one input, got "x", "z"/,
    )
    await refused(
      { ...plain, inputs: [value('x', ['N', 4], DataType.INT64)] },
      'ERR_UNSUPPORTED',
      /input "x": expected floats, got int64/,
    )
    await refused({ ...plain, input: [4] }, 'ERR_SHAPE', /batch axis and at least one more/)
    await refused({ ...plain, input: ['N', 'D'] }, 'ERR_SHAPE', /give the option inputShape/)
    await refused({ ...plain, input: ['N', 'D'] }, 'ERR_INVALID_ARGUMENT', /inputShape/, { inputShape: [2, 2] })
    expect(
      (await importOnnx(onnxModel({ ...plain, input: ['N', 'D'] }), { inputShape: [4] })).network.inputShape,
    ).toEqual([4])
  })

  it('shapes that do not match', async () => {
    await refused(before([node('Add', ['x', 'b'], ['h'])], [floats('b', [3], [1, 2, 3])]), 'ERR_SHAPE', /Add_h.*shapes that broadcast, got \[N, 4\], \[3\]/)
    await refused(before([node('Reshape', ['x', 's'], ['h'])], [ints('s', [-1, 3])]), 'ERR_SHAPE', /Reshape_h/)
    await refused(before([node('Squeeze', ['x', 'a'], ['h'])], [ints('a', [1])]), 'ERR_SHAPE', /Squeeze_h.*axes of size 1/)
    await refused(before([node('Conv', ['x', 'k'], ['h'])], [floats('k', [1, 2, 1, 1], [1, 1])], { input: ['N', 3, 4, 4] }), 'ERR_SHAPE', /Conv_h.*channels/)
  }) // prettier-ignore
})

describe('external data', () => {
  let folder = ''
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'palimpsest-'))
    await mkdir(path.join(folder, 'model'))
    const data = Float32Array.from({ length: 14 }, (_, i) => i)
    await writeFile(path.join(folder, 'model', 'weights.bin'), new Uint8Array(data.buffer))
    await writeFile(path.join(folder, 'secret.bin'), new Uint8Array(data.buffer))
    await symlink(path.join(folder, 'secret.bin'), path.join(folder, 'model', 'link.bin'))
    await symlink(folder, path.join(folder, 'model', 'up'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  const external = (entries: Record<string, string>, dims = [4n, 3n]): ModelInit => {
    const externalData = Object.entries(entries).map(([key, text]) => ({ key, value: text }))
    return {
      ...plain,
      initializers: [
        { name: 'w', dataType: DataType.FLOAT, dims, dataLocation: TensorProto_DataLocation.EXTERNAL, externalData },
      ],
    }
  }
  const written = async (model: ModelInit): Promise<string> => {
    const file = path.join(folder, 'model', 'model.onnx')
    await writeFile(file, onnxModel(model))
    return file
  }

  it('beside the model is read, with offset and length', async () => {
    const model = await importOnnx(await written(external({ location: 'weights.bin', offset: '8', length: '48' })))
    expect([...model.parameters.get('w')!.data]).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
  })

  it('outside the folder, through links, or past the end is refused', async () => {
    const locations = ['../secret.bin', '..\\secret.bin', path.join(folder, 'secret.bin'), 'C:\\secret.bin', 'link.bin', 'up/secret.bin', 'a/../../secret.bin', '', 'w\0']
    for (const location of locations) {
      await refused(await written(external({ location })), 'ERR_MODEL_FORMAT', /inside the model's folder/)
    }
    await refused(await written(external({ location: 'none.bin' })), 'ERR_IO', /none\.bin/)
    await refused(await written(external({ location: 'weights.bin', offset: '12' })), 'ERR_MODEL_FORMAT', /bytes 12 to 60 of external data, got a file of 56/)
    await refused(await written(external({ location: 'weights.bin', length: '12' })), 'ERR_MODEL_FORMAT', /expected 48 bytes of external data, got length 12/)
    for (const offset of ['-8', '1e3', '0x10', '9007199254740993', ' 8']) {
      await refused(await written(external({ location: 'weights.bin', offset })), 'ERR_MODEL_FORMAT', /external offset as a whole number/)
    }
    await refused(await written(external({ location: 'weights.bin' }, [2n ** 31n, 2n])), 'ERR_MODEL_FORMAT', /got a file of 56/)
    await refused(await written(external({ location: 'up' })), 'ERR_MODEL_FORMAT', /inside/)
  }) // prettier-ignore

  it('is refused where the model came as bytes', async () => {
    await refused(external({ location: 'weights.bin' }), 'ERR_MODEL_FORMAT', /give its path/)
  })
})

describe('small files that ask for much', () => {
  it('constants without elements but of great sizes, outputs that a node does not have', async () => {
    const empty = (name: string) => floats(name, [2 ** 26, 2 ** 26, 0], [])
    const joined = node('Concat', ['a', 'b'], ['c'], [attribute.int('axis', 2)])
    const shape = [node('Shape', ['c'], ['s']), node('Cast', ['s'], ['f'], [attribute.int('to', DataType.FLOAT)])]
    const used = [node('ReduceSum', ['f'], ['t']), node('Add', ['x', 't'], ['h'])]
    await importOnnx(onnxModel(before([joined, ...shape, ...used], [empty('a'), empty('b')])))
    const split = node('Split', ['x'], ['h', 'g'], [attribute.int('axis', 1), attribute.int('num_outputs', 2 ** 32)])
    await refused(before([split], [], { opset: 18 }), 'ERR_MODEL_FORMAT', /num_outputs to be 2/)
  })

  it('a window that is far larger than the image, nearly all of it pads', async () => {
    const kernel = [2 ** 30, 2 ** 30]
    const pads = [2 ** 30 - 16, 2 ** 30 - 16, 0, 0]
    const pool = node('MaxPool', ['x'], ['p'], [attribute.ints('kernel_shape', kernel), attribute.ints('pads', pads)])
    const nodes = [pool, node('Flatten', ['p'], ['h']), head]
    const initializers = [floats('w', [1, 3], [1, 2, -1])]
    const bytes = onnxModel({ nodes, initializers, input: ['N', 1, 16, 16], outputs: [value('y', ['N', 3])] })
    const model = await Model.load(bytes, { device: 'cpu' })
    const inputs = normals(2 * 256, 3)
    const most = [0, 1].map((n) => Math.max(...inputs.subarray(256 * n, 256 * n + 256)))
    const wanted = most.flatMap((v) => [v, 2 * v, -v])
    const got = await model.evaluate({ inputs })
    got.forEach((v, i) => expect(v).toBeCloseTo(wanted[i], 5))
    const gradient = await model.gradient({ inputs, labels: Int32Array.of(0, 1) })
    expect(await gradient.norm()).toBeGreaterThan(0)
  })

  it('rows that differ between the examples of a fixed batch', async () => {
    const model = (values: number[], parameters?: string[]) => {
      const nodes = [node('Concat', ['x', 'tok'], ['h'], [attribute.int('axis', 1)]), head]
      const wide = floats(
        'w',
        [5, 3],
        Array.from({ length: 15 }, (_, i) => i / 15),
      )
      const bytes = onnxModel({ nodes, initializers: [wide, floats('tok', [2, 1], values)], input: [2, 4], outputs: [value('y', [2, 3])] }) // prettier-ignore
      return importOnnx(bytes, { parameters: parameters ?? ['w'] })
    }
    await model([1, 1])
    const refusal = { code: 'ERR_UNSUPPORTED', message: expect.stringMatching(/fixed batch/) as string }
    await expect(model([1, 2])).rejects.toMatchObject(refusal)
    await expect(model([1, 2], ['w', 'tok'])).rejects.toMatchObject(refusal)
    // A parameter of equal rows is one row, and exports repeat it.
    const { source, parameters, repeated } = await model([1, 1], ['w', 'tok'])
    const changed = new Map([...parameters, ['tok', { shape: [2, 1], data: Float32Array.of(5, 1) }]])
    const written = await importOnnx(exportOnnx({ source, repeated }, changed), { parameters: ['w', 'tok'] })
    expect([...(written.parameters.get('tok')?.data ?? [])]).toEqual([5, 5])
    // Through a node as well; repeated by one it is fine.
    const through = (nodes: ModelInit['nodes'], tok: TensorInit, more: TensorInit[]) => {
      const all = [...nodes, node('Concat', ['x', 't'], ['h'], [attribute.int('axis', 1)]), head]
      const wide = floats(
        'w',
        [5, 3],
        Array.from({ length: 15 }, (_, i) => i / 15),
      )
      const bytes = onnxModel({ nodes: all, initializers: [wide, tok, ...more], input: [2, 4], outputs: [value('y', [2, 3])] }) // prettier-ignore
      return importOnnx(bytes, { parameters: ['w', 'tok'] })
    }
    const unsqueezed = [node('Unsqueeze', ['tok', 'a'], ['t'])]
    await expect(through(unsqueezed, floats('tok', [2], [1, 2]), [ints('a', [1])])).rejects.toMatchObject(refusal)
    for (const op of ['Expand', 'Tile']) {
      const target = ints('s', [2, 1])
      const loaded = await through([node(op, ['tok', 's'], ['t'])], floats('tok', [1, 1], [3]), [target])
      expect(loaded.parameters.get('tok')?.shape).toEqual([1, 1])
    }
  })
})
