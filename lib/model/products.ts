// The products over a batch or a dataset: loops over micro-batches; native programs do the arithmetic.
import { oneHot } from '../data/targets.js'
import {
  native,
  type DType,
  type FloatArray,
  type Loss,
  type NativeNetwork,
  type NativeVector,
  type ProgramInputs,
  type ProgramOptions,
  type Quantity,
} from '../native.js'
import { PalimpsestError } from '../errors.js'
import { oneOf } from '../options.js'
import { checkData, type Held, type Shape } from './held_data.js'
import { checkPassOptions, runSteps, slices, type PassOptions, type Slice } from './passes.js'
import type { Programs } from './programs.js'

/** What products need of a model. */
export interface Engine extends Shape {
  network: NativeNetwork
  programs: Programs
  /** The weights in that type. */
  weights(dtype: DType): Promise<NativeVector>
  /** Throws where the weights are not those of its first call; products of several micro-batches or passes are then mixed. */
  steady?(): void
}

export interface ProductOptions extends PassOptions {
  /**
   * 'float32' (default), 'float64', or 'tf32': float32 whose products may round their factors to 10 bits of mantissa
   * where the GPU is quicker so; elsewhere it is 'float32'.
   */
  precision?: DType | 'tf32'
  /** Names of the parameters that are differentiated; all where left out. */
  parameters?: readonly string[]
  /**
   * Rows that are computed at once, at least 1 (2 for Fisher diagonals). Left out: all of them up to 256 (a GPU: 1,024), or
   * the largest power of two whose plan stays under 256 MiB (2 GiB). Results of different batch sizes differ by rounding.
   */
  batchSize?: number
}

export interface LossOptions extends ProductOptions {
  /** 'crossEntropy' (default): -log softmax(f)_y. 'squaredError': 1/2 |f - target|^2. */
  loss?: Loss
  /** Target of the right class under 'squaredError' (default 1). */
  targetScale?: number
  /** Label smoothing s under 'crossEntropy', 0 (default) to 1. */
  labelSmoothing?: number
}

/** How a pass runs: which program, what its rows get, what comes back. */
export interface Pass {
  phase: string
  program: Omit<ProgramOptions, 'batch'>
  data: Held
  options: PassOptions & Pick<ProductOptions, 'batchSize'>
  needLabels: boolean
  least?: number
  /** Rows of a micro-batch however few the data have, unless so many do not fit in memory. */
  batch?: number
  /** Inputs besides rows and weights; the arrays are copied by the native call before it returns. */
  inputs(slice: Slice): Partial<ProgramInputs>
  tangents?: NativeVector
  sums?: NativeVector
  /** Every micro-batch overwrites `sums` instead of adding to them. */
  fresh?: boolean
  /** Right after a micro-batch was queued: to queue what must follow it. */
  queued?(slice: Slice): void
  /** Takes the plain outputs of a slice. */
  collect?(outputs: FloatArray[], slice: Slice): void
}

/** Runs a pass; sums are overwritten by the first micro-batch and added to by the others. Returns the number of rows. */
export async function runPass(engine: Engine, pass: Pass): Promise<number> {
  checkPassOptions(pass.options)
  const rows = checkData(pass.data, engine, pass.needLabels)
  const size = await engine.programs.batchSize(pass.program, pass.batch ?? rows, pass.least, pass.options.batchSize)
  using lease = await engine.programs.lease({ ...pass.program, batch: size })
  const parameters = await engine.weights(pass.program.dtype ?? 'float32')
  const step = async (slice: Slice): Promise<number> => {
    engine.steady?.()
    const running = lease.program.run({
      rows: slice.rows,
      inputs: slice.inputs,
      parameters,
      ...pass.inputs(slice),
      ...(pass.tangents && { tangents: pass.tangents }),
      ...(pass.sums && { sums: pass.sums, accumulate: !pass.fresh && slice.start > 0 }),
      outputs: pass.collect !== undefined,
    })
    pass.queued?.(slice)
    const outputs = await running
    pass.collect?.(outputs, slice)
    return slice.rows
  }
  await runSteps(slices(pass.data, size), step, rows, pass.phase, pass.options)
  return rows
}

export function dtypeOf(options: ProductOptions): DType {
  const { precision } = options
  if (precision === undefined) return 'float32'
  return oneOf('float32', 'tf32', 'float64').read(precision, 'precision') === 'float64' ? 'float64' : 'float32'
}

export function programOf(quantity: Quantity, options: LossOptions): Omit<ProgramOptions, 'batch'> {
  const { loss, parameters } = options
  if (loss !== undefined) oneOf('crossEntropy', 'squaredError').read(loss, 'loss')
  const tf32 = options.precision === 'tf32'
  return {
    quantity,
    dtype: dtypeOf(options),
    ...(tf32 && { tf32 }),
    ...(loss && { loss }),
    ...(parameters && { parameters }),
  }
}

/** Targets of a slice under the loss, into `target` where one is given. */
export function targetsOf(
  engine: Shape,
  options: LossOptions,
  slice: Pick<Slice, 'labels'>,
  target?: Float32Array,
): Float32Array {
  const { loss = 'crossEntropy', targetScale = 1, labelSmoothing = 0 } = options
  const how = loss === 'crossEntropy' ? { smoothing: labelSmoothing } : { scale: targetScale }
  return oneHot(slice.labels as Int32Array, engine.classes, how, target)
}

/** The same slice after slice, always in one array: native calls copy it before they return. */
export function targetSource(engine: Shape, options: LossOptions): (slice: Slice) => Float32Array {
  let targets = new Float32Array(0)
  return (slice) => {
    const size = slice.rows * engine.classes
    if (targets.length < size) targets = new Float32Array(size)
    return targetsOf(engine, options, slice, targets)
  }
}

/** A pass whose row outputs (of width K each) are put together into [N, K] arrays, one an output. */
export async function rowsPass(
  engine: Engine,
  pass: Omit<Pass, 'collect'>,
  outputs: number,
  width = engine.classes,
): Promise<FloatArray[]> {
  const rows = checkData(pass.data, engine, pass.needLabels)
  const ArrayType = pass.program.dtype === 'float64' ? Float64Array : Float32Array
  const whole = Array.from({ length: outputs }, () => new ArrayType(rows * width))
  await runPass(engine, {
    ...pass,
    collect: (parts, slice) => whole.forEach((to, i) => to.set(parts[i], slice.start * width)),
  })
  whole.forEach((values) => {
    const wrong = values.findIndex((value) => !Number.isFinite(value))
    if (wrong >= 0) throw overflow(pass.phase, values[wrong], `row ${Math.floor(wrong / width)}`)
  })
  return whole
}

/** What could not be computed is refused, never returned as NaN. */
export function overflow(what: string, value: number, where: string): PalimpsestError {
  return new PalimpsestError(
    'ERR_INVALID_ARGUMENT',
    `expected inputs and weights whose ${what} is finite, got ${value} in ${where}`,
  )
}

function newSums(engine: Engine, dtype: DType): NativeVector {
  return new (native().Vector)(engine.network, dtype)
}

/** Disposes the vector where the work fails. */
export async function intoSums(
  engine: Engine,
  dtype: DType,
  work: (sums: NativeVector) => Promise<unknown>,
): Promise<NativeVector> {
  const sums = newSums(engine, dtype)
  try {
    await work(sums)
    const square = await sums.dot(sums)
    if (!Number.isFinite(square)) throw overflow('product', square, 'its sum of squares')
    return sums
  } catch (error) {
    sums.dispose()
    throw error
  }
}

export async function evaluate(engine: Engine, data: Held, options: ProductOptions): Promise<FloatArray> {
  const program = programOf('evaluate', options)
  const pass = { phase: 'evaluate', program, data, options, needLabels: false, inputs: () => ({}) }
  return (await rowsPass(engine, pass, 1))[0]
}

export async function jvp(
  engine: Engine,
  data: Held,
  tangents: NativeVector,
  options: ProductOptions,
): Promise<FloatArray> {
  const program = programOf('jvp', options)
  const pass = { phase: 'jvp', program, data, options, needLabels: false, inputs: () => ({}), tangents }
  return (await rowsPass(engine, pass, 1))[0]
}

/** J^T u summed over the rows. */
export async function vjp(
  engine: Engine,
  data: Held,
  cotangents: FloatArray,
  options: ProductOptions,
): Promise<NativeVector> {
  const program = programOf('vjp', options)
  const k = engine.classes
  const inputs = (slice: Slice) => ({
    cotangents: cotangents.subarray(slice.start * k, (slice.start + slice.rows) * k),
  })
  return intoSums(engine, dtypeOf(options), (sums) =>
    runPass(engine, { phase: 'vjp', program, data, options, needLabels: false, inputs, sums }),
  )
}

/** A mean over the rows of a loss quantity that sums into a vector. */
export async function lossProduct(
  engine: Engine,
  quantity: 'gradient' | 'ggnProduct' | 'hessianProduct',
  data: Held,
  tangents: NativeVector | undefined,
  options: LossOptions,
): Promise<NativeVector> {
  const program = programOf(quantity, { loss: 'crossEntropy', ...options })
  const needLabels = quantity !== 'ggnProduct'
  const rows = checkData(data, engine, needLabels)
  const targets = targetSource(engine, options)
  const inputs = (slice: Slice) => ({ weights: 1 / rows, ...(needLabels && { targets: targets(slice) }) })
  return intoSums(engine, dtypeOf(options), (sums) =>
    runPass(engine, {
      phase: quantity,
      program,
      data,
      options,
      needLabels,
      inputs,
      sums,
      ...(tangents && { tangents }),
    }),
  )
}

/** Mean loss and share of rows whose largest logit is the label's. */
export async function measureLoss(
  engine: Engine,
  data: Held,
  options: LossOptions,
): Promise<{ loss: number; accuracy: number }> {
  const program = programOf('loss', { loss: 'crossEntropy', ...options })
  const k = engine.classes
  const targets = targetSource(engine, options)
  let loss = 0
  let right = 0
  const rows = await runPass(engine, {
    phase: 'loss',
    program,
    data,
    options,
    needLabels: true,
    inputs: (slice) => ({ weights: 1, targets: targets(slice) }),
    collect: ([logits, losses], slice) => {
      for (let i = 0; i < slice.rows; i++) {
        loss += losses[i]
        right += Number(largest(logits, i * k, k) === (slice.labels as Int32Array)[i])
      }
    },
  })
  return { loss: loss / rows, accuracy: right / rows }
}

/** Position of the largest of k values from `start`; the first of equals. */
export function largest(values: FloatArray, start: number, k: number): number {
  let best = 0
  for (let j = 1; j < k; j++) if (values[start + j] > values[start + best]) best = j
  return best
}
