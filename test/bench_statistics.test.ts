// What the benchmarks make of their samples.
import { describe, expect, it } from 'vitest'
import { timed, undisturbed } from '../bench/statistics.js'

describe('undisturbed repetitions', () => {
  const sample = (wall: number, stolen?: number) => ({ wall, cpu: wall, stolen })

  it('are those of which the host took next to nothing', () => {
    const left = [3, 1, 2, 4, 7, 6, 5].map((wall) => sample(wall, 0.005))
    const all = [...left, ...[100, 200, 300].map((wall) => sample(wall, 0.02)), sample(1000)]
    expect(undisturbed(all)).toMatchObject({ median: 4, least: 1 })
  })

  it('are none where they are few, or nobody says', () => {
    expect(undisturbed([1, 2, 3, 4, 5, 6].map((wall) => sample(wall, 0)))).toBeUndefined()
    expect(undisturbed([1, 2, 3, 4, 5, 6, 7, 8].map((wall) => sample(wall)))).toBeUndefined()
  })

  it('are told by the system, as a share', async () => {
    const { stolen, wall } = await timed(() => new Promise((done) => setTimeout(done, 50)))
    expect(wall).toBeGreaterThan(40)
    if (process.platform === 'linux') expect(stolen).toBeGreaterThanOrEqual(0)
    else expect(stolen).toBeUndefined()
  })
})
