// Iteration that an abort can end while the source is silent, and that lets other work run while it is not.
import { PalimpsestError } from '../errors.js'
import { describe } from '../options.js'
import { turn } from '../turns.js'

/** Longest time for which rows that are there at once may keep the event loop. */
const longestTurn = 10

type Source<T> = AsyncIterable<T> | Iterable<T>

/**
 * What the source gives, in order. Ends the source (`return()`) when the consumer stops; at an abort rejects with its
 * reason without waiting for a source that may never answer.
 */
export async function* interruptible<T>(source: Source<T>, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
  let began = performance.now()
  // While the source is at work: what it throws ends it by itself.
  let asked = true
  try {
    for (;;) {
      if (performance.now() - began > longestTurn) {
        await turn()
        began = performance.now()
      }
      signal?.throwIfAborted()
      const result: unknown = await unlessAborted(iterator.next(), signal)
      if (typeof result !== 'object' || result === null) {
        throw new PalimpsestError('ERR_DATA_FORMAT', `expected { done, value } of an iterator, got ${describe(result)}`)
      }
      const { done, value } = result as IteratorResult<T, undefined>
      if (done) return
      asked = false
      yield await value
      asked = true
    }
  } finally {
    if (signal?.aborted) close(iterator)
    else if (!asked) await iterator.return?.()
  }
}

/** The same, or the signal's reason as soon as it is aborted. */
async function unlessAborted<T>(pending: T | PromiseLike<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return pending
  let abort = () => {}
  try {
    return await new Promise<T>((resolve, reject) => {
      abort = () => reject(signal.reason as Error)
      signal.addEventListener('abort', abort, { once: true })
      Promise.resolve(pending).then(resolve, reject)
    })
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Tells the source that nobody wants more, without waiting for it. */
function close(iterator: Partial<AsyncIterator<unknown>> | Partial<Iterator<unknown>>): void {
  try {
    Promise.resolve(iterator.return?.()).catch(() => {})
  } catch {
    // The abort is what the caller hears of.
  }
}
