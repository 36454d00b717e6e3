// Threads and instruction set: said, set, and every choice repeats its bits.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import {
  configure,
  devices,
  Model,
  networks,
  settings,
  type ConfigureOptions,
  type DeviceInfo,
  type DeviceSettings,
} from '../lib/index.js'

const script = fileURLToPath(new URL('settings/compute.mjs', import.meta.url))

interface Computed {
  info: DeviceSettings
  digest: string
  again: string
  values: number[]
  late: string
  after: string
}

async function computed(settings: ConfigureOptions, env: NodeJS.ProcessEnv = {}): Promise<Computed> {
  const { stdout } = await promisify(execFile)(process.execPath, [script, JSON.stringify(settings)], {
    env: { ...process.env, ...env },
  })
  return JSON.parse(stdout) as Computed
}

const cpu = devices().find(({ name }) => name === 'cpu') as DeviceInfo
const start = settings('cpu')
const sets = start.instructionSets

function expectNear(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length)
  const size = Math.max(...expected.map(Math.abs))
  const off = Math.max(...expected.map((value, i) => Math.abs(value - actual[i])))
  expect(size).toBeGreaterThan(0)
  expect(off / size).toBeLessThan(1e-4)
}

afterEach(async () => {
  await configure({ threads: start.threads })
})

describe('settings()', () => {
  it('says threads and instruction sets', () => {
    expect(start.threads).toBeGreaterThanOrEqual(1)
    expect(sets[0]).toBe('baseline')
    expect(sets).toContain(start.instructionSet)
    expect(cpu.description).toContain(`instruction set ${start.instructionSet}`)
    expect(start.memoryLimit).toBe(null)
    expect(settings()).toEqual(start)
  })

  it('refuses devices that are not there', () => {
    expect(() => settings('tpu')).toThrow("got 'tpu'")
    expect(() => settings(3 as never)).toThrow("for 'device', got 3")
  })
})

describe('configure()', () => {
  it('sets threads for what is called afterwards, and waits for what was called before', async () => {
    const model = Model.fromNetwork(networks.convnet({ seed: 1 }), { device: 'cpu' })
    const inputs = new Float32Array(8 * 3 * 32 * 32).map((_, i) => Math.sin(i))
    const batch = { inputs, labels: new Int32Array(8) }
    await configure({ threads: 1 })
    const one = await model.evaluate(batch)
    // Queued together: the first runs with one thread, the second with three.
    const [before, info, after] = await Promise.all([
      model.evaluate(batch),
      configure({ threads: 3 }),
      model.evaluate(batch),
    ])
    expect(info.threads).toBe(3)
    expect(settings().threads).toBe(3)
    expect(before).toEqual(one)
    expectNear([...after], [...one])
    expect(await model.evaluate(batch)).toEqual(await model.evaluate(batch))
    await configure({ threads: 1 })
    expect(await model.evaluate(batch)).toEqual(one)
    model.dispose()
  })

  it.each(sets)(
    '%s: the same bits twice, in one process and in another; near the best set',
    async (instructionSet) => {
      const first = await computed({ instructionSet, threads: 2 })
      expect(first.info).toMatchObject({ instructionSet, threads: 2 })
      expect(first.again).toBe(first.digest)
      // The environment says the same as the call.
      const second = await computed({ threads: 2 }, { PALIMPSEST_ISA: instructionSet })
      expect(second.info.instructionSet).toBe(instructionSet)
      expect(second.digest).toBe(first.digest)
      const best = await computed({ instructionSet: sets.at(-1), threads: 2 })
      expectNear(first.values, best.values)
      if (sets.length > 1 && cpu.description.includes('oneDNN')) {
        // Once oneDNN has computed, another set is refused and nothing changes.
        expect([first.late, first.after]).toEqual(['ERR_UNSUPPORTED', instructionSet])
      } else if (sets.length > 1) {
        expect(first.late).toBe('taken')
      }
    },
    60_000,
  )

  it.skipIf(sets.length < 2)(
    'takes another set than the environment gave, as often as wanted before the first computation',
    async () => {
      const best = sets.at(-1) as DeviceSettings['instructionSet']
      const first = await computed({ instructionSet: best, threads: 2 })
      const second = await computed({ instructionSet: best, threads: 2 }, { PALIMPSEST_ISA: 'baseline' })
      expect(second.info.instructionSet).toBe(best)
      expect(second.digest).toBe(first.digest)
    },
    60_000,
  )

  it('has the same bits whatever oneDNN is told by its own variables', async () => {
    const first = await computed({ threads: 2 })
    const told = { DNNL_MAX_CPU_ISA: 'SSE41', ONEDNN_DEFAULT_FPMATH_MODE: 'BF16', DNNL_DEFAULT_FPMATH_MODE: 'BF16' }
    expect((await computed({ threads: 2 }, told)).digest).toBe(first.digest)
  }, 60_000)

  it('takes OMP_NUM_THREADS, up to 1024', async () => {
    expect((await computed({}, { OMP_NUM_THREADS: '3' })).info.threads).toBe(3)
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [fileURLToPath(new URL('settings/threads.mjs', import.meta.url))],
      { env: { ...process.env, OMP_NUM_THREADS: '100000' } },
    )
    expect(stdout.trim()).toBe('1024')
  }, 60_000)

  it('takes 1 to 1024 threads', async () => {
    for (const threads of [1, 5]) {
      expect((await configure({ threads })).threads).toBe(threads)
      const model = Model.fromNetwork(networks.mlp({ seed: 1 }), { device: 'cpu' })
      const gradient = await model.gradient({ inputs: new Float32Array(784 * 3).fill(0.1), labels: new Int32Array(3) })
      expect(await gradient.norm()).toBeGreaterThan(0)
      gradient.dispose()
      model.dispose()
    }
  })

  it.each([
    [{ threads: 0 }, "for 'threads', got 0"],
    [{ threads: 1.5 }, "for 'threads', got 1.5"],
    [{ threads: 1025 }, "for 'threads', got 1025"],
    [{ instructionSet: 'mmx' }, "one of 'baseline'"],
    [{ instructionSet: 'mmx', threads: 7 }, "for 'instructionSet', got 'mmx'"],
    [{ memoryLimit: 0 }, "for 'memoryLimit', got 0"],
    [{ memoryLimit: 'all' }, "for 'memoryLimit', got 'all'"],
    [{ thread: 2 }, "the nearest is 'threads'"],
  ])('refuses %o and leaves every setting', async (options, text) => {
    const before = settings()
    const refused = configure(options as ConfigureOptions)
    await expect(refused).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
    await expect(refused).rejects.toThrow(text)
    expect(settings()).toEqual(before)
  })

  it('refuses devices that are not there', async () => {
    await expect(configure({ device: 'tpu', threads: 1 })).rejects.toMatchObject({ code: 'ERR_DEVICE' })
  })
})
