// Blends of mnemonic codes: what is drawn around a code.
import { describe, expect, it } from 'vitest'
import { MnemonicCodes, Model, networks, type CodeDistribution } from '../lib/index.js'
import { CodeBlends } from '../lib/scrub/code_blends.js'

const codesOf = (inputShape: number[], distribution: CodeDistribution = 'normal') =>
  MnemonicCodes.draw(
    Model.fromNetwork(networks.mlp({ inputShape, classes: 3, hidden: [4], activation: 'Relu' }), { device: 'cpu' }),
    { seed: 1, distribution },
  )

describe('CodeBlends', () => {
  it('draws (code + pattern) / 2 under the label of the code, a pattern a quarter as fine as the picture', async () => {
    const codes = codesOf([2, 6, 9])
    const rows = [...(await CodeBlends.of(codes)).draw([2, 0], 2)]
    expect(rows.map(({ labels }) => [...labels])).toEqual([[2], [2], [0], [0]])
    const patterns = rows.map(({ inputs, labels }) => inputs.map((value, i) => 2 * value - codes.row(labels[0])[i]))
    for (const pattern of patterns) {
      const at = (c: number, y: number, x: number) => pattern[(c * 6 + y) * 9 + x]
      for (let c = 0; c < 2; c++) {
        for (let y = 0; y < 6; y++) {
          for (let x = 0; x < 9; x++) expect(at(c, y, x)).toBeCloseTo(at(c, y - (y % 4), x - (x % 4)), 5)
        }
      }
      expect(new Set(pattern.map((value) => Math.round(1e4 * value))).size).toBe(2 * 2 * 3)
    }
    expect(patterns[0]).not.toEqual(patterns[1])
  })

  it.each<[CodeDistribution, number, number]>([
    ['normal', 0, 1],
    ['uniform', 0.5, Math.sqrt(1 / 12)],
  ])(
    "has the scale of '%s' codes, a draw a value where inputs are no pictures",
    async (distribution, mean, deviation) => {
      const codes = codesOf([2000], distribution)
      const [{ inputs }] = [...(await CodeBlends.of(codes)).draw([1], 1)]
      const pattern = [...inputs].map((value, i) => 2 * value - codes.row(1)[i])
      const found = pattern.reduce((a, b) => a + b, 0) / 2000
      const squares = pattern.reduce((sum, value) => sum + (value - found) ** 2, 0) / 2000
      expect(Math.abs(found - mean)).toBeLessThan(0.1)
      expect(Math.sqrt(squares) / deviation).toBeCloseTo(1, 1)
    },
  )

  it('draws the same again from the start, and none where none is wanted', async () => {
    const codes = codesOf([1, 4, 4])
    const one = await CodeBlends.of(codes)
    const drawn = [...one.draw([0, 1], 3)]
    expect([...one.again().draw([0, 1], 3)]).toEqual(drawn)
    expect([...one.draw([0, 1], 3)]).not.toEqual(drawn)
    expect([...one.draw([0, 1], 0)]).toEqual([])
  })
})
