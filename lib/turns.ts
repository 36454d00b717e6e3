// Long work on JavaScript's thread by pieces, with the event loop's other work in between.

/** Values of which a pass takes well below a millisecond. */
const piece = 1 << 16

/** Lets other work of the event loop have its turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Visits the ranges [from, to), in order, that make up `count` values; other work has its turn after each. */
export async function inTurns(count: number, visit: (from: number, to: number) => void): Promise<void> {
  for (let from = 0; from < count; from += piece) {
    visit(from, Math.min(from + piece, count))
    await turn()
  }
}
