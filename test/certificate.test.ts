// The certificate beside the truth: random small problems whose exact solution is known to many more digits.
import { describe, expect, it } from 'vitest'
import { Dataset, Model } from '../lib/index.js'
import { native, type DType, type NativeVector } from '../lib/native.js'
import { NetworkBuilder, type BuiltNetwork } from '../lib/networks/index.js'
import { certify, type Certificate } from '../lib/tangent/certificate.js'
import { conjugateGradient } from '../lib/tangent/conjugate_gradient.js'
import { findHead, HeadRows } from '../lib/tangent/head.js'
import { makePreconditioner, scaledIdentity, type Preconditioner } from '../lib/tangent/preconditioner.js'
import { QuadraticProblem } from '../lib/tangent/quadratic.js'
import { solve } from '../lib/tangent/solve.js'
import { fixed, inner, perceptron, RidgeProblem, toNumber, type Layer } from './exact.js'
import { normals, uniform } from './random.js'

/** Numbers of one problem, all from its seed. */
interface Draw {
  next: () => number
  whole: (least: number, most: number) => number
  pick: <T>(...of: readonly T[]) => T
  /** Log-uniform. */
  size: (least: number, most: number) => number
}

function drawOf(seed: number): Draw {
  const next = uniform(seed)
  const whole = (least: number, most: number) => least + Math.floor(next() * (most - least + 1))
  return {
    next,
    whole,
    pick: (...of) => of[whole(0, of.length - 1)],
    size: (least, most) => Math.exp(Math.log(least) + next() * Math.log(most / least)),
  }
}

/** A network with the layers that the exact arithmetic walks through, or none where only float64 knows its Jacobian. */
interface Net extends BuiltNetwork {
  layers?: Layer[]
}

function makePerceptron(draw: Draw, seed: number): Net {
  const sizes = [draw.whole(1, 4), ...draw.pick([], [3], [4], [3, 2])]
  const b = new NetworkBuilder([sizes[0]], { seed })
  const slope = draw.pick(0, 0.125)
  let x = b.input
  sizes.slice(1).forEach((features, i) => {
    x = b.linear(x, `fc${i}`, { features })
    x = slope === 0 ? b.relu(x) : b.activation(x, 'LeakyRelu', { alpha: slope })
  })
  const built = b.build(b.linear(x, 'head', { features: draw.whole(2, 3) }))
  const layers = [...sizes.slice(1).map((_, i) => `fc${i}`), 'head'].map((name) => {
    const bias = built.parameters.get(`${name}.bias`)!.data
    bias.set(normals(bias.length, draw.whole(0, 2 ** 31)))
    return { weight: built.parameters.get(`${name}.weight`)!.data, bias, slope: name === 'head' ? 1 : slope }
  })
  return { ...built, layers }
}

function makeOther(draw: Draw, seed: number): Net {
  if (draw.next() < 0.5) {
    const b = new NetworkBuilder([1, 4, 4], { seed })
    const h = b.activation(b.conv(b.input, 'conv', { channels: 2, kernel: 3 }), draw.pick('Tanh', 'Gelu', 'Relu'))
    return b.build(b.linear(b.flatten(b.maxPool(h, 2)), 'head', { features: 3 }))
  }
  const b = new NetworkBuilder([4], { seed })
  const h = b.layerNorm(b.activation(b.linear(b.input, 'fc', { features: 4 }), draw.pick('Silu', 'Softplus')), 'norm')
  return b.build(b.linear(h, 'head', { features: 2 }))
}

interface Problem {
  draw: Draw
  model: Model
  data: Dataset
  parameters: string[]
  damping: number
  targetScale: number
  /** The problem of some of the rows, in exact numbers where the network allows. */
  truth: (rows?: readonly number[]) => Promise<RidgeProblem>
}

/** Every n-th row may be another one again, under another label: a singular Gram matrix that cannot be fitted. */
function drawRows(draw: Draw, width: number, classes: number) {
  // 300 rows are more than one micro-batch.
  const n = draw.next() < 0.02 ? 300 : draw.pick(1, 2, 3, 5, 8, 13, 20, 60)
  const scale = draw.size(0.1, 10)
  const inputs = normals(n * width, draw.whole(0, 2 ** 31)).map((v) => v * scale)
  if (draw.next() < 0.4) {
    for (let i = 1; i < n; i += 2) inputs.copyWithin(i * width, (i - 1) * width, i * width)
  }
  return { inputs, labels: Int32Array.from({ length: n }, () => draw.whole(0, classes - 1)) }
}

/** Jacobian rows and logits in float64, where no exact ones are to be had. */
async function floatJacobian(model: Model, data: Dataset) {
  const k = model.classes
  const rows: bigint[][] = Array.from({ length: data.size * k }, () => [])
  const options = { precision: 'float64' } as const
  for (const { name, shape } of model.parameters) {
    const size = shape.reduce((a, b) => a * b, 1)
    const columns = await Promise.all(
      Array.from({ length: size }, (_, i) => {
        const unit = Float64Array.from({ length: size }, (_x, j) => Number(i === j))
        return model.jvp(data, model.vector({ [name]: unit }, { dtype: 'float64' }), options)
      }),
    )
    for (const column of columns) column.forEach((value, i) => rows[i].push(fixed(value)))
  }
  return { rows, f: Array.from(await model.evaluate(data, options), fixed) }
}

async function makeProblem(seed: number, head = false): Promise<Problem> {
  const draw = drawOf(seed)
  const net = !head && draw.next() < 0.25 ? makeOther(draw, seed) : makePerceptron(draw, seed)
  const model = Model.fromNetwork(net)
  const width = model.inputShape.reduce((a, b) => a * b, 1)
  const { inputs, labels } = drawRows(draw, width, model.classes)
  const data = Dataset.fromArrays({ inputs, labels, shape: model.inputShape, classes: model.classes })
  const names = model.parameters.map(({ name }) => name)
  const parameters = head
    ? ['head.weight', 'head.bias']
    : draw.next() < 0.7
      ? names
      : names.filter((_, i) => i === 0 || draw.next() < 0.5)
  const damping = draw.size(1e-3, 10)
  const targetScale = draw.pick(1, 15, 0.1, 3)

  const truth = async (chosen: readonly number[] = [...labels.keys()]): Promise<RidgeProblem> => {
    const { rows, f } = net.layers ? exactRows(net.layers, inputs, width) : await floatJacobian(model, data)
    const k = model.classes
    const use = chosen.flatMap((i) => Array.from({ length: k }, (_, c) => i * k + c))
    const kept = columnsOf(model, parameters)
    return new RidgeProblem(
      use.map((row) => kept.map((column) => rows[row][column])),
      use.map((row) => f[row] - (row % k === labels[Math.floor(row / k)] ? fixed(targetScale) : 0n)),
      chosen.length,
      damping,
    )
  }
  return { draw, model, data, parameters, damping, targetScale, truth }
}

function exactRows(layers: readonly Layer[], inputs: Float32Array, width: number) {
  const each = Array.from({ length: inputs.length / width }, (_, i) =>
    perceptron(layers, inputs.subarray(i * width, (i + 1) * width)),
  )
  return { rows: each.flatMap(({ rows }) => rows), f: each.flatMap(({ f }) => f) }
}

/** Which columns of the whole Jacobian the parameters are. */
function columnsOf(model: Model, parameters: readonly string[]): number[] {
  let at = 0
  return model.parameters.flatMap(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1)
    const columns = parameters.includes(name) ? Array.from({ length: size }, (_, i) => at + i) : []
    at += size
    return columns
  })
}

const valuesOf = (vector: NativeVector, parameters: readonly string[]): bigint[] =>
  vector.layout.flatMap(({ name }) => (parameters.includes(name) ? Array.from(vector.get(name), fixed) : []))

const norm = (v: readonly bigint[]): number => Math.sqrt(toNumber(inner(v, v)))

/** Bound over truth: at least 1, and how much is given away. */
interface Ratios {
  distance: number
  energy: number
}

/** The certificate of a point is no smaller than the true distances, and its allowance covers the gradient's rounding. */
function compare(certificate: Certificate, w: readonly bigint[], truth: RidgeProblem, solution: bigint[]): Ratios {
  const delta = w.map((value, i) => value - solution[i])
  const distance = norm(delta)
  const energy = toNumber(inner(delta, truth.product(delta)))
  expect(certificate.distance).toBeGreaterThanOrEqual(distance * (1 - 1e-15))
  expect(certificate.energy).toBeGreaterThanOrEqual(energy * (1 - 1e-15))
  return { distance: certificate.distance / distance, energy: certificate.energy / energy }
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]

function publish(what: string, ratios: readonly Ratios[]): void {
  const finite = ratios.filter(({ distance }) => Number.isFinite(distance))
  // In nats: squares of distances under isotropic noise, energies under shaped noise.
  const nats = median(finite.map(({ distance }) => distance ** 2)).toFixed(4)
  const energy = median(finite.map((ratio) => ratio.energy)).toFixed(4)
  console.log(`certificate / truth, ${what}: median ${nats} (isotropic), ${energy} (energy), ${ratios.length} points`)
}

async function onProblem<T>(seed: number, work: (problem: Problem, quadratic: QuadraticProblem) => Promise<T>) {
  const problem = await makeProblem(seed)
  const { model, data, parameters, damping, targetScale } = problem
  const quadratic = new QuadraticProblem({ engine: model.engine, data, parameters, damping, targetScale })
  try {
    return await work(problem, quadratic)
  } finally {
    quadratic.dispose()
    data.dispose()
    model.dispose()
  }
}

/** Moves w and the witness by one inner solve and certifies where they came to, which may be far from anywhere. */
async function round(
  quadratic: QuadraticProblem,
  preconditioner: Preconditioner,
  point: { w: NativeVector; base: NativeVector; rho: NativeVector },
  how: { dtype: DType; iterations: number; place: (w: NativeVector) => Promise<unknown> },
): Promise<Certificate> {
  const { w, base, rho } = point
  const [b, x, witness] = [0, 1, 2].map(() => quadratic.vector(how.dtype))
  await quadratic.gradient(base, rho, {})
  await Promise.all([b.copyFrom(rho), b.scale(-1)])
  await conjugateGradient(quadratic, preconditioner, b, x, witness, {
    energy: 0,
    reduction: 0,
    mostIterations: how.iterations,
  })
  await Promise.all([w.copyFrom(base), w.axpy(1, x), base.axpy(1, witness)])
  await how.place(w)
  return certify(quadratic, { w, witness: base, rho }, {})
}

const placements = {
  none: async () => undefined,
  float32: async (w: NativeVector) => {
    const narrow = new (native().Vector)(w, 'float32')
    await narrow.copyFrom(w)
    await w.copyFrom(narrow)
  },
}

describe('the certificate is never below the truth', () => {
  // 140 + 140 + 120 + 120 problems; some give several points.
  it.each([
    ['stopped early', 140, 1000, 1, 5, 1],
    ['stagnating', 140, 2000, 60, 60, 3],
  ] as const)(
    '%s, in float32 and float64, with and without a preconditioner',
    async (what, count, seed, least, most, rounds) => {
      const ratios: Ratios[] = []
      for (let i = 0; i < count; i++) {
        await onProblem(seed + i, async ({ draw, parameters, damping, truth }, quadratic) => {
          const preconditioner =
            draw.next() < 0.5 ? scaledIdentity(damping) : await makePreconditioner(quadratic, i, {})
          const [w, base, rho] = [0, 1, 2].map(() => quadratic.vector('float64'))
          const exact = await truth()
          const solution = exact.solution()
          const how = {
            dtype: draw.pick<DType>('float32', 'float64'),
            iterations: draw.whole(least, most),
            place: placements[draw.pick('none', 'float32')],
          }
          for (let r = 0; r < rounds; r++) {
            const certificate = await round(quadratic, preconditioner, { w, base, rho }, how)
            ratios.push(compare(certificate, valuesOf(w, parameters), exact, solution))
            const lost = exact.gradient(valuesOf(base, parameters)).map((g, j) => g - valuesOf(rho, parameters)[j])
            expect(certificate.allowance).toBeGreaterThanOrEqual(norm(lost))
          }
        })
      }
      publish(what, ratios)
      expect(ratios).toHaveLength(count * rounds)
    },
  )

  it('at any point with any witness', async () => {
    const ratios: Ratios[] = []
    for (let i = 0; i < 120; i++) {
      await onProblem(3000 + i, async ({ draw, parameters, truth, model }, quadratic) => {
        const [w, witness, rho] = [0, 1, 2].map(() => quadratic.vector('float64'))
        const far = draw.size(1e-6, 10)
        for (const { name, shape } of model.parameters) {
          if (!parameters.includes(name)) continue
          const size = shape.reduce((a, b) => a * b, 1)
          const values = Float64Array.from(normals(size, draw.whole(0, 2 ** 31)))
          await w.set(name, values)
          await witness.set(
            name,
            values.map((v) => v + far * (draw.next() - 0.5)),
          )
        }
        if (draw.next() < 0.3) await witness.copyFrom(w)
        const certificate = await certify(quadratic, { w, witness, rho }, {})
        const exact = await truth()
        ratios.push(compare(certificate, valuesOf(w, parameters), exact, exact.solution()))
      })
    }
    publish('anywhere', ratios)
  })

  it('where solve() says that it has converged, on float32 numbers and on noise grids; in nats too', async () => {
    const ratios: Ratios[] = []
    let released = 0
    for (let i = 0; i < 120; i++) {
      await onProblem(4000 + i, async ({ draw, parameters, truth, model }, quadratic) => {
        const w = quadratic.vector('float64')
        const s = draw.size(1e-3, 1)
        const nats = draw.size(1e-3, 1)
        const grid = draw.next() < 0.6
        const options = { classes: model.classes, mostIterations: 400, seed: i }
        const target = grid ? { distance: s * native().distanceOfNats(nats) } : { relative: draw.size(1e-6, 1e-2) }
        const place = grid ? (v: NativeVector) => native().roundToNoiseGrid(v, parameters, s) : placements.float32
        const { certificate } = await solve(quadratic, w, { ...options, target, place })
        const exact = await truth()
        const solution = exact.solution()
        const at = valuesOf(w, parameters)
        ratios.push(compare(certificate, at, exact, solution))
        if (!grid) return
        released++
        const trueNats = norm(at.map((value, j) => value - solution[j])) ** 2 / (2 * s * s)
        expect(native().natsOf(certificate.distance / s)).toBeGreaterThanOrEqual(trueNats * (1 - 1e-14))
        expect(nats).toBeGreaterThanOrEqual(native().natsOf(certificate.distance / s) * (1 - 1e-14))
      })
    }
    publish('converged', ratios)
    expect(released).toBeGreaterThan(50)
  })

  it("in closed form for layers: 'head', before and after rows were taken out", async () => {
    const ratios: Ratios[] = []
    for (let i = 0; i < 120; i++) {
      const { draw, model, data, damping, targetScale, truth } = await makeProblem(5000 + i, true)
      const head = findHead(model.description)
      const all = await HeadRows.of(model.engine, head, data, targetScale, {})
      const gone = data.size > 2 ? [draw.whole(0, data.size - 1)] : []
      const kept = Array.from({ length: data.size }, (_, row) => row).filter((row) => !gone.includes(row))
      for (const [rows, chosen] of [
        [all, [...data.labels.keys()]],
        [await all.without(Int32Array.from(gone), {}), kept],
      ] as const) {
        const exact = await truth(chosen)
        const w = new (native().Vector)(model.engine.network, 'float64')
        for (const [name, values] of Object.entries(rows.toParameters(await rows.solve(damping))))
          await w.set(name, values)
        const place = draw.pick('float32', 'grid', 'none')
        if (place === 'grid') await native().roundToNoiseGrid(w, [head.weight, head.bias!], draw.size(1e-3, 1))
        if (place === 'float32') await placements.float32(w)
        const certificate = await rows.certify(rows.fromVector(w), damping)
        const ratio = compare(certificate, valuesOf(w, ['head.weight', 'head.bias']), exact, exact.solution())
        // Without rounding the solution is as exact as float64: allowance over next to nothing.
        if (place !== 'none') ratios.push(ratio)
        rows.dispose()
      }
      data.dispose()
      model.dispose()
    }
    publish('head', ratios)
    expect(ratios.length).toBeGreaterThan(100)
    expect(median(ratios.map(({ distance }) => distance ** 2))).toBeLessThanOrEqual(1.01)
    expect(median(ratios.map(({ energy }) => energy))).toBeLessThanOrEqual(1.01)
  })
})
