// Passes over data: cut into fixed micro-batches that run on the native thread.
import { Dataset } from '../dataset.js'
import type { RowRange, RowSource } from '../native.js'
import { describe, invalid, is } from '../options.js'
import type { Held } from './held_data.js'

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
  inputs: RowRange | RowSource
  labels?: Int32Array
}

/** The micro-batches of a pass, in order. */
export function* slices(data: Held, size: number): Generator<Slice, void, undefined> {
  if (data instanceof Dataset) {
    let start = 0
    for (const batch of data.batches({ size })) {
      yield { rows: batch.rows, start, inputs: batch.inputs, labels: batch.labels }
      start += batch.rows
    }
    return
  }
  const { store, labels } = data
  for (let start = 0; start < data.size; start += size) {
    const end = Math.min(start + size, data.size)
    yield {
      rows: end - start,
      start,
      inputs: { store, first: start },
      ...(labels && { labels: labels.subarray(start, end) }),
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
      const begun = step(item)
      // Where it fails while an earlier one is awaited: it is heard below.
      begun.catch(() => undefined)
      inFlight.push(begun)
      if (inFlight.length > 2) await finish()
    }
    while (inFlight.length > 0) await finish()
    checkSignal(options.signal)
  } catch (error) {
    await Promise.allSettled(inFlight)
    throw error
  }
}
