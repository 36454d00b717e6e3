// The native surface: vectors, programs and networks through lib/native.ts.
import { describe, expect, it } from 'vitest'
import { native, type FloatArray, type NativeVector, type ProgramOptions } from '../lib/native.js'
import { curved, flat, linear, place, vectorOf, weights } from './tiny_networks.js'

const { Vector, Network, createProgram, plannedBytes, describeDevice } = native()

const rejected = (code: string, message: RegExp): Error =>
  expect.objectContaining({ name: 'PalimpsestError', code, message: expect.stringMatching(message) as string }) as Error

async function resultOf(action: () => unknown): Promise<unknown> {
  try {
    return await action()
  } catch (error) {
    return error
  }
}

describe('devices', () => {
  it('describes the CPU by its instruction set and threads', () => {
    expect(describeDevice('cpu')).toMatch(/instruction set \w+, \d+ thread/)
  })

  it('refuses others with the cure', () => {
    expect(() => new Network(linear, 'abacus')).toThrow(
      rejected('ERR_DEVICE', /expected the device 'cpu', 'cuda' or 'cuda:N', got 'abacus'/),
    )
  })
})

describe('Network', () => {
  it('tells its shapes and its layout', () => {
    const network = place()
    expect(network).toMatchObject({ device: 'cpu', inputShape: [3], classes: 2, vectorLength: 32, constants: [] })
    expect(network.layout).toEqual([
      { name: 'w', shape: [2, 3], offset: 0, size: 6 },
      { name: 'b', shape: [2], offset: 16, size: 2 },
    ])
  })

  it('keeps constants that steps may change', async () => {
    const network = place({
      ...linear,
      leaves: [linear.leaves[0], linear.leaves[1], { kind: 'constant', id: 2, shape: [2], data: weights.b, name: 'b' }],
    })
    expect(network.constants).toEqual([{ name: 'b', shape: [2] }])
    expect(await network.getConstant(0)).toEqual(weights.b)
    const program = await createProgram(network, { quantity: 'evaluate', batch: 1 })
    const parameters = vectorOf(network, { w: weights.w })
    const evaluate = () => program.run({ rows: 1, inputs: Float32Array.of(1, 1, 1), parameters })
    expect(await evaluate()).toEqual([Float32Array.of(16, 35)])
    const changed = Float32Array.of(-6, -15)
    const change = network.setConstant(0, changed)
    changed.fill(99)
    expect(await evaluate()).toEqual([Float32Array.of(0, 0)])
    await change
    expect(await resultOf(() => network.setConstant(1, changed))).toEqual(rejected('ERR_INVALID_ARGUMENT', /'index'/))
    expect(await resultOf(() => network.setConstant(0, new Float32Array(3)))).toEqual(rejected('ERR_SHAPE', /2 values/))
  })

  it('names the parameters whose squares need a vjp an example', async () => {
    expect(await place().parametersWithoutQuickSquares()).toEqual([])
    // tied: w is used twice
    const tied = place({
      ...curved,
      leaves: [linear.leaves[0], { kind: 'parameter', id: 1, name: 'w', shape: [3, 3] }],
      classes: 3,
      nodes: [
        { op: 'MatMul', inputs: [0, 1], outputs: [3], attributes: {} },
        { op: 'MatMul', inputs: [3, 1], outputs: [4], attributes: {} },
      ],
    })
    expect(await tied.parametersWithoutQuickSquares()).toEqual(['w'])
  })

  it.each<[string, object, string, RegExp]>([
    ['no object', [], 'ERR_INVALID_ARGUMENT', /an array for 'inputShape', got undefined/],
    ['a fraction', { ...linear, classes: 1.5 }, 'ERR_INVALID_ARGUMENT', /whole number.*'classes', got 1.5/],
    ['a hole', { ...linear, nodes: [undefined] }, 'ERR_INVALID_ARGUMENT', /an object for 'nodes\[0\]'/],
    ['an unknown kind', { ...linear, leaves: [{ kind: 'leaf', id: 0 }] }, 'ERR_INVALID_ARGUMENT', /'leaves\[0\].kind'/],
    [
      'too few values',
      { ...linear, leaves: [{ kind: 'constant', id: 0, shape: [2], data: new Float32Array(1) }] },
      'ERR_SHAPE',
      /2 values for 'leaves\[0\].data', got 1/,
    ],
    [
      'a size that overflows',
      { ...linear, leaves: [{ kind: 'constant', id: 0, shape: [2 ** 40, 2 ** 40], data: new Float32Array(1) }] },
      'ERR_SHAPE',
      /./,
    ],
    ['a value twice', { ...linear, leaves: [...linear.leaves, linear.leaves[2]] }, 'ERR_MODEL_FORMAT', /twice/],
    ['a value from nowhere', { ...linear, output: 77 }, 'ERR_MODEL_FORMAT', /77/],
    [
      'an unknown operator',
      { ...linear, nodes: [{ ...linear.nodes[0], op: 'Frobnicate' }] },
      'ERR_UNSUPPORTED_OPERATOR',
      /Frobnicate/,
    ],
  ])('refuses a description with %s', (_, description, code, message) => {
    expect(() => new Network(description as typeof linear, 'cpu')).toThrow(rejected(code, message))
  })
})

describe('Vector', () => {
  const network = place()
  const flatOf = (w: number[], b: number[]) => {
    const values = new Float32Array(32)
    values.set(w)
    values.set(b, 16)
    return values
  }

  it('is zero but for the values given, also in the padding', async () => {
    const v = vectorOf(network, { b: weights.b })
    expect(v.get('w')).toEqual(new Float32Array(6))
    expect(v.get('b')).toEqual(weights.b)
    expect(await v.read()).toEqual(flatOf([], [10, 20]))
    expect(v).toMatchObject({ device: 'cpu', dtype: 'float32', bytes: 128, layout: network.layout })
    expect(new Vector(v, 'float64')).toMatchObject({ dtype: 'float64', bytes: 256, layout: network.layout })
  })

  it('gives copies', () => {
    const v = vectorOf(network, weights)
    v.get('w').fill(0)
    expect(v.get('w')).toEqual(weights.w)
  })

  it('takes values by name, flat, and one for all, without touching the padding', async () => {
    const v = vectorOf(network)
    await v.set('b', Float64Array.of(0.1, -2))
    expect(v.get('b')).toEqual(Float32Array.of(0.1, -2))
    await v.write(new Float32Array(32).fill(3))
    expect(await v.read()).toEqual(flatOf(Array<number>(6).fill(3), [3, 3]))
    await v.fill(-1)
    expect(await v.read()).toEqual(flatOf(Array<number>(6).fill(-1), [-1, -1]))
  })

  it('reads what queued writes leave, without their being awaited', () => {
    const v = vectorOf(network, weights)
    const writes = [v.scale(2), v.fill(1), v.scale(3)]
    expect(v.get('b')).toEqual(Float32Array.of(3, 3))
    return Promise.all(writes)
  })

  it('computes in call order, in either type', async () => {
    const x = vectorOf(network, weights)
    const y = new Vector(network, 'float64', { w: new Float32Array(6).fill(0.1), b: Float64Array.of(0.1, 0.2) })
    const steps = [y.axpy(2, x), y.scale(0.5), y.axpy(-1, x)]
    await Promise.all(steps)
    const tenth = Math.fround(0.1)
    expect(y.get('w')).toEqual(
      weights.w.reduce((out, w, i) => ((out[i] = (tenth + 2 * w) * 0.5 - w), out), new Float64Array(6)),
    )
    expect(await x.dot(x)).toBe(91 + 500)
    expect(await x.dot(x, 'b')).toBe(500)
    await y.copyFrom(x)
    expect(await y.dot(x)).toBe(591)
    await x.copyFrom(new Vector(network, 'float64', { b: Float64Array.of(1 / 3, 1e-300) }))
    expect(x.get('b')).toEqual(Float32Array.of(1 / 3, 0))
    expect(x.get('w')).toEqual(new Float32Array(6))
  })

  it('adds products, of itself too', async () => {
    const a = vectorOf(network, weights)
    const y = vectorOf(network, { w: new Float32Array(6).fill(1) })
    await y.addProduct(0.5, a, a)
    expect(y.get('w')).toEqual(weights.w.map((w) => 1 + 0.5 * w * w))
    await a.addProduct(-1, a, a)
    expect(a.get('w')).toEqual(weights.w.map((w) => w - w * w))
    expect((await a.read()).filter((_, i) => i >= 6 && i < 16)).toEqual(new Float32Array(10))
  })

  it('takes a step of SGD', async () => {
    const w = vectorOf(network, weights)
    const gradient = vectorOf(network, { w: new Float32Array(6).fill(2), b: Float32Array.of(-1, 1) })
    const velocity = vectorOf(network, { b: Float32Array.of(8, 8) })
    await w.sgdStep({ rate: 0.5, momentum: 0.25, weightDecay: 0.5, nesterov: true }, gradient, velocity)
    // g = gradient + 0.5 w; v = 0.25 v + g; w -= 0.5 (g + 0.25 v)
    const g = [-1 + 5, 1 + 10]
    const v = g.map((value) => 2 + value)
    expect(velocity.get('b')).toEqual(Float32Array.from(v))
    expect(w.get('b')).toEqual(Float32Array.from([10, 20], (b, i) => b - 0.5 * (g[i] + 0.25 * v[i])))
  })

  it('refuses operands of another network, another type, or no vector', async () => {
    const v = vectorOf(network, weights)
    const other = vectorOf(place(curved))
    const wide = new Vector(network, 'float64')
    expect(await resultOf(() => v.axpy(1, other))).toEqual(rejected('ERR_INVALID_ARGUMENT', /same parameters.*'x'/))
    expect(await resultOf(() => v.addProduct(1, wide, v))).toEqual(rejected('ERR_INVALID_ARGUMENT', /a float32.*'a'/))
    expect(await resultOf(() => v.dot(network as never))).toEqual(rejected('ERR_INVALID_ARGUMENT', /a native Vector/))
    expect(await resultOf(() => v.axpy(NaN, v))).toEqual(
      rejected('ERR_INVALID_ARGUMENT', /finite number for 'alpha', got NaN/),
    )
    expect(await resultOf(() => v.get('c'))).toEqual(rejected('ERR_INVALID_ARGUMENT', /name of a parameter.*'c'/))
    expect(await resultOf(() => v.set('b', new Float32Array(3)))).toEqual(
      rejected('ERR_SHAPE', /2 values for 'b', got 3/),
    )
    expect(await resultOf(() => v.set('b', Float32Array.of(1, Infinity)))).toEqual(
      rejected('ERR_INVALID_ARGUMENT', /finite.*inf at 1/),
    )
    expect(await resultOf(() => v.set('b', Float64Array.of(1e300, 1)))).toEqual(
      rejected('ERR_INVALID_ARGUMENT', /finite/),
    )
    expect(await resultOf(() => v.set('b', [1, 2] as never))).toEqual(
      rejected('ERR_INVALID_ARGUMENT', /Float32Array or Float64Array.*an array/),
    )
    expect(v.get('b')).toEqual(weights.b)
  })

  it('of another network are refused as rows and operands of a low-rank factor; no float32 one is released', async () => {
    const like = new Vector(network, 'float64')
    const foreign = new Vector(place(curved), 'float64')
    const names = like.layout.map(({ name }) => name)
    const lowRank = new (native().LowRank)(like, names, 1, 1)
    const refused = rejected('ERR_INVALID_ARGUMENT', /same parameters.*got one with others/)
    expect(() => lowRank.append(foreign)).toThrow(refused)
    await lowRank.append(like)
    await lowRank.factor(1, 1)
    expect(() => lowRank.applyInverse(foreign, like)).toThrow(refused)
    expect(() => lowRank.applyInverse(like, foreign)).toThrow(refused)
    const narrow = new Vector(network, 'float32')
    const wide = rejected('ERR_INVALID_ARGUMENT', /a float64 vector for 'vector'/)
    expect(() => native().addReleaseNoise(narrow, names, 1, 0)).toThrow(wide)
    expect(() => native().roundToNoiseGrid(narrow, names, 1)).toThrow(wide)
  })

  it('reports an allocation that failed to whoever uses it', async () => {
    const huge = place({
      ...linear,
      inputShape: [2 ** 21],
      leaves: [
        { kind: 'input', id: 0 },
        { kind: 'parameter', id: 1, name: 'w', shape: [2 ** 26, 2 ** 21] },
        { kind: 'parameter', id: 2, name: 'b', shape: [2 ** 26] },
      ],
      classes: 2 ** 26,
    })
    const v = vectorOf(huge)
    expect(await resultOf(() => v.scale(2))).toEqual(rejected('ERR_OUT_OF_MEMORY', /bytes/))
    expect(await resultOf(() => v.get('b'))).toEqual(rejected('ERR_OUT_OF_MEMORY', /bytes/))
  })
})

describe('Program', () => {
  const network = place()
  const parameters = vectorOf(network, weights)
  const inputs = Float32Array.of(1, 0, -1, 0.5, 2, 0, 3, 1, 1)
  const evaluated = Float32Array.from([0, 1, 2], (n) => n).reduce<number[]>((out, n) => {
    const x = inputs.subarray(3 * n, 3 * n + 3)
    for (let k = 0; k < 2; k++)
      out.push(weights.b[k] + x.reduce((sum, value, i) => sum + value * weights.w[3 * k + i], 0))
    return out
  }, [])

  it('tells what it takes before it runs', async () => {
    const options: ProgramOptions = { quantity: 'evaluate', batch: 8 }
    const program = await createProgram(network, options)
    expect(program).toMatchObject({ batch: 8, dtype: 'float32', quantity: 'evaluate', outputShapes: [[8, 2]] })
    expect(program.bufferBytes).toBe(4 * (8 * 3 + 8 * 2))
    expect(program.flops).toBeGreaterThanOrEqual(2 * 8 * 3 * 2)
    expect(program.steps).toBeGreaterThan(0)
    const planned = await plannedBytes(network, options)
    expect(planned).toBeGreaterThan(0)
    expect(await plannedBytes(network, { ...options, batch: 800 })).toBeGreaterThan(50 * planned)
  })

  it('gives valid rows only', async () => {
    const program = await createProgram(network, { quantity: 'evaluate', batch: 4 })
    const run = (rows: number) => program.run({ rows, inputs: inputs.subarray(0, 3 * rows), parameters })
    expect(await run(1)).toEqual([Float32Array.from(evaluated.slice(0, 2))])
    expect(await run(3)).toEqual([Float32Array.from(evaluated)])
    expect(await program.run({ rows: 3, inputs, parameters, outputs: false })).toEqual([])
  })

  it.each(['float32', 'float64'] as const)('sums over valid rows only, in %s', async (dtype) => {
    const array = (values: Iterable<number>): FloatArray =>
      dtype === 'float32' ? Float32Array.from(values) : Float64Array.from(values)
    const p = new Vector(network, dtype, weights)
    const sums = new Vector(network, dtype)
    const program = await createProgram(network, { quantity: 'gradient', loss: 'squaredError', batch: 5, dtype })
    const call = { rows: 3, inputs: array(inputs), targets: array(Array(6).fill(1)), parameters: p, sums }
    const [logits, loss] = await program.run({ ...call, weights: array([1, 0.5, 0.25]) })
    expect(logits).toEqual(array(evaluated))
    const residuals = evaluated.map((value) => value - 1)
    const factor = [1, 0.5, 0.25]
    expect(loss).toEqual(array(factor.map((f, n) => (f * (residuals[2 * n] ** 2 + residuals[2 * n + 1] ** 2)) / 2)))
    const b = [0, 1].map((k) => factor.reduce((sum, f, n) => sum + f * residuals[2 * n + k], 0))
    expect(sums.get('b')).toEqual(array(b))
    await program.run({ ...call, weights: array([1, 0.5, 0.25]), accumulate: true, outputs: false })
    expect(sums.get('b')).toEqual(array(b.map((value) => 2 * value)))
    await program.run({ ...call, weights: 1, outputs: false })
    expect(sums.get('b')).toEqual(array([0, 1].map((k) => residuals[k] + residuals[2 + k] + residuals[4 + k])))
  })

  it('takes calls before earlier ones are done, each with its own arrays', async () => {
    const program = await createProgram(network, { quantity: 'evaluate', batch: 2 })
    const shared = new Float32Array(3)
    const calls = Array.from({ length: 20 }, (_, i) => {
      shared.fill(i)
      return program.run({ rows: 1, inputs: shared, parameters })
    })
    const results = await Promise.all(calls)
    expect(results.map(([y]) => y)).toEqual(results.map((_, i) => Float32Array.of(10 + 6 * i, 20 + 15 * i)))
  })

  it('differentiates the parameters that were chosen and leaves the others of the sums', async () => {
    const program = await createProgram(network, { quantity: 'vjp', batch: 1, parameters: ['b'] })
    const sums = vectorOf(network, { w: weights.w })
    const cotangents = Float32Array.of(3, 4)
    await program.run({ rows: 1, inputs: inputs.subarray(0, 3), cotangents, parameters, sums })
    expect(sums.get('b')).toEqual(cotangents)
    expect(sums.get('w')).toEqual(weights.w)
  })

  it('holds a batch and applies tangents to it', async () => {
    const bent = place(curved)
    const p = vectorOf(bent, { w: Float32Array.of(0.1, -0.2, 0.3, 0.4, 0.5, -0.6) })
    const options: ProgramOptions = { quantity: 'jvp', batch: 4, holdable: true }
    const program = await createProgram(bent, options)
    const tangents = vectorOf(bent, { w: Float32Array.of(1, 2, 3, 4, 5, 6) })
    const apply = () => program.apply({ tangents })
    expect(await resultOf(apply)).toEqual(rejected('ERR_INVALID_ARGUMENT', /hold\(\) before apply/))
    const direct = await program.run({ rows: 3, inputs, parameters: p, tangents })
    expect(direct[0].some((value) => Math.abs(value) > 0.1)).toBe(true)
    expect(await resultOf(apply)).toEqual(rejected('ERR_INVALID_ARGUMENT', /hold\(\) before apply/))
    await program.hold({ rows: 3, inputs, parameters: p })
    expect(await apply()).toEqual(direct)
    await tangents.scale(2)
    expect((await apply())[0]).toEqual(direct[0].map((value) => 2 * value))
    // The anchor is the vector that was held, whatever became of its handle.
    p.dispose()
    expect((await apply())[0]).toEqual(direct[0].map((value) => 2 * value))
  })

  it('refuses calls that lack or mistake something', async () => {
    const program = await createProgram(network, { quantity: 'gradient', batch: 2 })
    const sums = vectorOf(network)
    const good = { rows: 1, inputs: new Float32Array(3), targets: new Float32Array(2), weights: 1, parameters, sums }
    const bad: [object, string, RegExp][] = [
      [{ rows: 0 }, 'ERR_INVALID_ARGUMENT', /1 to 2 for 'rows', got 0/],
      [{ rows: 3 }, 'ERR_INVALID_ARGUMENT', /1 to 2 for 'rows', got 3/],
      [{ inputs: undefined }, 'ERR_INVALID_ARGUMENT', /'inputs', got undefined/],
      [{ inputs: new Float32Array(4) }, 'ERR_SHAPE', /3 values for 'inputs', got 4/],
      [{ inputs: Float32Array.of(1, NaN, 0) }, 'ERR_INVALID_ARGUMENT', /finite.*'inputs', got -?nan at 1/],
      [{ inputs: new Uint8Array(3) }, 'ERR_INVALID_ARGUMENT', /Float32Array.*Uint8Array\(3\)/],
      [{ targets: undefined }, 'ERR_INVALID_ARGUMENT', /'targets'/],
      [{ weights: undefined }, 'ERR_INVALID_ARGUMENT', /'weights'/],
      [{ weights: new Float32Array(2) }, 'ERR_SHAPE', /1 values for 'weights'/],
      [{ parameters: undefined }, 'ERR_INVALID_ARGUMENT', /native Vector for 'parameters'/],
      [{ parameters: new Vector(network, 'float64') }, 'ERR_INVALID_ARGUMENT', /float32 vector.*float64/],
      [{ parameters: vectorOf(place(curved)) }, 'ERR_INVALID_ARGUMENT', /network's parameters/],
      [{ sums: undefined }, 'ERR_INVALID_ARGUMENT', /'sums'/],
      [{ sums: parameters }, 'ERR_INVALID_ARGUMENT', /of its own for 'sums'/],
      [{ inputs: { store: parameters } }, 'ERR_INVALID_ARGUMENT', /native Rows for 'inputs.store'/],
      [{ accumulate: 1 }, 'ERR_INVALID_ARGUMENT', /'accumulate', got 1/],
      [{ outputs: 'no' }, 'ERR_INVALID_ARGUMENT', /'outputs'/],
    ]
    for (const [change, code, message] of bad) {
      expect(await resultOf(() => program.run({ ...good, ...change })), JSON.stringify(change)).toEqual(
        rejected(code, message),
      )
    }
    expect(await resultOf(() => program.run(3 as never))).toEqual(
      rejected('ERR_INVALID_ARGUMENT', /an object for 'call'/),
    )
    expect(await resultOf(() => program.run(good))).toHaveLength(2)
  })

  it('refuses options that no program has', async () => {
    const bad: [object, RegExp][] = [
      [{ quantity: 'guess' }, /quantity/],
      [{ batch: 0 }, /'batch', got 0/],
      [{ batch: 1e300 }, /'batch'/],
      [{ loss: 'hinge' }, /'crossEntropy' or 'squaredError'/],
      [{ dtype: 'float16' }, /'float32' or 'float64'/],
      [{ parameters: [] }, /one parameter or more/],
      [{ parameters: ['c'] }, /names of parameters.*'c'/],
      [{ training: 'yes' }, /'training'/],
    ]
    for (const [change, message] of bad) {
      const action = () => createProgram(network, { quantity: 'evaluate', batch: 1, ...change })
      expect(await resultOf(action), JSON.stringify(change)).toEqual(rejected('ERR_INVALID_ARGUMENT', message))
    }
  })
})

describe('arrays of a call', () => {
  const network = place()
  const parameters = vectorOf(network, weights)
  const expected = [Float32Array.of(16, 35)]
  const program = createProgram(network, { quantity: 'evaluate', batch: 1 })
  const run = async (inputs: Float32Array, after: () => void) => {
    const result = (await program).run({ rows: 1, inputs, parameters })
    after()
    return result
  }

  it('may be transferred during it', async () => {
    const inputs = Float32Array.of(1, 1, 1)
    const result = await run(inputs, () => structuredClone(inputs.buffer, { transfer: [inputs.buffer] }))
    expect(inputs).toHaveLength(0)
    expect(result).toEqual(expected)
  })

  it('may be written during it', async () => {
    const inputs = Float32Array.of(1, 1, 1)
    expect(await run(inputs, () => inputs.fill(NaN))).toEqual(expected)
  })

  it('may be shared, and written by others', async () => {
    const inputs = new Float32Array(new SharedArrayBuffer(12)).fill(1)
    expect(await run(inputs, () => inputs.fill(NaN))).toEqual(expected)
  })

  it('may be resized during it, and before it count with the length they have', async () => {
    const Resizable = ArrayBuffer as unknown as new (
      bytes: number,
      options: object,
    ) => ArrayBuffer & {
      resize(bytes: number): void
    }
    const buffer = new Resizable(12, { maxByteLength: 64 })
    const inputs = new Float32Array(buffer).fill(1)
    expect(await run(inputs, () => buffer.resize(0))).toEqual(expected)
    expect(await resultOf(() => run(inputs, () => {}))).toEqual(rejected('ERR_SHAPE', /3 values for 'inputs', got 0/))
  })

  it('may vanish in a getter of the call, which is then refused', async () => {
    const inputs = Float32Array.of(1, 1, 1)
    const call = {
      rows: 1,
      inputs,
      get parameters(): NativeVector {
        structuredClone(inputs.buffer, { transfer: [inputs.buffer] })
        return parameters
      },
    }
    expect(await resultOf(async () => (await program).run(call))).toEqual(rejected('ERR_SHAPE', /got 0/))
  })

  it('are computed with where a getter of the call disposes of the program', async () => {
    for (let i = 0; i < 20; i++) {
      const short = await createProgram(network, { quantity: 'evaluate', batch: 1 })
      const call = {
        rows: 1,
        inputs: Float32Array.of(1, 1, 1),
        get parameters(): NativeVector {
          short.dispose()
          return parameters
        },
      }
      expect(await short.run(call)).toEqual(expected)
    }
  })

  it('are not read after a getter of a call has thrown', async () => {
    const call = {
      rows: 1,
      inputs: Float32Array.of(1, 1, 1),
      get parameters(): NativeVector {
        throw new RangeError('of the caller')
      },
    }
    expect(await resultOf(async () => (await program).run(call))).toEqual(new RangeError('of the caller'))
    expect(await run(Float32Array.of(1, 1, 1), () => {})).toEqual(expected)
  })
})

describe('memory', () => {
  it('told to V8 is taken back where a vector is refused', () => {
    const before = process.memoryUsage().external
    const network = place()
    for (let i = 0; i < 1000; i++) expect(() => new Vector(network, 'float64', { b: new Float64Array(1) })).toThrow()
    const after = process.memoryUsage().external
    expect(after - before).toBeLessThan(16 * 1024)
  })

  it('of a steady loop does not grow', async () => {
    const network = place(flat([64, 32, 32]))
    const parameters = vectorOf(network, { s: Float32Array.of(1) })
    const sums = vectorOf(network)
    const program = await createProgram(network, { quantity: 'vjp', batch: 16 })
    const inputs = new Float32Array(16 * 65536)
    const loop = async (times: number) => {
      for (let i = 0; i < times; i++) await program.run({ rows: 16, inputs, cotangents: inputs, parameters, sums })
      return process.memoryUsage.rss()
    }
    const before = await loop(20)
    expect((await loop(100)) - before).toBeLessThan(5e6)
  })
})
