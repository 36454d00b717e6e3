// What fitting by SGD reports.
import type { MnemonicRecord } from './codes.js'
import type { SgdOptions } from './options.js'

/** What was reached after an epoch. */
export interface EpochReport {
  /** From 0. */
  epoch: number
  steps: number
  /** Mean loss and share of rows that were right, each row as the weights were when its batch came. */
  loss: number
  accuracy: number
  /** After the epoch, on `evaluation`, with running statistics. */
  evaluation?: { loss: number; accuracy: number }
  seconds: number
}

/** What a call of fit() on a Model did: enough to run it again. */
export interface FitReport {
  verb: 'fit'
  /** Every option that decides the weights, defaults filled in. */
  options: SgdOptions
  /** Which codes it was shown, and how. */
  mnemonic?: MnemonicRecord
  /** Rows of the data. */
  rows: number
  /** Rows of each epoch's last batch that batch normalisation could not take: one value for a channel has no variance. */
  leftOut: number
  /** Values fitted, of how many. */
  parameters: { fitted: number; total: number }
  /** Batches done, those before a checkpoint included. */
  steps: number
  epochs: EpochReport[]
  /** Of the last epoch; NaN before the first has ended. */
  loss: number
  accuracy: number
  evaluation?: { loss: number; accuracy: number }
  /** Steps that a checkpoint brought, where one was gone on from. */
  resumedAt?: number
  device: string
  /** Instruction set, libraries and threads: the same bits again need the same. */
  deviceDescription: string
  seconds: number
  /** Of the process. */
  peakMemoryBytes: number
}
