// What the demo prints: a progress bar a step on a terminal, plain lines elsewhere, and tables.
import { SingleBar } from 'cli-progress'
import Table from 'cli-table3'
import type { Progress } from '../../lib/index.js'

const terminal = process.stdout.isTTY === true
const started = performance.now()

export const seconds = (since = started): number => (performance.now() - since) / 1000

/** A running step: hand `onProgress` to the verb. */
export interface Step {
  onProgress: (progress: Progress) => void
}

/** Runs a step under a bar; `tell` says in a line what came of it. */
export async function step<T>(
  title: string,
  work: (step: Step) => Promise<T>,
  tell: (result: T) => string,
): Promise<T> {
  const bar = terminal ? makeBar(title) : undefined
  if (bar === undefined) console.log(`${title} ...`)
  else bar.start(1, 0, { note: '' })
  const from = performance.now()
  const onProgress = ({ phase, done, total, residual }: Progress) => {
    if (residual !== undefined) bar?.update({ note: `iteration ${done}, residual ${residual.toExponential(1)}` })
    else {
      bar?.setTotal(total)
      bar?.update(done, { note: phase })
    }
  }
  try {
    const result = await work({ onProgress })
    bar?.stop()
    console.log(`${terminal ? title : ' '} ${tell(result)} (${seconds(from).toFixed(1)} s)`)
    return result
  } catch (error) {
    bar?.stop()
    throw error
  }
}

function makeBar(title: string): SingleBar {
  return new SingleBar({
    format: `${title} {bar} {note}`,
    barsize: 24,
    clearOnComplete: true,
    hideCursor: true,
    stopOnComplete: false,
  })
}

export const line = (text = ''): void => console.log(text)

/** A table with a head; the first column is to the left, numbers to the right. */
export function table(head: string[], rows: readonly (readonly string[])[]): void {
  const made = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
  })
  for (const row of rows) made.push([...row])
  console.log(made.toString())
}

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
