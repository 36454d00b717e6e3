// The native surface: the only file that loads the addon, and the types of everything the addon offers.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { PalimpsestError } from './errors.js'
import type { NetworkDescription } from './network.js'

export type DType = 'float32' | 'float64'
export type FloatArray = Float32Array | Float64Array
export type Loss = 'crossEntropy' | 'squaredError'

/** What a program computes; native/curvature/products.h says which inputs each reads and what it yields. */
export type Quantity =
  | 'evaluate'
  | 'jvp'
  | 'evaluateJvp'
  | 'vjp'
  | 'loss'
  | 'gradient'
  | 'ggnProduct'
  | 'hessianProduct'
  | 'gradientSquares'
  | 'fisherEmpirical'
  | 'fisherClass'
  | 'linearGradient'
  | 'channelStatistics'
  | 'linearization'

/** What the addon finds of CUDA (native/backend/cuda.h). */
export interface CudaReport {
  built: boolean
  architectures: string
  driver: string
  runtime: string
  devices: {
    ordinal: number
    name: string
    capability: string
    totalBytes: number
    freeBytes: number
    /** Why its kernels cannot run, with the cure; empty where they can. */
    unusable: string
  }[]
  libraries: { name: string; path: string; version: string; reason: string }[]
  reason: string
  cure: string
}

/** Bytes that the engine holds on a device, the most it held, what it may still get, and the limit (0: none). */
export interface MemoryUse {
  held: number
  peak: number
  free: number
  limit: number
}

/** How a device computes. */
export interface DeviceSettings {
  /** That kernels use; 0 where the device has no such thing. */
  threads: number
  /** The instruction set in use, and all that `configure()` takes, the best last; none where it has no such thing. */
  instructionSet: string
  instructionSets: string[]
  /** Bytes that the engine may hold on the device; null: as many as there are. */
  memoryLimit: number | null
}

interface Disposable {
  /** Lets go of the native memory once no queued step needs it. Idempotent; later use is ERR_DISPOSED. */
  dispose(): void
  readonly disposed: boolean
}

export interface LayoutEntry {
  name: string
  /** ONNX's layout. */
  shape: number[]
  /** First element in the flat vector, and how many. */
  offset: number
  size: number
}

export interface NativeNetwork extends Disposable {
  readonly device: string
  readonly inputShape: number[]
  readonly classes: number
  readonly layout: LayoutEntry[]
  /** Elements of the flat vector, padding included. */
  readonly vectorLength: number
  readonly constants: { name: string; shape: number[] }[]
  /** By position in `constants`; running statistics are constants that training changes. */
  getConstant(index: number): Promise<Float32Array>
  setConstant(index: number, data: Float32Array): Promise<void>
  /** f(x) + J(x) w as a description whose tangents are leaves; present constants included. */
  linearized(parameters: readonly string[]): Promise<NetworkDescription>
  /** Parameters whose per-example squares need a batch of one and a squared vjp. */
  parametersWithoutQuickSquares(): Promise<string[]>
}

/**
 * A parameter-space vector. Its steps are queued in call order; promises settle when the step is done. Arrays given are
 * copied before the call returns. Operands must have the same layout (names and shapes), not the same network.
 */
export interface NativeVector extends Disposable {
  readonly device: string
  readonly dtype: DType
  readonly layout: LayoutEntry[]
  readonly bytes: number
  /** Values of one parameter, in the vector's type. Synchronous: waits for steps already queued that write this vector. */
  get(name: string): FloatArray
  /** The flat vector, padding (zeros) included, read after the steps queued so far. */
  read(): Promise<FloatArray>
  set(name: string, values: FloatArray): Promise<void>
  /** The flat vector, `vectorLength` elements; what lies in the padding is ignored. */
  write(values: FloatArray): Promise<void>
  fill(value: number): Promise<void>
  /** this = x, converted to this vector's type. */
  copyFrom(x: NativeVector): Promise<void>
  /** <this, x>, summed in float64; over one parameter where a name is given. */
  dot(x: NativeVector, name?: string): Promise<number>
  /** this += alpha x */
  axpy(alpha: number, x: NativeVector): Promise<void>
  /** this *= alpha */
  scale(alpha: number): Promise<void>
  /** this += alpha a * b, element by element; all of one type. */
  addProduct(alpha: number, a: NativeVector, b: NativeVector): Promise<void>
  /** this = weights after one step of SGD; velocity is changed too. All of one type. */
  sgdStep(step: SgdStep, gradient: NativeVector, velocity: NativeVector): Promise<void>
}

/** PyTorch's SGD: g += weightDecay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v). */
export interface SgdStep {
  rate: number
  momentum?: number
  weightDecay?: number
  nesterov?: boolean
}

/** How rows of a store become inputs: value * scale[c] + shift[c]; one scale and shift for all, or one a channel. */
export interface GatherSpec {
  /** Of a row; height = width = 1 for vectors. */
  channels: number
  height: number
  width: number
  /** Zero border, after normalisation, that crops may reach into. */
  pad: number
  scale: Float32Array
  shift: Float32Array
}

/** Inputs gathered from a store on the backend's thread, right before the step. */
export interface RowSource {
  store: NativeRows
  gather: GatherSpec
  /** Rows of the store. */
  indices: Int32Array
  /** 1 flips a row left to right. */
  flips?: Uint8Array
  /** dy, dx for each row, 0 to 2 pad; the centre where left out. */
  crops?: Int32Array
}

/** Rows of a store of float32 as they are, as many as the call has. */
export interface RowRange {
  store: NativeRows
  first: number
}

/** Rows of a dataset, or of a call's arrays, as they came, in native memory. */
export interface NativeRows extends Disposable {
  readonly type: 'uint8' | 'float32'
  /** Values in a row. */
  readonly width: number
  /** Whole rows appended so far. */
  readonly size: number
  readonly bytes: number
  /** Values of this store's type, in pieces of any length. Infinite or NaN values are refused, naming the row. */
  append(values: Uint8Array | Float32Array): void
  /** Ends appending; what was appended must be whole rows. Only then rows can be read and gathered. */
  seal(): void
  row(index: number): Uint8Array | Float32Array
  /** The bytes of a row into `target` (at its start); returns how many. */
  copyRow(index: number, target: Uint8Array): number
}

/** Batch-sized arrays; the first `rows` rows count, the padded tail repeats the first row with weight and cotangent 0. */
export interface ProgramInputs {
  /** Valid rows, 1 to `batch`; all of them in training mode. */
  rows: number
  /** [rows, ...inputShape], or where they are. */
  inputs: FloatArray | RowRange | RowSource
  /** [rows, K] */
  targets?: FloatArray
  /** [rows], or one weight for all of them. */
  weights?: FloatArray | number
  /** [rows, K] */
  cotangents?: FloatArray
  parameters: NativeVector
}

export interface ProgramResults {
  tangents?: NativeVector
  /** Where sums over the batch go; parameters that are not differentiated keep what they had. */
  sums?: NativeVector
  /** Add to `sums` (true) or overwrite them (default). */
  accumulate?: boolean
  /** Whether the plain outputs come back (default true); without them the promise gives []. */
  outputs?: boolean
}

export interface NativeProgram extends Disposable {
  readonly batch: number
  readonly dtype: DType
  readonly quantity: Quantity
  /** Shapes of the plain outputs; the first axis of those that are rows is `batch`. */
  readonly outputShapes: number[][]
  /** Memory of the program itself and of its input and output buffers. */
  readonly arenaBytes: number
  readonly bufferBytes: number
  readonly constantBytes: number
  /** Of one run. */
  readonly flops: number
  readonly bytes: number
  readonly steps: number
  /** Plain outputs, [rows, ...] each, in the program's type. Calls may be queued before earlier ones are done. */
  run(call: ProgramInputs & ProgramResults): Promise<FloatArray[]>
  /** Runs what does not depend on tangents and keeps it, inputs and parameters too, until the next run or hold. */
  hold(call: ProgramInputs): Promise<void>
  /** Runs the rest on what `hold` kept. */
  apply(call: ProgramResults): Promise<FloatArray[]>
}

/** What a call of a linearization reads; each product says which. All vectors are of its type. */
interface LinearizedCall {
  /** Which of the held batches. */
  slot: number
  /** Add to `sums` (true) or overwrite them (default). */
  accumulate?: boolean
}

/**
 * Batches of one size, each linearised at the point it was held at and kept in a slot; what does not depend on a tangent or
 * cotangent is computed by `hold` alone. Steps run in call order; arrays are copied before the call returns.
 */
export interface NativeLinearization extends Disposable {
  readonly batch: number
  /** Memory of one slot, of what the slots share, and of everything there is now. */
  readonly slotBytes: number
  readonly sharedBytes: number
  readonly bytes: number
  /** Keeps a batch in a slot, in place of what was there; the parameters must stay as they are while it is used. */
  hold(slot: number, call: Pick<ProgramInputs, 'rows' | 'inputs' | 'parameters'>): Promise<void>
  release(slot: number): Promise<void>
  /** J v of each tangent, [rows, K]. */
  jvp(call: { slot: number; tangents: readonly NativeVector[] }): Promise<FloatArray[]>
  /** sums[i] (+)= J^T cotangents[i], [rows, K] each. */
  vjp(call: LinearizedCall & { cotangents: readonly FloatArray[]; sums: readonly NativeVector[] }): Promise<unknown>
  /** sums[i] (+)= J^T (weight H_loss) J tangents[i]. */
  ggnProduct(
    call: LinearizedCall & {
      loss: Loss
      weight: number
      tangents: readonly NativeVector[]
      sums: readonly NativeVector[]
    },
  ): Promise<unknown>
  /** sums[0] (+)= J^T (weight (f + J w - targets)); gives the residual f + J w - targets, [rows, K]. */
  linearGradient(
    call: LinearizedCall & {
      targets: FloatArray
      weight: number
      tangents: readonly [NativeVector]
      sums: readonly [NativeVector]
    },
  ): Promise<[FloatArray]>
}

export interface ProgramOptions {
  quantity: Quantity
  /** Rows of a batch. */
  batch: number
  loss?: Loss
  dtype?: DType
  /** Products of a float32 program may round their factors to TF32 where the device has it. */
  tf32?: boolean
  /** Batch normalisation with the batch's statistics. */
  training?: boolean
  /** Plan for hold() and apply(): jvp, evaluateJvp, ggnProduct and linearGradient. */
  holdable?: boolean
  /** Names of the parameters that are differentiated; all where left out. */
  parameters?: readonly string[]
  /** Of channelStatistics: ids of the values [N, C, H, W] to measure; a plain output [3, K, C] each. */
  taps?: readonly number[]
}

/** What a device reaches, measured: FLOP/s, bytes/s (read and written), and seconds of the shortest kernel. */
export interface Rates {
  gemm: number
  conv: number
  squares: number
  copy: number
  call: number
}

/** Numbers of one run of a program, as far as they are known. */
export interface ForecastNumbers {
  /** Whether every kind of step was timed on a small batch; until then `seconds` says what the rates make of it. */
  done: boolean
  seconds: number
  secondsByRates: number
  flops: number
  bytes: number
  arenaBytes: number
  constantBytes: number
  bufferBytes: number
  /** That kernels work in: of the process, however many programs there are. */
  workingBytes: number
  steps: number
  /** Rows of the small batch. */
  rehearsedBatch: number
  rates: Rates
}

/** What a program would take, without making it. */
export interface NativeForecast extends Disposable {
  /** Plans at the first call, then measures for about so many seconds (0: not at all). */
  measure(seconds: number): Promise<ForecastNumbers>
}

/** A preconditioner M = (theta/m) J^T J + mu I from the Jacobian rows of m sampled examples (native/curvature/low_rank.h). */
export interface NativeLowRank extends Disposable {
  /** A row of J: the selected parameters of a float32 or float64 vector. */
  append(row: NativeVector): Promise<void>
  factor(theta: number, mu: number): Promise<void>
  /** out = M^-1 x over the selected parameters; out may be x. */
  applyInverse(x: NativeVector, out: NativeVector): Promise<void>
}

/** Bounds for W against the exact minimiser (native/unlearn/ridge.h). */
export interface NativeRidgeCertificate {
  residual: number
  distance: number
  energy: number
  allowance: number
  covarianceNats: number
}

/** The closed form of a last linear layer over rows that can be taken out again (native/unlearn/ridge.h). */
export interface NativeRidge extends Disposable {
  /** Features [rows, f], residuals at the core [rows, K]. */
  add(rows: number, features: FloatArray, residuals: FloatArray): Promise<void>
  subtract(rows: number, features: FloatArray, residuals: FloatArray): Promise<void>
  /** The exact minimiser W [f, K] at damping mu. */
  solve(mu: number): Promise<Float64Array>
  /** Of any W, for the rows of the last solve. */
  certify(w: FloatArray): Promise<NativeRidgeCertificate>
  /** A draw of N(0, scale^2 H^-1) for every output, [f, K]; keyed by the operating system unless a test gives a seed. */
  sample(scale: number, seed?: number): Promise<Float64Array>
}

/** Methods that return a promise throw at once for arguments they refuse; what fails in a step rejects. */
export interface Native {
  version: () => string
  /** The class of every error the addon throws or rejects with: called as `new errorClass(code, message)`. */
  setErrorClass: (errorClass: new (code: never, message: string) => Error) => void
  /** Once the steps queued before are over. */
  configure: (
    device: string,
    settings: { threads?: number; instructionSet?: string; memoryLimit?: number },
  ) => Promise<void>
  deviceSettings: (device: string) => DeviceSettings
  /** `restart` begins a new peak. */
  memoryUse: (device: string, restart: boolean) => Promise<MemoryUse>
  Forecast: new (network: NativeNetwork, options: ProgramOptions, parameters: NativeVector) => NativeForecast
  /** Whether this build has CUDA kernels. */
  cudaBuilt: boolean
  /** Asks the driver, which may end the process if it is broken: lib/devices.ts does it in a child process. */
  probeCuda: () => CudaReport
  /** Opens the device: its instruction set, libraries and threads, or its name and memory. */
  describeDevice: (device: string) => string
  Network: new (description: NetworkDescription, device: string) => NativeNetwork
  /** Zeros with the layout of `like`, but for the values given by name. */
  Vector: new (
    like: NativeNetwork | NativeVector,
    dtype: DType,
    values?: Readonly<Record<string, FloatArray>>,
  ) => NativeVector
  Rows: new (type: 'uint8' | 'float32', width: number, expectedRows?: number) => NativeRows
  LowRank: new (like: NativeVector, parameters: readonly string[], rows: number, sampled: number) => NativeLowRank
  Ridge: {
    new (features: number, outputs: number, device: string): NativeRidge
    /** An independent copy of the sums. */
    new (other: NativeRidge): NativeRidge
  }
  /** The Gaussian formulas of native/unlearn/gaussian_privacy.h: distances are Mahalanobis distances D. */
  natsOf(distance: number): number
  distanceOfNats(nats: number): number
  advantage(nats: number): number
  epsilonOf(distance: number, delta: number): number
  distanceOf(epsilon: number, delta: number): number
  deltaOf(epsilon: number, distance: number): number
  /** Rounds the selected parameters to the public grid of a noise scale; gives the grid's spacing. */
  roundToNoiseGrid(vector: NativeVector, parameters: readonly string[], scale: number): Promise<number>
  /** Adds one draw of noise on that grid and rounds to float32; `shaped` is noise drawn from a factor instead. */
  addReleaseNoise(
    vector: NativeVector,
    parameters: readonly string[],
    scale: number,
    seed?: number,
    shaped?: Float64Array,
  ): Promise<void>
  createProgram: (network: NativeNetwork, options: ProgramOptions) => Promise<NativeProgram>
  /** The network's linearization for batches of one size; the quantity is 'linearization'. */
  createLinearization: (network: NativeNetwork, options: ProgramOptions) => Promise<NativeLinearization>
  /** Bytes that createProgram would allocate for the arena. */
  plannedBytes: (network: NativeNetwork, options: ProgramOptions) => Promise<number>
}

export const addonPath = fileURLToPath(new URL('../build/Release/palimpsest.node', import.meta.url))

/** What a failed load most likely means, and the cure of it. */
function loadHints(message: string): string[] {
  const here = `${process.platform}-${process.arch}, Node ${process.versions.node}`
  if (!existsSync(addonPath)) {
    return [
      'It has not been built: install scripts may be off (npm install --ignore-scripts, or allowScripts).',
      'Build it: npm rebuild palimpsest   (in a clone: npm run build:native); needs a C++20 compiler.',
    ]
  }
  if (/libdnnl|libgomp|cannot open shared object/.test(message)) {
    return [
      'A library it was built with is missing: apt-get install libdnnl2 libgomp1 (Debian, Ubuntu),',
      'or build it again for what this machine has: npm rebuild palimpsest',
    ]
  }
  if (/GLIBC|GLIBCXX|CXXABI|musl/.test(message)) {
    return [
      'It was built on a system with a newer C or C++ library than this one.',
      'Build it on this machine or in this image: npm rebuild palimpsest',
    ]
  }
  if (/invalid ELF|wrong architecture|not a valid Win32|mach-o/i.test(message)) {
    return [
      `It was built for another platform; this is ${here}. node_modules was copied here?`,
      'Build it here: npm rebuild palimpsest',
    ]
  }
  return [`This is ${here}. Build it again: npm rebuild palimpsest`]
}

/**
 * Runs `load` with OpenMP's threads told to sleep while they wait, which libgomp reads once, when it is loaded: threads
 * that spin keep the event loop's thread, and other processes, from their cores. Who sets a policy keeps it.
 */
function withSleepingThreads<T>(load: () => T): T {
  const set = process.env.OMP_WAIT_POLICY !== undefined || process.env.GOMP_SPINCOUNT !== undefined
  if (set) return load()
  process.env.OMP_WAIT_POLICY = 'passive'
  try {
    return load()
  } finally {
    delete process.env.OMP_WAIT_POLICY
  }
}

function load(): Native {
  const require = createRequire(import.meta.url)
  let addon: Native
  try {
    addon = withSleepingThreads(() => require(addonPath) as Native)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    const lines = [`the native addon could not be loaded: ${message.split('\n')[0]}`, ...loadHints(message)]
    throw new PalimpsestError('ERR_ADDON', lines.join('\n  '), { cause })
  }
  addon.setErrorClass(PalimpsestError)
  return addon
}

let loaded: Native | undefined

/** The addon, loaded at first use. Throws ERR_ADDON with cause and cure where it cannot be. */
export function native(): Native {
  return (loaded ??= load())
}

/**
 * Half of what may still be had of a device (of the process's own memory its container's limit counts): what is held where
 * nobody says how much.
 */
export async function memoryShare(device: string): Promise<number> {
  const free = device === 'cpu' ? process.availableMemory() : (await native().memoryUse(device, false)).free
  return Math.floor(free / 2)
}

/** Memory of this process in bytes: resident now, and the most it has been. */
export function memory(): { rss: number; peak: number } {
  return { rss: process.memoryUsage.rss(), peak: process.resourceUsage().maxRSS * 1024 }
}
