// dispose(): every method of every handle, before and after.
import { describe, expect, it } from 'vitest'
import { native } from '../lib/native.js'
import { ParameterVector } from '../lib/vector.js'
import { place, vectorOf, weights } from './tiny_networks.js'

const { Vector, Rows, createProgram, plannedBytes } = native()

const network = place()
const inputs = Float32Array.of(1, 1, 1)

type Uses = Record<string, () => unknown>

/** What each use does: its value's kind, or the code of its error. */
async function outcomes(uses: Uses): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const [name, use] of Object.entries(uses)) {
    try {
      await use()
      found[name] = 'allowed'
    } catch (error) {
      found[name] = (error as { code?: string }).code ?? String(error)
    }
  }
  return found
}

async function expectMatrix(uses: Uses, dispose: () => void): Promise<void> {
  const every = (outcome: string) => Object.fromEntries(Object.keys(uses).map((name) => [name, outcome]))
  expect(Object.keys(uses).length).toBeGreaterThan(3)
  expect(await outcomes(uses)).toEqual(every('allowed'))
  dispose()
  dispose()
  expect(await outcomes(uses)).toEqual(every('ERR_DISPOSED'))
}

describe('after dispose() every use is refused', () => {
  it('of a vector', async () => {
    const v = vectorOf(network, weights)
    const other = vectorOf(network, weights)
    const uses: Uses = {
      device: () => v.device,
      dtype: () => v.dtype,
      layout: () => v.layout,
      bytes: () => v.bytes,
      get: () => v.get('b'),
      read: () => v.read(),
      set: () => v.set('b', weights.b),
      write: () => v.write(new Float32Array(32)),
      fill: () => v.fill(0),
      copyFrom: () => v.copyFrom(other),
      copiedFrom: () => other.copyFrom(v),
      dot: () => v.dot(other),
      dotOf: () => other.dot(v),
      axpy: () => v.axpy(1, other),
      axpyOf: () => other.axpy(1, v),
      scale: () => v.scale(1),
      addProduct: () => v.addProduct(1, other, other),
      factor: () => other.addProduct(1, v, other),
      sgdStep: () => v.sgdStep({ rate: 0.1 }, other, vectorOf(network)),
      velocity: () => other.sgdStep({ rate: 0.1 }, vectorOf(network), v),
      like: () => new Vector(v, 'float32'),
    }
    expect(v.disposed).toBe(false)
    await expectMatrix(uses, () => v.dispose())
    expect(v.disposed).toBe(true)
    expect(() => v.get('b')).toThrow(/expected a Vector in use, got one that was disposed/)
  })

  it('of a program', async () => {
    const parameters = vectorOf(network, weights)
    const tangents = vectorOf(network, weights)
    const program = await createProgram(network, { quantity: 'jvp', batch: 1, holdable: true })
    const uses: Uses = {
      batch: () => program.batch,
      dtype: () => program.dtype,
      quantity: () => program.quantity,
      outputShapes: () => program.outputShapes,
      arenaBytes: () => program.arenaBytes,
      bufferBytes: () => program.bufferBytes,
      constantBytes: () => program.constantBytes,
      flops: () => program.flops,
      bytes: () => program.bytes,
      steps: () => program.steps,
      run: () => program.run({ rows: 1, inputs, parameters, tangents }),
      hold: () => program.hold({ rows: 1, inputs, parameters }),
      apply: () => program.apply({ tangents }),
    }
    await expectMatrix(uses, () => program.dispose())
  })

  it('of a network', async () => {
    const doomed = place()
    const uses: Uses = {
      device: () => doomed.device,
      inputShape: () => doomed.inputShape,
      classes: () => doomed.classes,
      layout: () => doomed.layout,
      vectorLength: () => doomed.vectorLength,
      constants: () => doomed.constants,
      parametersWithoutQuickSquares: () => doomed.parametersWithoutQuickSquares(),
      vector: () => new Vector(doomed, 'float32'),
      createProgram: () => createProgram(doomed, { quantity: 'evaluate', batch: 1 }),
      plannedBytes: () => plannedBytes(doomed, { quantity: 'evaluate', batch: 1 }),
    }
    await expectMatrix(uses, () => doomed.dispose())
  })

  it('of rows', async () => {
    const rows = new Rows('float32', 3)
    rows.append(inputs)
    rows.seal()
    const parameters = vectorOf(network, weights)
    const program = await createProgram(network, { quantity: 'evaluate', batch: 1 })
    const gather = { channels: 3, height: 1, width: 1, pad: 0, scale: Float32Array.of(1), shift: Float32Array.of(0) }
    const source = { store: rows, gather, indices: Int32Array.of(0) }
    const uses: Uses = {
      type: () => rows.type,
      width: () => rows.width,
      size: () => rows.size,
      bytes: () => rows.bytes,
      seal: () => rows.seal(),
      row: () => rows.row(0),
      copyRow: () => rows.copyRow(0, new Uint8Array(12)),
      gather: () => program.run({ rows: 1, inputs: source, parameters }),
    }
    await expectMatrix(uses, () => rows.dispose())
  })

  it('of a ParameterVector', async () => {
    const v = new ParameterVector(vectorOf(network, weights))
    const other = new ParameterVector(vectorOf(network, weights))
    const uses: Uses = {
      dtype: () => v.dtype,
      get: () => v.get('b'),
      getFloat64: () => v.getFloat64('b'),
      set: () => v.set('b', weights.b),
      dot: () => v.dot(other),
      dotOf: () => other.dot(v),
      axpy: () => v.axpy(1, other),
      scale: () => v.scale(1),
      norm: () => v.norm(),
      copyFrom: () => v.copyFrom(other),
      clone: () => v.clone(),
      zeros: () => v.zeros(),
    }
    await expectMatrix(uses, () => v[Symbol.dispose]())
    expect(v.disposed).toBe(true)
    await v[Symbol.asyncDispose]()
  })
})

describe('dispose() of what queued steps use', () => {
  it('lets them end first', async () => {
    const doomed = place()
    const parameters = vectorOf(doomed, weights)
    const sums = vectorOf(doomed)
    const rows = new Rows('uint8', 3)
    rows.append(Uint8Array.of(1, 2, 3))
    rows.seal()
    const program = await createProgram(doomed, { quantity: 'gradient', loss: 'squaredError', batch: 2 })
    const gather = { channels: 3, height: 1, width: 1, pad: 0, scale: Float32Array.of(1), shift: Float32Array.of(0) }
    const source = { store: rows, gather, indices: Int32Array.of(0) }
    const results = Array.from({ length: 8 }, () =>
      program.run({
        rows: 1,
        inputs: source,
        targets: new Float32Array(2),
        weights: 1,
        parameters,
        sums,
        accumulate: true,
      }),
    )
    const values = sums.read()
    for (const handle of [program, rows, parameters, sums, doomed]) handle.dispose()
    for (const [logits] of await Promise.all(results)) expect(logits).toEqual(Float32Array.of(24, 52))
    expect((await values).slice(16, 18)).toEqual(Float32Array.of(8 * 24, 8 * 52))
  })
})

describe('ParameterVector', () => {
  it('is a typed view of a native vector', async () => {
    const v = new ParameterVector(vectorOf(network, weights))
    expect(v.names).toEqual(['w', 'b'])
    expect(v.size).toBe(8)
    expect(v.shape('w')).toEqual([2, 3])
    expect(await v.norm()).toBe(Math.sqrt(591))
    const wide = await v.clone('float64')
    expect(wide.dtype).toBe('float64')
    await (await wide.axpy(1, v)).scale(0.25)
    expect(wide.get('b')).toEqual(Float32Array.of(5, 10))
    expect(wide.getFloat64('b')).toEqual(Float64Array.of(5, 10))
    await wide.set('b', Float64Array.of(0.1, 0.2))
    expect(wide.getFloat64('b')).toEqual(Float64Array.of(0.1, 0.2))
    expect(wide.get('b')).toEqual(Float32Array.of(0.1, 0.2))
    expect(await v.zeros().norm()).toBe(0)
    for (const use of [() => v.get('c'), () => v.shape('c'), () => v.getFloat64(3 as never)]) {
      expect(use).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }) as Error)
    }
  })
})
