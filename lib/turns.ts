// Long work on JavaScript's thread by pieces, with the event loop's other work in between.

/** Values of which a pass takes some milliseconds at most. */
const piece = 1 << 16

/** Lets other work of the event loop have its turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * Visits the ranges [from, to), in order, that make up `count` items; other work has its turn after each.
 *
 * @param width - values of an item
 */
export async function inTurns(count: number, visit: (from: number, to: number) => void, width = 1): Promise<void> {
  const items = Math.max(1, Math.floor(piece / width))
  for (let from = 0; from < count; from += items) {
    visit(from, Math.min(from + items, count))
    await turn()
  }
}
