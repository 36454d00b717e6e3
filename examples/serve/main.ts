// Starts the service: `npx tsx examples/serve/main.ts [folder] [port]`. The folder keeps the core, the user weights and logs.
import { existsSync } from 'node:fs'
import { appendFile, mkdir } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fit, Model, TangentModel } from '../../lib/index.js'
import { loadDigits, pixelScale, sizes } from '../demo/digits.js'
import { coreNetwork } from '../demo/network.js'
import { makeServer } from './http.js'
import { Service } from './service.js'

const [folder = 'serve-data', port = '8080'] = process.argv.slice(2)
await mkdir(folder, { recursive: true })
const corePath = join(folder, 'core.onnx')
const userPath = join(folder, 'user.safetensors')

const { publicData, userData } = await loadDigits(sizes.small)

/** Trained once on public rows; every later start loads it. */
async function openCore(): Promise<Model> {
  if (existsSync(corePath)) return Model.load(corePath)
  const core = Model.fromNetwork(coreNetwork(1))
  await fit(core, publicData, { epochs: sizes.small.coreEpochs, seed: 1 })
  await core.exportOnnx(corePath)
  core.dispose()
  return Model.load(corePath)
}

/** The released weights as they were saved last, else fitted now: what was forgotten stays forgotten over a restart. */
async function openUser(core: Model): Promise<TangentModel> {
  if (existsSync(userPath)) return TangentModel.load(userPath, core, { data: userData, publicData })
  // The last layer alone: a deletion needs no pass over the rows, and the model is served as an ordinary network.
  const user = TangentModel.at(core, { layers: 'head', publicData })
  await fit(user, userData)
  await user.save(userPath)
  return user
}

const service = await Service.open({
  user: await openUser(await openCore()),
  request: { noise: 'auto', target: { nats: 0.01 } },
  save: (user) => user.save(userPath),
  log: (report) => {
    appendFile(join(folder, 'operator.jsonl'), `${JSON.stringify(report)}\n`).catch(console.error)
  },
})
const server = makeServer(service, (pixel) => pixel * pixelScale)
server.listen(Number(port), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => server.close(() => void service.close()))
}
