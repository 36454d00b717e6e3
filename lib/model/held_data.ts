// The data of a call: checked against the model, and held, so that what the caller does to them meanwhile changes nothing.
import { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { native, type NativeRows } from '../native.js'
import { invalid } from '../options.js'

/** Rows given as arrays. */
export interface ArrayBatch {
  /** [N, ...inputShape], ONNX order. */
  inputs: Float32Array
  /** Classes, [N]; needed by losses and the empirical Fisher diagonal. */
  labels?: Int32Array
}

/** What products run over. */
export type Data = ArrayBatch | Dataset

export interface Shape {
  inputShape: readonly number[]
  classes: number
}

/** Copies of arrays, in native memory. */
export class HeldRows {
  /** @param store - of float32, sealed */
  constructor(
    readonly store: NativeRows,
    readonly labels?: Int32Array,
  ) {}

  get size(): number {
    return this.store.size
  }

  /** Steps that are queued keep what they read. Idempotent. */
  dispose(): void {
    this.store.dispose()
  }
}

/** What a call works on until it ends. */
export type Held = HeldRows | Dataset

/**
 * The data of a call: arrays are copied before this returns, so that writing to them, transferring or resizing them
 * meanwhile changes nothing; then checked. Throws ERR_SHAPE or ERR_INVALID_ARGUMENT. Who calls it disposes of HeldRows.
 */
export function holdData(data: Data, model: Shape, needLabels: boolean): Held {
  if (data instanceof Dataset) {
    checkDataset(data, model, needLabels)
    return data
  }
  const { inputs, labels: given } = arraysOf(data)
  const width = widthOf(model)
  const rows = checkLength(inputs, width, model)
  // Arrays that were given away have no length; a copy of one would be a TypeError.
  const labels = given instanceof Int32Array && given.length > 0 ? new Int32Array(given) : given
  checkLabels(labels, rows, model, needLabels)
  const store = new (native().Rows)('float32', width, rows)
  try {
    store.append(inputs)
    store.seal()
  } catch (error) {
    store.dispose()
    throw error
  }
  return new HeldRows(store, labels)
}

/** Works on held data, and lets go of copies that were made for it. `work` is called before this returns. */
export async function withHeld<T>(
  data: Data,
  model: Shape,
  needLabels: boolean,
  work: (held: Held) => Promise<T>,
): Promise<T> {
  const held = holdData(data, model, needLabels)
  try {
    return await work(held)
  } finally {
    letGo(held)
  }
}

/** Disposes of copies; a Dataset is its owner's. */
export function letGo(held: Held): void {
  if (held instanceof HeldRows) held.dispose()
}

/** Number of rows; checks the data against the model. Throws ERR_SHAPE or ERR_INVALID_ARGUMENT. */
export function checkData(data: Data | Held, model: Shape, needLabels: boolean): number {
  if (data instanceof HeldRows) return data.size
  if (data instanceof Dataset) return checkDataset(data, model, needLabels)
  const { inputs, labels } = arraysOf(data)
  const width = widthOf(model)
  const rows = checkLength(inputs, width, model)
  for (let i = 0; i < inputs.length; i++) {
    if (!Number.isFinite(inputs[i])) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `expected finite inputs, got ${inputs[i]} in row ${Math.floor(i / width)}`,
      )
    }
  }
  checkLabels(labels, rows, model, needLabels)
  return rows
}

function checkDataset(data: Dataset, model: Shape, needLabels: boolean): number {
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

/** Each read once: a getter may give another array the next time. */
function arraysOf(data: ArrayBatch): ArrayBatch {
  const { inputs, labels } = (data ?? {}) as { inputs?: unknown; labels?: Int32Array }
  if (inputs instanceof Float32Array) return { inputs, ...(labels !== undefined && { labels }) }
  if (inputs !== undefined) throw invalid('data.inputs', 'a Float32Array', inputs)
  throw invalid('data', 'a Dataset, or { inputs: Float32Array, labels: Int32Array }', data)
}

const widthOf = ({ inputShape }: Shape): number => inputShape.reduce((a, b) => a * b, 1)

function checkLength({ length }: Float32Array, width: number, { inputShape }: Shape): number {
  if (length > 0 && length % width === 0) return length / width
  throw new PalimpsestError(
    'ERR_SHAPE',
    `expected inputs of N x ${width} values ([N, ${inputShape.join(', ')}], N at least 1), got ${length}`,
  )
}

function checkLabels(labels: unknown, rows: number, { classes }: Shape, needed: boolean): void {
  if (labels === undefined && !needed) return
  if (!(labels instanceof Int32Array) || labels.length !== rows) {
    throw invalid('labels', `an Int32Array of ${rows} classes`, labels)
  }
  const wrong = labels.findIndex((label) => label < 0 || label >= classes)
  if (wrong >= 0) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `expected labels from 0 to ${classes - 1}, got ${labels[wrong]} in row ${wrong}`,
    )
  }
}
