// What a method of scrub() is: its options, and a run on a copy of the model; lib/scrub.ts does what all have in common.
import type { Bound } from '../bound.js'
import type { Model } from '../model.js'
import type { PassOptions, Progress } from '../model/passes.js'
import type { OptionsOf, OptionTable } from '../options.js'

/** Options that every method takes. */
export interface CommonScrubOptions {
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
}

/** What every method reports. */
export interface CommonScrubReport {
  verb: 'scrub'
  method: string
  /** Every option, defaults filled in; of datasets their rows alone. */
  options: Record<string, unknown>
  /** `certified: false`: no method of scrub() has a certificate. */
  bound: Bound
  /** Examples that went through the network, forwards or both ways: the cost that does not depend on the machine. */
  sampleVisits: number
  seconds: number
  peakMemoryBytes: number
  device: string
  deviceDescription: string
}

/** What a run of a method works with. */
export interface ScrubRun {
  /** The caller's model: to be read, not to be changed. */
  readonly model: Model
  /** A copy of it that the method changes; it takes the model's place at the end. */
  readonly work: Model
  /** Of passes within the run. */
  readonly passes: PassOptions
}

/** What a run of a method gives. */
export interface ScrubOutcome<R> {
  /** Where the method built another network: it takes the model's place instead of `work`. */
  scrubbed?: Model
  sampleVisits: number
  /** Options that were chosen in the run, for the report. */
  chosen?: Record<string, unknown>
  /** What this method reports beside the common fields. */
  details: R
}

export interface ScrubMethod<O extends OptionTable = OptionTable, R = object> {
  /** Its options beside `method`, `signal` and `onProgress`. */
  readonly table: O
  /** What can be checked before anything is copied or computed; throws coded errors. */
  check?(model: Model, options: OptionsOf<O>): void
  /** Changes `work` (or builds another network); where it throws, the model stays as it was. */
  run(run: ScrubRun, options: OptionsOf<O>): Promise<ScrubOutcome<R>>
}

/** What is known of a model that a method scrubbed, and why that is no certificate; for bound(). */
export interface ScrubStatement {
  known: string
  why: string
}
