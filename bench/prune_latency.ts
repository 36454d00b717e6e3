// Latency of a pruned ResNet-20 in onnxruntime beside the whole one's, at batch 32 on one thread: runs alternate.
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { Model, networks, scrub, Dataset, type PruneOptions } from '../lib/index.js'
import { spread, summarize } from './statistics.js'
import { markdown } from './tables.js'
import { filled } from './workloads.js'

const batch = 32
const repeats = 40

/** Which channels go does not matter for the time: rows are noise. */
const rows = () =>
  Dataset.fromArrays({
    inputs: filled(64 * 3072, 3),
    labels: Array.from({ length: 64 }, (_, i) => i % 10),
    shape: [3, 32, 32],
    classes: 10,
  })

const variants: [string, Partial<PruneOptions>][] = [
  ['half of the inner channels, multiples of 16', { rate: 0.5, cap: 0.5, multipleOf: 16 }],
  ['R = 5 %', { rate: 0.05 }],
]

interface Session {
  name: string
  flops: number
  session: InferenceSession
  times: number[]
  ratios: number[]
}

async function sessionOf(name: string, model: Model, flops: number): Promise<Session> {
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 } as const
  return {
    name,
    flops,
    session: await InferenceSession.create(await model.exportOnnx(), options),
    times: [],
    ratios: [],
  }
}

/** A table of milliseconds of the processor; ratios are those of neighbouring runs. */
export async function pruneLatency(): Promise<string> {
  const sessions: Session[] = [await sessionOf('whole', Model.fromNetwork(networks.resnet20({ seed: 1 })), 1)]
  for (const [name, options] of variants) {
    const model = Model.fromNetwork(networks.resnet20({ seed: 1 }))
    const { cost } = await scrub(model, { method: 'prune', class: 0, data: rows(), fineTune: false, ...options })
    sessions.push(await sessionOf(name, model, cost.flops.after / cost.flops.before))
  }
  const inputs = new Tensor('float32', filled(batch * 3072, 5), [batch, 3, 32, 32])
  for (let i = -3; i < repeats; i++) {
    const times: number[] = []
    for (const { session } of sessions) {
      const start = process.cpuUsage()
      await session.run({ [session.inputNames[0]]: inputs })
      const { user, system } = process.cpuUsage(start)
      times.push((user + system) / 1000)
    }
    // The first runs warm up.
    if (i < 0) continue
    sessions.forEach((each, k) => {
      each.times.push(times[k])
      each.ratios.push(times[k] / times[0])
    })
  }
  return markdown(
    ['ResNet-20, batch 32, onnxruntime', 'ms of the processor', 'ratio', 'FLOPs'],
    sessions.map(({ name, times, ratios, flops }) => [
      name,
      spread(summarize(times)),
      spread(summarize(ratios)),
      flops.toFixed(3),
    ]),
  )
}
