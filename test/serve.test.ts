// The example service: predictions, a deletion that swaps the model without downtime, and the public ledger.
import type { AddressInfo } from 'node:net'
import type { Server } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeServer } from '../examples/serve/http.js'
import { Service } from '../examples/serve/service.js'
import { Dataset, fit, Model, networks, TangentModel, type ForgetReport } from '../lib/index.js'

const shape = [6]
const rows = 60
const inputs = Float32Array.from({ length: rows * 6 }, (_, i) => Math.sin(1 + i * i))
const data = Dataset.fromArrays({
  inputs,
  labels: Int32Array.from({ length: rows }, (_, i) => i % 3),
  shape,
  classes: 3,
  owners: (index) => `owner ${index % 4}`,
})

let user: TangentModel
let service: Service
let server: Server
let url: string
const reports: ForgetReport[] = []
const saved: number[] = []

beforeAll(async () => {
  const core = Model.fromNetwork(networks.mlp({ inputShape: shape, classes: 3, hidden: [8], seed: 3 }), {
    device: 'cpu',
  })
  user = TangentModel.at(core, { damping: 0.5, targetScale: 1 })
  await fit(user, data)
  service = await Service.open({
    user,
    request: { noise: 2 ** -6, target: { nats: 0.02 } },
    save: async (model) => void saved.push(model.ledger.length),
    log: (report) => reports.push(report),
  })
  server = makeServer(service)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterAll(async () => {
  await new Promise((resolve) => server.close(resolve))
  await service.close()
})

interface Answer {
  release: number
  classes: number[]
  outputs: number[][]
}

const post = (body: unknown) => fetch(`${url}/predict`, { method: 'POST', body: JSON.stringify(body) })
const remove = (owner: string) => fetch(`${url}/owners/${encodeURIComponent(owner)}`, { method: 'DELETE' })
const someRows = Array.from({ length: 5 }, (_, i) => [...inputs.subarray(6 * i, 6 * i + 6)])

async function predict(): Promise<Answer> {
  const response = await post({ inputs: someRows })
  expect(response.status).toBe(200)
  return (await response.json()) as Answer
}

/** What the model itself answers on the same rows, against what is served. */
async function expectServed({ outputs, classes }: Answer): Promise<void> {
  const own = await user.evaluate({ inputs: inputs.slice(0, 30) })
  expect(own.some((value) => Math.abs(value) > 0.01)).toBe(true)
  outputs.flat().forEach((value, i) => expect(Math.abs(value - own[i])).toBeLessThan(1e-4))
  outputs.forEach((row, i) => expect(classes[i]).toBe(row.indexOf(Math.max(...row))))
}

describe('serve', () => {
  it('serves what the model computes', async () => {
    const answer = await predict()
    expect(answer.release).toBe(1)
    await expectServed(answer)
  })

  it('forgets an owner while predictions go on', async () => {
    const before = await predict()
    let forgetting = true
    const deletion = remove('owner 1').finally(() => {
      forgetting = false
    })
    const releases = new Set<number>()
    while (forgetting) releases.add((await predict()).release)
    const response = await deletion
    expect(response.status).toBe(200)
    const record = (await response.json()) as { release: number; guaranteed: { nats: number } }
    expect(record.release).toBe(2)
    expect(record.guaranteed.nats).toBeCloseTo(0.02, 8)
    expect(releases.has(1)).toBe(true)

    expect(saved).toEqual([2])
    expect(user.data?.size).toBe(45)
    const after = await predict()
    expect(after.release).toBe(2)
    await expectServed(after)
    expect(after.outputs).not.toEqual(before.outputs)
  })

  it('shows presets only', async () => {
    const response = await fetch(`${url}/ledger`)
    const text = await response.text()
    const { releases, total } = JSON.parse(text) as { releases: { kind: string }[]; total: { nats: number } }
    expect(releases.map(({ kind }) => kind)).toEqual(['fit', 'forget'])
    expect(total.nats).toBeCloseTo(0.02, 8)
    expect(reports).toHaveLength(1)
    const { measured } = reports[0].bound
    expect(measured).not.toBeNull()
    for (const secret of [measured?.distance, measured?.residual, measured?.nats]) {
      expect(secret).toBeGreaterThan(0)
      expect(text).not.toContain(String(secret))
    }
    expect(text).not.toMatch(/measured|residual|iterations|seconds/)
  })

  it('runs requests that come together one after another', async () => {
    const answers = await Promise.all([remove('owner 0'), remove('owner 2'), remove('owner 2')])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 404])
    expect(user.data?.size).toBe(15)
    expect((await predict()).release).toBe(4)
  })

  it('ends at the core when the last owner leaves', async () => {
    expect((await remove('owner 3')).status).toBe(200)
    const answer = await predict()
    expect(answer.release).toBe(5)
    const core = await user.core.evaluate({ inputs: inputs.slice(0, 30) })
    answer.outputs.flat().forEach((value, i) => expect(Math.abs(value - core[i])).toBeLessThan(1e-4))
    expect((await remove('owner 3')).status).toBe(404)
  })

  it.each([
    [() => post({ inputs: [[1, 2]] }), 400, '6 numbers'],
    [() => post({ inputs: [] }), 400, 'inputs'],
    [() => post({ inputs: [[1, 2, 3, 4, 5, 'x']] }), 400, '6 numbers'],
    [() => fetch(`${url}/predict`, { method: 'POST', body: '{' }), 400, 'JSON'],
    [() => fetch(`${url}/predict`), 405, 'POST'],
    [() => fetch(`${url}/owners/x`), 405, 'DELETE'],
    [() => fetch(`${url}/owners`, { method: 'DELETE' }), 404, '/owners/:owner'],
    [() => fetch(`${url}/owners/%E0%A4%A`, { method: 'DELETE' }), 400, 'percent-encoding'],
    [() => remove('nobody'), 404, "'nobody'"],
    [() => fetch(`${url}/other`), 404, '/ledger'],
  ])('refuses request %#', async (send, status, words) => {
    const response = await send()
    expect(response.status).toBe(status)
    expect(((await response.json()) as { error: string }).error).toContain(words)
  })
})
