// The devices of this machine: the CPU, the GPUs that a child process found, and why what is not there is not there.
import { spawnSync } from 'node:child_process'
import { PalimpsestError } from './errors.js'
import { addonPath, native, type CudaReport } from './native.js'

export interface DeviceLibrary {
  name: string
  /** Where it was found; empty where it was not. */
  path: string
  version: string
  /** Why the package's own kernels run in its place, and what to do; empty where it runs. */
  reason: string
}

export interface DeviceInfo {
  /** What `device` options take: 'cpu', 'cuda:0'. 'cuda' alone stands for what could not be found, and for 'cuda:0'. */
  name: string
  available: boolean
  /** What it is, libraries included, where it is available; else why not and what to do. */
  description: string
  /** Where it is not available: why, and what to do. */
  reason?: string
  cure?: string
  /** Of a GPU, bytes; `free` as the probe found it. */
  memory?: { total: number; free: number }
  /** Of a GPU: '9.0'. */
  capability?: string
  /** Versions of CUDA: what the driver can, what this build was made with. */
  driver?: string
  runtime?: string
  libraries?: DeviceLibrary[]
}

/** How long a driver may take to answer. */
const patience = 60_000

const nothing = { architectures: '', driver: '', runtime: '', devices: [], libraries: [] }

/** Asks the driver in a child process: one that is broken ends that one, not this. */
function askInChild(): CudaReport {
  const code = `process.stdout.write('\\n' + JSON.stringify(require(${JSON.stringify(addonPath)}).probeCuda()))`
  const { status, signal, stdout, stderr, error } = spawnSync(process.execPath, ['-e', code], {
    encoding: 'utf8',
    timeout: patience,
    env: { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
  })
  if (status === 0) {
    try {
      return JSON.parse(stdout.slice(stdout.lastIndexOf('\n'))) as CudaReport
    } catch {
      // Told below as an answer that is none.
    }
  }
  const late = error !== undefined && 'code' in error && error.code === 'ETIMEDOUT'
  const said = stderr.trim().split('\n').at(-1) ?? ''
  const end = late
    ? `did not answer within ${patience / 1000} s`
    : signal !== null
      ? `ended the process that asked it with ${signal}`
      : `could not be asked (${error?.message ?? `status ${status}`}${said && `: ${said}`})`
  return {
    ...nothing,
    built: true,
    reason: `the NVIDIA driver ${end}`,
    cure: 'look at nvidia-smi and the driver it belongs to; device: "cpu" works meanwhile',
  }
}

let found: CudaReport | undefined

/** What there is of CUDA, asked once a process. Nobody is asked where this build has no kernels for it. */
function cuda(): CudaReport {
  return (found ??= native().cudaBuilt ? askInChild() : native().probeCuda())
}

function gpus(): DeviceInfo[] {
  const report = cuda()
  const { driver, runtime, libraries } = report
  const versions = { ...(driver && { driver }), ...(runtime && { runtime }) }
  if (report.devices.length === 0) {
    const { reason, cure } = report
    return [{ name: 'cuda', available: false, description: `${reason}; ${cure}`, reason, cure, ...versions, libraries }]
  }
  const running = libraries.filter(({ path }) => path !== '').map(({ name, version }) => `${name} ${version}`)
  const kernels = running.length > 0 ? running.join(', ') : 'own kernels alone'
  return report.devices.map(({ ordinal, name, capability, totalBytes, freeBytes, unusable }) => {
    const memory = { total: totalBytes, free: freeBytes }
    const size = `${(totalBytes / 2 ** 30).toFixed(1)} GiB`
    const available = unusable === ''
    const [reason, ...cures] = unusable.split('; ')
    return {
      name: `cuda:${ordinal}`,
      available,
      description: available
        ? `${name}, ${size}, compute capability ${capability}, driver for CUDA ${driver}, runtime ${runtime}, ${kernels}`
        : unusable,
      ...(!available && { reason, cure: cures.join('; ') }),
      memory,
      capability,
      ...versions,
      libraries,
    }
  })
}

const cpu = (): DeviceInfo => ({ name: 'cpu', available: true, description: native().describeDevice('cpu') })

/**
 * The devices of this machine in order of preference, and why those that cannot be used cannot. The first call in a
 * process asks the NVIDIA driver, in a child process, which takes a second or two where there is one.
 */
export function devices(): DeviceInfo[] {
  return [...gpus(), cpu()]
}

/** The device of that name, if this machine has it; nobody is asked about GPUs for the CPU. */
export function deviceCalled(name: string): DeviceInfo | undefined {
  return (name === 'cpu' ? [cpu()] : devices()).find((device) => device.name === name)
}

/** The device that an option means, and why it was taken. */
export interface DeviceChoice {
  name: string
  why: string
}

/**
 * The device of that name; 'auto' takes PALIMPSEST_DEVICE where it is set, else the first that can be used. ERR_DEVICE
 * says why another cannot be had.
 */
export function chooseDevice(wanted: string): DeviceChoice {
  const variable = process.env.PALIMPSEST_DEVICE
  if (wanted === 'auto' && variable !== undefined && variable !== '' && variable !== 'auto') {
    return { name: chooseDevice(variable).name, why: `PALIMPSEST_DEVICE is '${variable}'` }
  }
  if (wanted === 'cpu') return { name: 'cpu', why: "device is 'cpu'" }
  const known = devices()
  if (wanted === 'auto') {
    const taken = known.find(({ available }) => available) as DeviceInfo
    const passed = known.slice(0, known.indexOf(taken)).map(({ name, description }) => `${name}: ${description}`)
    return { name: taken.name, why: passed.length > 0 ? `not ${passed.join('; not ')}` : 'the first that can be used' }
  }
  const name = wanted === 'cuda' ? 'cuda:0' : wanted
  const device = known.find((each) => each.name === name) ?? (wanted.startsWith('cuda') ? missing(known) : undefined)
  if (device?.available) return { name: device.name, why: `device is '${wanted}'` }
  const why = device?.description ?? `this machine has ${known.map((each) => each.name).join(', ')}`
  throw new PalimpsestError('ERR_DEVICE', `expected a device that can be used for 'device', got '${wanted}': ${why}`)
}

/** What is said of a GPU that is not in the list. */
const missing = (known: DeviceInfo[]) => known.find(({ name }) => name === 'cuda')
