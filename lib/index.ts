// The package's public names.
export { configure, settings, type ConfigureOptions, type DeviceSettings } from './configure.js'
export { estimate, type Estimate, type EstimateOptions } from './estimate.js'
export { PalimpsestError, errorCodes, type ErrorCode } from './errors.js'
export { Model, type HistoryEntry, type LoadOptions, type ModelOptions, type NetworkSource } from './model.js'
export type { ArrayBatch, Data } from './model/held_data.js'
export type { PassOptions, Progress } from './model/passes.js'
export type { Linearization, LinearizedLossOptions, LinearizeOptions } from './model/linearization.js'
export type { FisherOptions } from './model/fisher.js'
export type { LossOptions, ProductOptions } from './model/products.js'
export { ParameterVector } from './vector.js'
export { Dataset, type ArrayOptions, type RowKeys } from './dataset.js'
export type { RowFilter, RowInfo, RowSelection } from './data/select.js'
export { TangentModel, type TangentOptions } from './tangent.js'
export type { TangentFitOptions, TangentFitReport } from './tangent/fit.js'
export type { SolveMemory } from './tangent/quadratic.js'
export type { HeldReport } from './model/linearized_batches.js'
export type { Guarantee, Release } from './tangent/ledger.js'
export { MnemonicCodes, type CodeDistribution, type CodeOptions } from './codes.js'
export { fit } from './fit.js'
export type { MnemonicFitOptions, MnemonicRecord } from './fit/codes.js'
export type { FitOptions, FitReport } from './fit/sgd.js'
export * as networks from './networks/index.js'
export { forget, forgetAll, type ForgetOptions, type ForgetReport, type Target } from './forget.js'
export { scrub, type ScrubOptions, type ScrubReport } from './scrub.js'
export type { FineTuneOptions, FineTuneReport } from './scrub/fine_tune.js'
export type { MnemonicOptions, MnemonicReport } from './scrub/mnemonic.js'
export type { DampeningOptions, DampeningReport } from './scrub/dampening.js'
export type { FisherNoiseOptions, FisherNoiseReport } from './scrub/fisher_noise.js'
export type { GradientAscentOptions, GradientAscentReport } from './scrub/gradient_ascent.js'
export type { RetrainOptions, RetrainReport } from './scrub/retrain.js'
export { audit, type AuditOptions, type AuditReport, type Finding, type Readouts, type Verdict } from './audit.js'
export type { Membership } from './audit/membership.js'
export type { ClassReadout, OutputDistances, SetReadout } from './audit/readouts.js'
export type { Relearn, RelearnOptions } from './audit/relearn.js'
export type { PrunedLayer, PruneCost, PruneOptions, PruneReport } from './scrub/prune.js'
export {
  channelStatistics,
  mergeStatistics,
  type ChannelStatistics,
  type ChannelStatisticsOptions,
  type LayerStatistics,
  type ResponsePoint,
} from './scrub/channel_statistics.js'
export type { DisposeLook, DisposeOptions, DisposeReport } from './scrub/dispose.js'
export {
  piggyback,
  type PiggybackBudget,
  type PiggybackOptions,
  type PiggybackReport,
  type PiggybackResult,
} from './piggyback.js'
export {
  gradientCollision,
  type CollisionForm,
  type CollisionOptions,
  type GradientCollision,
} from './scrub/gradient_collision.js'
export { federatedAverage, type FederatedUpdate } from './scrub/federated.js'
export { plan, type ArmOptions, type ArmPlan, type Plan } from './forget/plan.js'
export { fitLogged, type FitLoggedOptions } from './fit/logged.js'
export { fitSharded, type FitShardedOptions, type FitShardedReport } from './fit/sharded.js'
export { TrainingRecord, type RecordTrainOptions, type RowPlace } from './record.js'
export type { CheckpointRef, Environment, FileRef, LedgerEntry } from './record/format.js'
export type { FitSettings } from './record/settings.js'
export { resumeRecord, type RecordForgetOptions, type RecordForgetReport } from './forget/record.js'
export { Ensemble, type AggregateOptions } from './ensemble.js'
export { processPool, type ProcessPoolOptions } from './jobs/process_pool.js'
export { bullmqRunner, type BullmqOptions, type BullmqRunnerOptions } from './jobs/bullmq.js'
export { bullmqWorker, type BullmqWorkerOptions } from './jobs/bullmq_worker.js'
export type { Job, JobResult, JobRunner, Pins, RunOptions } from './jobs/job.js'
export { bound, type Assumption, type Bound, type Measured } from './bound.js'
export type { DType, FloatArray, Loss, Rates } from './native.js'
export type { NetworkDescription, TensorMap } from './network.js'
export { devices, type DeviceInfo, type DeviceLibrary } from './devices.js'
