// Options of estimate(), checked.
import type { FisherOptions } from '../model/fisher.js'
import type { DType } from '../native.js'
import type { PassOptions, Progress } from '../model/passes.js'
import type { LossOptions } from '../model/products.js'
import { abortSignal, callback, check, integer, invalid, is, oneOf, optional, readOptions } from '../options.js'

export interface EstimateOptions
  extends PassOptions, Pick<LossOptions, 'parameters' | 'loss' | 'batchSize'>, Pick<FisherOptions, 'type' | 'samples'> {
  /** A product of a Model, or 'fitStep': one step of fit() on a batch of `rows`. */
  quantity: 'evaluate' | 'jvp' | 'vjp' | 'gradient' | 'ggnProduct' | 'hessianProduct' | 'fisherDiagonal' | 'fitStep'
  /** 'float32' (default), 'float64', or 'tf32', as of products; steps of fit() are float32. */
  precision?: DType | 'tf32'
  /** N, rows of the data (default `batchSize`). */
  rows?: number
  /** Of a 'fitStep': as in fit(), by default 'training', but 'evaluation' where `parameters` are chosen. */
  batchNorm?: 'training' | 'evaluation'
}

const most = 2 ** 31 - 1

const table = {
  quantity: oneOf('evaluate', 'jvp', 'vjp', 'gradient', 'ggnProduct', 'hessianProduct', 'fisherDiagonal', 'fitStep'),
  rows: optional(integer({ min: 1, max: most })),
  batchSize: optional(integer({ min: 1, max: most })),
  precision: optional(oneOf('float32', 'tf32', 'float64')),
  parameters: optional(
    check(
      'a list of one parameter name or more',
      (v): v is readonly string[] => Array.isArray(v) && v.length > 0 && v.every(is.string),
    ),
  ),
  loss: optional(oneOf('crossEntropy', 'squaredError')),
  type: optional(oneOf('empirical', 'exact', 'mc')),
  samples: optional(integer({ min: 1 })),
  batchNorm: optional(oneOf('training', 'evaluation')),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: Progress) => void>()),
}

/** Which quantities know an option; the others would leave it unheard. */
const concerns: readonly (readonly [keyof EstimateOptions, readonly EstimateOptions['quantity'][]])[] = [
  ['type', ['fisherDiagonal']],
  ['samples', ['fisherDiagonal']],
  ['batchNorm', ['fitStep']],
  ['loss', ['gradient', 'ggnProduct', 'hessianProduct', 'fitStep']],
]

export function readEstimateOptions(given: EstimateOptions): EstimateOptions & { rows: number } {
  const read = readOptions(given, table, 'estimate()')
  const rows = read.rows ?? read.batchSize
  if (rows === undefined) throw invalid('rows', 'a whole number of at least 1 (or a batchSize)', undefined)
  for (const [option, quantities] of concerns) {
    if (read[option] === undefined || quantities.includes(read.quantity)) continue
    throw invalid(option, `nothing where the quantity is '${read.quantity}'`, read[option])
  }
  if (read.quantity === 'fitStep' && (read.precision ?? 'float32') !== 'float32') {
    throw invalid('precision', "'float32', in which models are fitted,", read.precision)
  }
  const known = Object.fromEntries(Object.entries(read).filter(([, value]) => value !== undefined))
  return { ...(known as unknown as EstimateOptions), rows }
}
