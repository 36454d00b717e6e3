// Passes over data: a batch in arrays or a Dataset, cut into fixed micro-batches that run on the native thread.
import { Dataset } from '../dataset.js'
import type { FloatArray, RowSource } from '../native.js'
import { describe, invalid, is } from '../options.js'
import { PalimpsestError } from '../errors.js'

/** Rows given as arrays. */
export interface ArrayBatch {
  /** [N, ...inputShape], ONNX order. */
  inputs: Float32Array
  /** Classes, [N]; needed by losses and the empirical Fisher diagonal. */
  labels?: Int32Array
}

/** What products run over. */
export type Data = ArrayBatch | Dataset

/** Options of every long call. */
export interface PassOptions {
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
}

export interface Progress {
  /** What is being done, e.g. 'gradient'. */
  phase: string
  /** Rows (or steps) done, of how many. */
  done: number
  total: number
  /** Where a solver runs: its current relative residual. */
  residual?: number
}

/** One micro-batch of a pass. */
export interface Slice {
  /** Valid rows. */
  rows: number
  /** First row within the data. */
  start: number
  inputs: FloatArray | RowSource
  labels?: Int32Array
}

export interface Shape {
  inputShape: readonly number[]
  classes: number
}

/** Arrays that the call owns, checked when they were copied. */
class HeldBatch implements ArrayBatch {
  constructor(
    readonly inputs: Float32Array,
    readonly rows: number,
    readonly labels?: Int32Array,
  ) {}
}

/**
 * The data of a call: arrays are copied before the call returns, so that writing to them, transferring or resizing them
 * meanwhile changes nothing; then checked. Throws ERR_SHAPE or ERR_INVALID_ARGUMENT.
 */
export function holdData(data: Data, model: Shape, needLabels: boolean): Data {
  if (data instanceof Dataset || !(data?.inputs instanceof Float32Array)) {
    checkData(data, model, needLabels)
    return data
  }
  // Arrays that were given away have no length; their copies would be TypeErrors.
  const { inputs: given, labels: classes } = data
  const inputs = given.length > 0 ? new Float32Array(given) : given
  const labels = classes instanceof Int32Array && classes.length > 0 ? new Int32Array(classes) : classes
  const rows = checkData({ inputs, ...(labels !== undefined && { labels }) }, model, needLabels)
  return new HeldBatch(inputs, rows, labels)
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** Number of rows; checks the data against the model. Throws ERR_SHAPE or ERR_INVALID_ARGUMENT. */
export function checkData(data: Data, model: Shape, needLabels: boolean): number {
  if (data instanceof HeldBatch) return data.rows
  if (data instanceof Dataset) {
    const rows = data.table && data.size
    if (data.shape.join() !== model.inputShape.join()) {
      throw new PalimpsestError(
        'ERR_SHAPE',
        `expected rows of shape [${model.inputShape.join(', ')}] for this model, got [${data.shape.join(', ')}]`,
      )
    }
    if (needLabels && data.classes > model.classes) {
      throw new PalimpsestError(
        'ERR_SHAPE',
        `expected at most ${model.classes} classes for this model, got a dataset of ${data.classes}`,
      )
    }
    if (rows === 0)
      throw new PalimpsestError('ERR_INVALID_ARGUMENT', "expected a dataset of one row or more for 'data', got none")
    return rows
  }
  if (data === null || typeof data !== 'object' || !(data.inputs instanceof Float32Array)) {
    const inputs: unknown = (data as Partial<ArrayBatch> | null | undefined)?.inputs
    if (inputs !== undefined) throw invalid('data.inputs', 'a Float32Array', inputs)
    throw invalid('data', 'a Dataset, or { inputs: Float32Array, labels: Int32Array }', data)
  }
  const width = product(model.inputShape)
  const { inputs, labels } = data
  if (inputs.length === 0 || inputs.length % width !== 0) {
    throw new PalimpsestError(
      'ERR_SHAPE',
      `expected inputs of N x ${width} values ([N, ${model.inputShape.join(', ')}], N at least 1), got ${inputs.length}`,
    )
  }
  const rows = inputs.length / width
  for (let i = 0; i < inputs.length; i++) {
    if (!Number.isFinite(inputs[i])) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `expected finite inputs, got ${inputs[i]} in row ${Math.floor(i / width)}`,
      )
    }
  }
  if (labels === undefined && !needLabels) return rows
  if (!(labels instanceof Int32Array) || labels.length !== rows) {
    throw invalid('labels', `an Int32Array of ${rows} classes`, labels)
  }
  const wrong = labels.findIndex((label) => label < 0 || label >= model.classes)
  if (wrong >= 0) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected labels from 0 to ${model.classes - 1}, got ${labels[wrong]} in row ${wrong}`,
    )
  }
  return rows
}

/** The micro-batches of a pass, in order. Arrays are views of what the caller gave. */
export function* slices(data: Data, width: number, size: number): Generator<Slice, void, undefined> {
  if (data instanceof Dataset) {
    let start = 0
    for (const batch of data.batches({ size })) {
      yield { rows: batch.rows, start, inputs: batch.inputs, labels: batch.labels }
      start += batch.rows
    }
    return
  }
  const rows = data.inputs.length / width
  for (let start = 0; start < rows; start += size) {
    const end = Math.min(start + size, rows)
    yield {
      rows: end - start,
      start,
      inputs: data.inputs.subarray(start * width, end * width),
      labels: data.labels?.subarray(start, end),
    }
  }
}

/** Throws what the signal was aborted with. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}

export function checkPassOptions(options: PassOptions): void {
  const { signal, onProgress } = options
  if (signal !== undefined && !is.abortSignal(signal)) throw invalid('signal', 'an AbortSignal', describe(signal))
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw invalid('onProgress', 'a function', onProgress)
  checkSignal(signal)
}

/**
 * Runs a step for each item with two in flight, so that the native thread never waits for this one. On abort or error it
 * waits until every step that was queued has let go of its buffers, then throws.
 */
export async function runSteps<T>(
  items: Iterable<T>,
  step: (item: T) => Promise<number>,
  total: number,
  phase: string,
  options: PassOptions,
): Promise<void> {
  const inFlight: Promise<number>[] = []
  let done = 0
  const finish = async (): Promise<void> => {
    done += await (inFlight.shift() as Promise<number>)
    options.onProgress?.({ phase, done, total })
  }
  try {
    for (const item of items) {
      checkSignal(options.signal)
      inFlight.push(step(item))
      if (inFlight.length > 2) await finish()
    }
    while (inFlight.length > 0) await finish()
    checkSignal(options.signal)
  } catch (error) {
    await Promise.allSettled(inFlight)
    throw error
  }
}
