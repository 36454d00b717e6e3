// The average of what several clients trained, weighted by their rows; transport is the caller's.
import { PalimpsestError } from '../errors.js'
import type { TensorMap } from '../network.js'
import { invalid, is } from '../options.js'
import { readSafetensors, writeSafetensors } from '../safetensors.js'

/** What a client sends after training. */
export interface FederatedUpdate {
  /** The file that `model.save` wrote. */
  weights: Uint8Array
  /** How many rows it trained on, 1 or more. */
  rows: number
}

/**
 * Federated averaging (McMahan et al. 2017, algorithm 1): each weight and running statistic is the mean over the clients,
 * weighted by their rows, summed in float64 in the list's order. The result is a file that `model.loadWeights` reads.
 *
 * Errors: ERR_INVALID_ARGUMENT for an empty list, rows that are no whole number of at least 1, or networks that differ;
 * ERR_MODEL_FORMAT for files that are not safetensors, or hold values that are not finite.
 */
export function federatedAverage(updates: readonly FederatedUpdate[]): Uint8Array {
  if (!Array.isArray(updates) || updates.length === 0) throw invalid('updates', 'a list of one or more', updates)
  const read = (updates as readonly FederatedUpdate[]).map((update, i) => readUpdate(update, `updates[${i}]`))
  const [first] = read
  const total = read.reduce((sum, { rows }) => sum + rows, 0)
  read.forEach((each, i) => checkSame(each, first, `updates[${i}]`))
  const averaged: TensorMap = new Map()
  for (const [name, { shape, data }] of first.tensors) {
    const sums = new Float64Array(data.length)
    for (const { tensors, rows } of read) {
      const values = (tensors.get(name) as { data: Float32Array }).data
      for (let i = 0; i < sums.length; i++) sums[i] += rows * values[i]
    }
    averaged.set(name, { shape, data: Float32Array.from(sums, (sum) => sum / total) })
  }
  return writeSafetensors(averaged, first.metadata)
}

interface ReadUpdate {
  tensors: TensorMap
  metadata: Record<string, string>
  rows: number
}

function readUpdate(update: FederatedUpdate, name: string): ReadUpdate {
  if (!is.plainObject(update) || !(update.weights instanceof Uint8Array)) {
    throw invalid(name, 'an object with weights (a Uint8Array) and rows', update)
  }
  const { rows, weights } = update
  if (!is.integer(rows) || rows < 1) throw invalid(`${name}.rows`, 'a whole number of at least 1', rows)
  const { tensors, metadata } = readSafetensors(weights)
  for (const [key, { data }] of tensors) {
    if (data.every(Number.isFinite)) continue
    throw new PalimpsestError('ERR_MODEL_FORMAT', `expected finite values in '${key}' of ${name}`)
  }
  return { tensors, metadata, rows }
}

function checkSame(update: ReadUpdate, first: ReadUpdate, name: string): void {
  const keys = ({ tensors, metadata }: ReadUpdate) =>
    JSON.stringify([[...tensors].map(([key, { shape }]) => [key, shape]).toSorted(), metadata.history ?? ''])
  if (keys(update) === keys(first)) return
  throw invalid(name, "weights of the same names, shapes and history as the first client's", update.tensors)
}
