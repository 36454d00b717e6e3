// A client, a process of its own: its rows never leave it; it answers with channel statistics and trained weights.
import { readFile } from 'node:fs/promises'
import { channelStatistics, fit, Model, type ChannelStatistics } from '../../lib/index.js'
import { shareOf, sizes, target, type Size } from './share.js'

/** What the server asks. */
export type Request =
  | { ask: 'statistics'; model: string }
  /** Training from the round's weights, on the client's rows without the class. */
  | { ask: 'train'; model: string; weights: string | null; answer: string; seed: number }

export type Answer = { statistics: ChannelStatistics } | { rows: number } | { error: string }

const [client, size] = [Number(process.argv[2]), process.argv[3] as Size]
const rows = shareOf(client, size)

async function answer(request: Request): Promise<Answer> {
  const model = await Model.load(request.model, { device: 'cpu' })
  try {
    if (request.ask === 'statistics') return { statistics: await channelStatistics(model, await rows) }
    const retained = (await rows).where(({ label }) => label !== target)
    if (retained.size === 0) return { rows: 0 }
    if (request.weights !== null) await model.loadWeights(await readFile(request.weights))
    await fit(model, retained, {
      epochs: sizes[size].localEpochs,
      batchSize: 32,
      learningRate: 0.02,
      seed: request.seed,
    })
    await model.save(request.answer)
    return { rows: retained.size }
  } finally {
    model.dispose()
  }
}

process.on('message', (request: Request) => {
  answer(request).then(
    (done) => process.send?.(done),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
