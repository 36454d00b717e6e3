// The direct update's mathematics against runs that never had the rows: equal where the loss is quadratic, nearer elsewhere.
import { afterAll, describe, expect, it } from 'vitest'
import { Model, networks } from '../lib/index.js'
import { oneHot } from '../lib/data/targets.js'
import { Deviation, krylov, transition, type StepRule } from '../lib/forget/deviation.js'
import { crossSegment, together, type DirectProducts, type Loss, type Segment } from '../lib/forget/direct_update.js'
import { held, quasiNewton } from '../lib/forget/quasi_newton.js'
import type { Loss as LossName, NativeVector } from '../lib/native.js'
import { native } from '../lib/native.js'
import type { NetworkSource } from '../lib/model.js'
import { normals, uniform } from './random.js'

const features = 5
const rows = 24
const batch = 6
const classes = 3

interface Problem {
  model: Model
  loss: LossName
  inputs: Float32Array
  labels: Int32Array
  rule: StepRule
  /** Rows of each step. */
  steps: Int32Array[]
  vector(): NativeVector
}

const problems: Problem[] = []
afterAll(() => problems.forEach(({ model }) => model.dispose()))

function problem(source: NetworkSource, loss: LossName, epochs: number, rate: number): Problem {
  const model = Model.fromNetwork(source)
  const inputs = normals(rows * features, 3)
  const labels = Int32Array.from({ length: rows }, (_, i) => i % classes)
  const next = uniform(9)
  const steps = Array.from({ length: epochs }, () => {
    const order = Int32Array.from({ length: rows }, (_, i) => i)
    for (let i = rows - 1; i > 0; i--) {
      const j = Math.floor(next() * (i + 1))
      ;[order[i], order[j]] = [order[j], order[i]]
    }
    return Array.from({ length: rows / batch }, (_, i) => order.slice(i * batch, (i + 1) * batch))
  }).flat()
  const rule = {
    rate: (t: number) => rate * (1 - t / (2 * steps.length)),
    momentum: 0.8,
    nesterov: true,
    weightDecay: 0.02,
  }
  const vector = () => new (native().Vector)(model.engine.network, 'float64')
  const made = { model, loss, inputs, labels, rule, steps, vector }
  problems.push(made)
  return made
}

const linear = () =>
  problem(networks.mlp({ inputShape: [features], hidden: [], classes, seed: 4 }), 'squaredError', 5, 0.05)
const bent = () =>
  problem(
    networks.mlp({ inputShape: [features], hidden: [8], classes, activation: 'Tanh', seed: 4 }),
    'crossEntropy',
    10,
    0.1,
  )

/** Sum over some rows of a quantity of the mean loss, in float64. */
async function product(
  { model, loss, inputs, labels }: Problem,
  quantity: 'gradient' | 'hessianProduct',
  of: ArrayLike<number>,
  weights: NativeVector,
  sums: NativeVector,
  tangents?: NativeVector,
  shares?: Float64Array,
): Promise<void> {
  const list = Array.from(of)
  using lease = await model.engine.programs.lease({ quantity, loss, dtype: 'float64', batch })
  await lease.program.run({
    rows: list.length,
    inputs: Float64Array.from(list.flatMap((i) => [...inputs.subarray(i * features, (i + 1) * features)])),
    targets: Float64Array.from(
      oneHot(
        Int32Array.from(list, (i) => labels[i]),
        classes,
        {},
      ),
    ),
    weights: shares ?? 1 / list.length,
    parameters: weights,
    ...(tangents && { tangents }),
    sums,
    outputs: false,
  })
}

interface Trajectory {
  weights: NativeVector[]
  velocity: NativeVector[]
}

/** The states before every step and after the last; rows left out are left out of their batches. */
async function train(p: Problem, left: ReadonlySet<number> = new Set()): Promise<Trajectory> {
  const [weights, velocity, gradient] = [p.vector(), p.vector(), p.vector()]
  await weights.copyFrom(await p.model.engine.weights('float64'))
  const found: Trajectory = { weights: [], velocity: [] }
  const keep = async () => {
    const [w, v] = [p.vector(), p.vector()]
    await Promise.all([w.copyFrom(weights), v.copyFrom(velocity)])
    found.weights.push(w)
    found.velocity.push(v)
  }
  for (const [t, of] of p.steps.entries()) {
    await keep()
    await product(
      p,
      'gradient',
      of.filter((i) => !left.has(i)),
      weights,
      gradient,
    )
    const { momentum, nesterov, weightDecay } = p.rule
    await weights.sgdStep({ rate: p.rule.rate(t), momentum, nesterov, weightDecay }, gradient, velocity)
  }
  await keep()
  return found
}

/** The update with a state logged every so many steps. */
async function update(
  p: Problem,
  run: Trajectory,
  left: ReadonlySet<number>,
  every: number,
  mostProducts: number,
  length = 1,
): Promise<Deviation> {
  const deviation = new Deviation(run.weights[0])
  for (let from = 0; from < p.steps.length; from += every) {
    const to = Math.min(from + every, p.steps.length)
    const losses = p.steps.slice(from, to).flatMap((of, i): Loss[] => {
      const lost = of.filter((row) => left.has(row))
      return lost.length > 0 ? [{ step: from + i, size: of.length, rows: lost }] : []
    })
    const start = { weights: run.weights[from], velocity: run.velocity[from] }
    const segment: Segment = { from, to, rule: p.rule, start, end: run.weights[to], losses: together(losses, length) }
    const staying = p.steps.slice(from, to).flatMap((of) => [...of.filter((row) => !left.has(row))])
    const hessian = async (x: NativeVector, out: NativeVector) => {
      const part = p.vector()
      await out.fill(0)
      for (let i = 0; i < staying.length; i += batch) {
        const some = staying.slice(i, i + batch)
        await product(p, 'hessianProduct', some, start.weights, part, x)
        await out.axpy(some.length / staying.length, part)
      }
      part.dispose()
    }
    const products: DirectProducts = {
      gradient: ({ rows: lost, weights: shares }, weights, out) =>
        product(p, 'gradient', lost, weights, out, undefined, shares),
      ...(mostProducts > 0 && {
        curvature: async (_, moved) => {
          if (moved.none) return undefined
          const found = await krylov(hessian, [moved.weights, moved.velocity], mostProducts)
          return { ...found, products: held(found.products, segment) }
        },
      }),
    }
    await crossSegment(deviation, segment, products)
  }
  return deviation
}

async function distance(a: NativeVector, b: NativeVector, moved?: NativeVector): Promise<number> {
  const [x, y, z] = (await Promise.all([a, b, ...(moved ? [moved] : [])].map((each) => each.read()))) as Float64Array[]
  return Math.sqrt(x.reduce((sum, value, i) => sum + (value + (z?.[i] ?? 0) - y[i]) ** 2, 0))
}

const left = new Set([2, 11, 17])

describe('the direct update', () => {
  it('gives the retrained weights where the loss is quadratic and every step is logged', async () => {
    const p = linear()
    const [run, retrained] = [await train(p), await train(p, left)]
    const found = await update(p, run, left, 1, 20)
    const last = run.weights.length - 1
    const before = await distance(run.weights[last], retrained.weights[last])
    const after = await distance(run.weights[last], retrained.weights[last], found.weights)
    expect(before).toBeGreaterThan(0.05)
    expect(after).toBeLessThan(1e-10 * before)
    const velocity = await distance(run.velocity[last], retrained.velocity[last], found.velocity)
    expect(velocity).toBeLessThan(1e-10)
    // Without the drift correction it does not.
    const plain = await update(p, run, left, 1, 0)
    expect(await distance(run.weights[last], retrained.weights[last], plain.weights)).toBeGreaterThan(0.01 * before)
  })

  it('comes near from a log of every fourth step, and nearer with the drift correction', async () => {
    for (const p of [linear(), bent()]) {
      const [run, retrained] = [await train(p), await train(p, left)]
      const last = run.weights.length - 1
      const of = async (found?: Deviation) => distance(run.weights[last], retrained.weights[last], found?.weights)
      const before = await of()
      const plain = await of(await update(p, run, left, 4, 0))
      const corrected = await of(await update(p, run, left, 4, 8))
      expect(corrected).toBeLessThan(0.5 * before)
      expect(corrected).toBeLessThan(plain)
    }
  })

  it('is zero while no row was left out, and for a batch that loses all its rows takes its gradient out', async () => {
    const p = linear()
    const run = await train(p)
    const none = await update(p, run, new Set(), 3, 4)
    expect(none.none).toBe(true)
    const all = new Deviation(run.weights[0])
    const loss = { step: 0, size: batch, rows: p.steps[0] }
    const start = { weights: run.weights[0], velocity: run.velocity[0] }
    const segment = { from: 0, to: 1, rule: p.rule, start, end: run.weights[1], losses: together([loss], 1) }
    await crossSegment(all, segment, { gradient: async (_, __, out) => out.fill(0) })
    const { ww } = transition(p.rule, 0, 1)
    const [before, after, moved] = await Promise.all([run.weights[0], run.weights[1], all.weights].map((v) => v.read()))
    after.forEach((value, i) => expect(value + moved[i]).toBeCloseTo(ww * before[i], 12))
  })
})

describe('a transition', () => {
  it('is what the steps do', async () => {
    const p = linear()
    const [w, v, g] = [p.vector(), p.vector(), p.vector()]
    const [first] = w.layout
    const values = (seed: number) => Float64Array.from(normals(first.size, seed))
    await Promise.all([w.set(first.name, values(1)), v.set(first.name, values(2)), g.set(first.name, values(3))])
    for (const nesterov of [true, false]) {
      const rule = { ...p.rule, nesterov }
      const of = transition(rule, 3, 20)
      const [x, y] = [p.vector(), p.vector()]
      await Promise.all([x.copyFrom(w), y.copyFrom(v)])
      for (let t = 3; t < 20; t++) {
        const { momentum, weightDecay } = rule
        await x.sgdStep({ rate: rule.rate(t), momentum, weightDecay, nesterov }, g, y)
      }
      const [a, b, c] = [values(1), values(2), values(3)]
      x.get(first.name).forEach((got, i) => expect(got).toBeCloseTo(of.ww * a[i] + of.wv * b[i] + of.wg * c[i], 12))
      y.get(first.name).forEach((got, i) => expect(got).toBeCloseTo(of.vw * a[i] + of.vv * b[i] + of.vg * c[i], 12))
    }
  })
})

describe('a Krylov space', () => {
  it('ends where it is exhausted, and then is the operator on its vectors', async () => {
    const p = linear()
    const [x, image] = [p.vector(), p.vector()]
    const [first] = x.layout
    await x.set(first.name, Float64Array.from(normals(first.size, 5)))
    const diagonal = p.vector()
    await diagonal.set(
      first.name,
      Float64Array.from({ length: first.size }, (_, i) => 1 + (i % 3)),
    )
    const apply = async (v: NativeVector, out: NativeVector) => {
      await out.fill(0)
      await out.addProduct(1, diagonal, v)
    }
    const { directions, products } = await krylov(apply, [x], 10)
    // Three different eigenvalues.
    expect(directions.length).toBe(3)
    await apply(x, image)
    const along = await Promise.all(directions.map((q) => x.dot(q)))
    const found = p.vector()
    for (const [i, q] of directions.entries())
      await found.axpy(
        products[i].reduce((s, t, j) => s + t * along[j], 0),
        q,
      )
    expect(await distance(found, image)).toBeLessThan(1e-12)
  })
})

describe('a quasi-Newton matrix', () => {
  it('maps the newest step to its change, all else by the rest, and holds eigenvalues', async () => {
    const p = linear()
    const [first] = p.vector().layout
    const vector = async (values: Float64Array) => {
      const made = p.vector()
      await made.set(first.name, values)
      return made
    }
    const curvature = Float64Array.from({ length: first.size }, (_, i) => 0.5 + (i % 4))
    const times = (x: Float64Array) => x.map((value, i) => value * curvature[i])
    const steps = [5, 6].map((seed) => Float64Array.from(normals(first.size, seed)))
    const secants = await Promise.all(
      steps.map(async (s) => ({ step: await vector(s), change: await vector(times(s)) })),
    )
    const held = { rule: { ...p.rule, rate: () => 0.1 }, from: 0, to: 3 }
    const { directions, basis = [], products, rest } = await quasiNewton(secants, 0.3, held)
    expect(rest).toBe(0.3)
    expect(directions.length).toBe(4)
    expect(basis.length).toBe(4)
    const inner = (a: readonly number[], b: readonly number[]) => a.reduce((sum, each, i) => sum + each * b[i], 0)
    const image = async (x: NativeVector) => {
      const dots = await Promise.all(directions.map((each) => each.dot(x)))
      const along = basis.map((row) => inner(row, dots))
      const out = p.vector()
      for (const [j, each] of directions.entries()) {
        await out.axpy(
          products.reduce((sum, row, i) => sum + basis[i][j] * inner(row, along), 0),
          each,
        )
      }
      return out
    }
    const { step, change } = secants[1]
    expect(await distance(await image(step), change)).toBeLessThan(1e-10)
    // The older secant no longer holds exactly, but better than by the rest alone.
    const flat = await vector(steps[0].map((x) => 0.3 * x))
    const older = await distance(await image(secants[0].step), secants[0].change)
    expect(older).toBeLessThan(0.7 * (await distance(flat, secants[0].change)))
    const low = await quasiNewton(secants, 5, { ...held, rule: { ...p.rule, rate: () => 0.5 } })
    const trace = low.products.reduce((sum, row, i) => sum + row[i], 0)
    expect(trace).toBeLessThanOrEqual(4 * 2 + 1e-9)
    expect(low.rest).toBe(2)
  })
})
