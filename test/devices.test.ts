// devices() and the choice of one: what is there, why the rest is not, and that a broken driver ends a child alone.
import { spawnSync } from 'node:child_process'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { devices, Model, networks, PalimpsestError } from '../lib/index.js'
import { chooseDevice } from '../lib/devices.js'
import type * as Native from '../lib/native.js'

const gpu = devices().find(({ name, available }) => name.startsWith('cuda') && available)

afterEach(() => vi.unstubAllEnvs())

function refusal(action: () => unknown): PalimpsestError {
  try {
    action()
  } catch (error) {
    if (error instanceof PalimpsestError) return error
  }
  throw new Error('expected a PalimpsestError')
}

describe('devices', () => {
  it('ends with the CPU, which is always there', () => {
    expect(devices().at(-1)).toEqual({
      name: 'cpu',
      available: true,
      description: expect.stringMatching(/instruction set \w+, \d+ thread/) as string,
    })
  })

  it('says of every GPU what it is, or why it cannot be used and what to do', () => {
    const gpus = devices().filter(({ name }) => name.startsWith('cuda'))
    expect(gpus.length).toBeGreaterThan(0)
    for (const { available, memory, reason, cure, description } of gpus) {
      if (available) expect(memory?.total).toBeGreaterThan(0)
      else expect(description).toBe(`${reason}; ${cure}`)
      if (!available) expect([reason, cure].every((text) => (text ?? '').length > 10)).toBe(true)
    }
  })
})

describe('the choice of a device', () => {
  it("'auto' says what it passed over", () => {
    vi.stubEnv('PALIMPSEST_DEVICE', '')
    const { name, why } = chooseDevice('auto')
    expect(name).toBe(gpu?.name ?? 'cpu')
    if (gpu === undefined) expect(why).toContain(devices()[0].description)
    const model = Model.fromNetwork(networks.mlp({ inputShape: [2], hidden: [3], classes: 2, seed: 1 }))
    expect([model.device, model.deviceReason]).toEqual([name, why])
    model.dispose()
  })

  it('follows PALIMPSEST_DEVICE, which must be had', () => {
    vi.stubEnv('PALIMPSEST_DEVICE', 'cpu')
    expect(chooseDevice('auto')).toEqual({ name: 'cpu', why: "PALIMPSEST_DEVICE is 'cpu'" })
    vi.stubEnv('PALIMPSEST_DEVICE', 'abacus')
    expect(refusal(() => chooseDevice('auto')).code).toBe('ERR_DEVICE')
    expect(chooseDevice('cpu').name).toBe('cpu')
  })

  it.skipIf(gpu !== undefined)('refuses a GPU that is not there, with cause and cure', () => {
    const { reason, cure } = devices()[0]
    for (const wanted of ['cuda', 'cuda:0', 'cuda:7']) {
      const { code, message } = refusal(() => chooseDevice(wanted))
      expect(code).toBe('ERR_DEVICE')
      expect(message).toContain(`got '${wanted}'`)
      expect(message).toContain(reason)
      expect(message).toContain(cure)
    }
  })

  it('refuses names that are none', () => {
    for (const wanted of ['', 'gpu', 'cuda:', 'cuda:-1', 'cuda:1e3', 'CPU']) {
      expect(refusal(() => chooseDevice(wanted)).code).toBe('ERR_DEVICE')
    }
  })
})

describe('a process with a driver that is broken', () => {
  it.each([
    ['ended the process that asked it with SIGSEGV', 'process.kill(process.pid, "SIGSEGV")'],
    ['could not be asked (status 3: no library)', 'console.error("no library"); process.exit(3)'],
  ])('goes on, and says that it %s', async (said, code) => {
    vi.resetModules()
    // A driver that crashes cannot be made here; the child that asks it can.
    vi.doMock('node:child_process', () => ({
      spawnSync: (command: string, _: string[], options: object) => spawnSync(command, ['-e', code], options),
    }))
    vi.doMock('../lib/native.js', async (original) => {
      const actual = await original<typeof Native>()
      return { ...actual, native: () => ({ ...actual.native(), cudaBuilt: true }) }
    })
    try {
      const list = (await import('../lib/devices.js')).devices()
      expect(list.map(({ name, available }) => [name, available])).toEqual([
        ['cuda', false],
        ['cpu', true],
      ])
      expect(list[0].reason).toBe(`the NVIDIA driver ${said}`)
      expect(list[0].cure).toMatch(/nvidia-smi/)
    } finally {
      vi.doUnmock('node:child_process')
      vi.doUnmock('../lib/native.js')
      vi.resetModules()
    }
  })
})
