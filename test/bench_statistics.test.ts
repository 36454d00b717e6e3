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
    const wait = (ms: number) => timed(() => new Promise((done) => setTimeout(done, ms)))
    // Ticks of ten milliseconds say nothing about less than half a second.
    expect((await wait(50)).stolen).toBeUndefined()
    for (const ms of [550, 1]) {
      const { stolen } = await wait(ms)
      if (process.platform === 'linux') expect(stolen).toBeGreaterThanOrEqual(0)
      else expect(stolen).toBeUndefined()
    }
  })
})
