// The rows of a shard as a job's folder holds them: inputs as they came, labels, slices and the words of their keys.
import { TableBuilder } from '../data/table.js'
import { Dataset } from '../dataset.js'
import { readTypedSafetensors, writeSafetensors, type TypedTensor } from '../safetensors.js'
import { turn } from '../turns.js'
import { keyWords, type PlacedRow } from './rows.js'

/** Rows of a job, in canonical order. */
export interface JobRows {
  data: Dataset
  /** Slice of each row, from 1. */
  slices: Int32Array
  words: Uint32Array[]
}

/** Rows that are written before other work of the event loop has its turn. */
const rowsPerTurn = 500

/** @param slices - rows of each slice, as they lie in `data` */
export async function writeRows(data: Dataset, slices: readonly (readonly PlacedRow[])[]): Promise<Uint8Array> {
  const { rows: store, labels, gather } = data.table
  const all = slices.flatMap((rows, i) => rows.map((row) => ({ row, slice: i + 1 })))
  const bytes = new Uint8Array(all.length * store.width * (store.type === 'uint8' ? 1 : 4))
  const words = new Int32Array(4 * all.length)
  let at = 0
  for (const [i, { row }] of all.entries()) {
    at += store.copyRow(data.storeRows[row.position], bytes.subarray(at))
    words.set(keyWords(row.key), 4 * i)
    if (i % rowsPerTurn === rowsPerTurn - 1) await turn()
  }
  const inputs = store.type === 'uint8' ? bytes : new Float32Array(bytes.buffer)
  const list = (values: Int32Array | Float32Array): TypedTensor => ({ shape: [values.length], data: values })
  const tensors = new Map<string, TypedTensor>([
    ['inputs', { shape: [all.length, ...data.shape], data: inputs }],
    ['labels', list(Int32Array.from(all, ({ row }) => labels[data.storeRows[row.position]]))],
    ['slices', list(Int32Array.from(all, ({ slice }) => slice))],
    ['words', { shape: [all.length, 4], data: words }],
    ['scale', list(gather.scale)],
    ['shift', list(gather.shift)],
  ])
  return writeSafetensors(tensors, { classes: String(data.classes) })
}

export function readRows(bytes: Uint8Array): JobRows {
  const { tensors, metadata } = readTypedSafetensors(bytes)
  const tensor = (name: string) => tensors.get(name) as TypedTensor
  const { shape, data: inputs } = tensor('inputs')
  const type = inputs instanceof Uint8Array ? 'uint8' : 'float32'
  const builder = new TableBuilder(type, { shape: shape.slice(1), classes: Number(metadata.classes) }, shape[0])
  builder.addLabels(tensor('labels').data, 'ERR_DATA_FORMAT')
  builder.addValues(inputs as Float32Array, 'ERR_DATA_FORMAT')
  const table = builder.finish({})
  const [scale, shift] = ['scale', 'shift'].map((name) => tensor(name).data as Float32Array)
  const words = Uint32Array.from(tensor('words').data as Int32Array)
  return {
    // The very numbers that the rows were normalised by: made anew from mean and deviation they could round otherwise.
    data: Dataset.fromTable({ ...table, gather: { ...table.gather, scale, shift } }),
    slices: tensor('slices').data as Int32Array,
    words: Array.from({ length: shape[0] }, (_, i) => words.subarray(4 * i, 4 * i + 4)),
  }
}
