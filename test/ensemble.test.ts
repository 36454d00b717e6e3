// Ensembles: mean softmax and votes, the same in one ONNX graph, and misuse.
import { describe, expect, it } from 'vitest'
import { Dataset, Ensemble, Model, PalimpsestError, networks } from '../lib/index.js'
import { runOnnx } from './onnxruntime.js'

const rows = 40
const inputs = Float32Array.from({ length: rows * 192 }, (_, i) => Math.sin(i * i * 0.37))
const labels = Int32Array.from({ length: rows }, (_, i) => i % 5)

/** A network with batch normalisation whose statistics are its own, and different outputs for each seed. */
const makeModel = (seed: number) =>
  Model.fromNetwork(networks.resnet18({ inputShape: [3, 8, 8], classes: 5, width: 4, seed }))

const softmax = (logits: number[]): number[] => {
  const exp = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const sum = exp.reduce((a, b) => a + b, 0)
  return exp.map((x) => x / sum)
}

describe('an ensemble', () => {
  const models = [1, 2, 3].map(makeModel)
  const ensemble = Ensemble.of(models)

  it.each(['mean', 'vote'] as const)(
    'predicts by %s what its models say, and so does its ONNX file',
    async (aggregate) => {
      const got = await ensemble.predict({ inputs }, { aggregate })
      const each = await Promise.all(models.map((model) => model.evaluate({ inputs })))
      const expected = new Float64Array(rows * 5)
      for (let i = 0; i < rows; i++) {
        for (const logits of each) {
          const row = [...logits.subarray(5 * i, 5 * i + 5)]
          const best = row.indexOf(Math.max(...row))
          const shares = aggregate === 'mean' ? softmax(row) : row.map((_, k) => Number(k === best))
          shares.forEach((share, k) => (expected[5 * i + k] += share / 3))
        }
      }
      // Different rows, different answers: what is compared is not one constant.
      expect(new Set(Array.from(expected, (p) => p.toFixed(2))).size).toBeGreaterThan(aggregate === 'mean' ? 10 : 2)
      got.forEach((p, i) => expect(p).toBeCloseTo(expected[i], 6))
      const onnx = await runOnnx(await ensemble.exportOnnx(undefined, { aggregate }), inputs, [3, 8, 8])
      expect(onnx.shape).toEqual([rows, 5])
      const worst = onnx.data.reduce((most, p, i) => Math.max(most, Math.abs(p - got[i])), 0)
      // A vote differs by a whole third where one largest logit does.
      expect(worst).toBeLessThan(aggregate === 'mean' ? 1e-5 : 1e-6)
    },
  )

  it('splits the vote of a model whose largest logits tie', async () => {
    const source = networks.mlp({ inputShape: [2], hidden: [], classes: 3, seed: 1 })
    for (const { data } of source.parameters.values()) data.fill(0)
    const tied = Ensemble.of([Model.fromNetwork(source)])
    const batch = Float32Array.of(1, 2)
    const third = Math.fround(1 / 3)
    expect([...(await tied.predict({ inputs: batch }, { aggregate: 'vote' }))]).toEqual([third, third, third])
    const onnx = await runOnnx(await tied.exportOnnx(undefined, { aggregate: 'vote' }), batch, [2])
    onnx.data.forEach((p) => expect(p).toBeCloseTo(1 / 3, 6))
    tied.dispose()
  })

  it('measures accuracy and loss', async () => {
    const data = Dataset.fromArrays({ inputs, labels, shape: [3, 8, 8], classes: 5 })
    const probabilities = await ensemble.predict(data)
    let [right, loss] = [0, 0]
    labels.forEach((label, i) => {
      const row = [...probabilities.subarray(5 * i, 5 * i + 5)]
      right += Number(row.indexOf(Math.max(...row)) === label)
      loss -= Math.log(row[label]) / rows
    })
    const measured = await ensemble.measure(data)
    expect(measured.accuracy).toBe(right / rows)
    expect(measured.loss).toBeCloseTo(loss, 6)
    expect((await ensemble.measure(data, { aggregate: 'vote' })).loss).toBeNull()
  })

  it('refuses models that do not fit together, options it does not know, and use after dispose()', async () => {
    const other = Model.fromNetwork(networks.mlp({ inputShape: [4], hidden: [], classes: 5, seed: 1 }))
    expect(() => Ensemble.of([models[0], other])).toThrow(/\[3, 8, 8\] to 5 classes, got \[4\]/)
    expect(() => Ensemble.of([])).toThrow(/one Model or more/)
    expect(() => Ensemble.of([{}] as never)).toThrow(PalimpsestError)
    await expect(ensemble.predict({ inputs }, { aggregate: 'sum' as never })).rejects.toThrow(/'mean' or 'vote'|mean/)
    await expect(ensemble.exportOnnx(undefined, { agregate: 'mean' } as never)).rejects.toThrow(/'aggregate'/)
    ensemble.dispose()
    ensemble.dispose()
    await expect(ensemble.predict({ inputs })).rejects.toThrow(/disposed/)
    await expect(ensemble.exportOnnx()).rejects.toThrow(/disposed/)
    expect(models.every(({ disposed }) => disposed)).toBe(true)
    other.dispose()
  })
})
