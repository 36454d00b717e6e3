// A shard's job in its worker: slice after slice, a checkpoint each, going on from what an earlier try has finished.
import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Dataset } from '../dataset.js'
import { PalimpsestError } from '../errors.js'
import { readFitOptions } from '../fit/options.js'
import { SgdRun, type RunSeries } from '../fit/run.js'
import { Model } from '../model.js'
import { readBytes, writeFileAtomically } from '../model/files.js'
import { checkSignal } from '../model/passes.js'
import { seal, sha256, unseal, type CheckpointRef, type FileRef, type LogRef } from '../record/format.js'
import { readNetwork } from '../record/network_file.js'
import { orderOf } from '../record/rows.js'
import { readRows, type JobRows } from '../record/rows_file.js'
import { checkedBytes } from '../record/store.js'
import { checkEnvironment } from './environment.js'
import { jobResult, type JobResult, type RunOptions, type ShardJob, type ShardPlan } from './job.js'

const planName = 'job.json'
const doneName = 'done.json'
const partialName = 'partial.safetensors'

/** Identity of a job: of everything that decides its result. */
export const planDigest = (plan: ShardPlan): string => sha256(JSON.stringify(plan))

export async function writePlan(folder: string, plan: ShardPlan): Promise<void> {
  await writeFileAtomically(join(folder, planName), seal(plan))
}

/** Runs a job; ERR_ENVIRONMENT, ERR_DAMAGED, and whatever fit() throws. */
export async function runShard(job: ShardJob, options: RunOptions): Promise<JobResult> {
  const [started, begun] = [performance.now(), process.cpuUsage()]
  const plan = unseal(await readBytes(join(job.folder, planName)), planName) as ShardPlan
  if (planDigest(plan) !== job.id) {
    throw new PalimpsestError('ERR_WORKER', `expected job ${job.id} in '${job.folder}', got another one`)
  }
  const environment = checkEnvironment(plan.environment)
  await removeHalfWritten(job.folder)
  const run = await ShardRun.open(job.folder, plan, options)
  try {
    const made = await run.finish()
    const { user, system } = process.cpuUsage(begun)
    const took = { seconds: (performance.now() - started) / 1000, processorSeconds: (user + system) / 1e6 }
    return jobResult({ id: job.id, environment, ...made, visits: run.trained, ...took })
  } finally {
    run.dispose()
  }
}

async function removeHalfWritten(folder: string): Promise<void> {
  const parts = (await readdir(folder)).filter((name) => name.endsWith('.part'))
  await Promise.all(parts.map((name) => rm(join(folder, name), { force: true })))
}

/** What finished slices gave; done.json. */
interface Finished {
  checkpoints: CheckpointRef[]
  logs: LogRef[]
}

class ShardRun {
  readonly #folder: string
  readonly #plan: ShardPlan
  readonly #options: RunOptions
  readonly #model: Model
  readonly #rows: JobRows
  #done: Finished
  #visits = 0
  /** Rows that went through the network in this process. */
  trained = 0

  private constructor(
    folder: string,
    plan: ShardPlan,
    options: RunOptions,
    model: Model,
    rows: JobRows,
    done: Finished,
  ) {
    this.#folder = folder
    this.#plan = plan
    this.#options = options
    this.#model = model
    this.#rows = rows
    this.#done = done
  }

  static async open(folder: string, plan: ShardPlan, options: RunOptions): Promise<ShardRun> {
    const { device } = plan.environment
    const at = (name: string) => join(folder, name)
    const initial = await checkedBytes(at(plan.initial.file), plan.initial)
    const rows = readRows(await checkedBytes(at(plan.rows.file), plan.rows))
    const model = Model.fromNetwork(readNetwork(initial), { device: device as 'cpu' })
    return new ShardRun(folder, plan, options, model, rows, await finished(folder, plan))
  }

  async finish(): Promise<Finished> {
    const { first, epochs } = this.#plan
    for (let slice = first; slice <= epochs.length; slice++) {
      checkSignal(this.#options.signal)
      const rows = this.#rows.slices.filter((each) => each <= slice).length
      const known = this.#done.checkpoints.find((each) => each.slice === slice)
      if (known === undefined && rows > 0) await this.#slice(slice)
      else this.#visits += rows * epochs[slice - 1]
    }
    return this.#done
  }

  /** Trains on slices 1 to this one, from the checkpoint before it. */
  async #slice(slice: number): Promise<void> {
    const { epochs, fit, seed } = this.#plan
    const { data, slices } = this.#rows
    const before = this.#done.checkpoints.at(-1) ?? this.#plan.start
    const positions = Int32Array.from(slices.keys()).filter((i) => slices[i] <= slice)
    const rows = data.subset(positions)
    const partial = join(this.#folder, partialName)
    const series: RunSeries = { ...(await this.#series(positions, slice, before)), ...this.#log(slice) }
    const visited = this.#visits
    const options = (resume: boolean) =>
      readFitOptions({
        ...fit,
        seed,
        epochs: epochs[slice - 1],
        checkpoint: partial,
        ...(resume && { resume: partial }),
        ...(this.#options.signal && { signal: this.#options.signal }),
        onProgress: ({ done, total }: { done: number; total: number }) =>
          this.#options.onProgress?.(visited + Math.round((done / total) * positions.length * epochs[slice - 1])),
      })
    const run = await prepare(this.#model, rows, options, series)
    try {
      await run.fit()
      const { steps, resumedAt = 0 } = run.report()
      const logs = await this.#logsOf(slice, steps, before?.step ?? 0)
      await this.#keep(run, logs, {
        slice,
        epoch: (before?.epoch ?? 0) + epochs[slice - 1],
        step: (before?.step ?? 0) + steps,
        exact: true,
      })
      const visits = positions.length * epochs[slice - 1]
      this.#visits += visits
      this.trained += Math.round(visits * (1 - resumedAt / steps))
    } finally {
      run.dispose()
      rows.dispose()
    }
  }

  async #series(positions: Int32Array, slice: number, before: CheckpointRef | null): Promise<RunSeries> {
    const words = Array.from(positions, (i) => this.#rows.words[i])
    const epochsBefore = before?.epoch ?? 0
    return {
      order: (epoch) => orderOf(words, this.#plan.seed, epochsBefore + epoch),
      draws: Uint32Array.from(words, (each) => each[0]),
      epochsBefore,
      data: this.#plan.prefixes[slice - 1],
      ...(before && { begin: await checkedBytes(join(this.#folder, before.file), before) }),
    }
  }

  /** States of the log are written as the run comes by. */
  #log(slice: number): Pick<RunSeries, 'log'> {
    const every = this.#plan.logEvery
    if (every === undefined) return {}
    return { log: { every, path: (step) => join(this.#folder, logName(slice, step)) } }
  }

  async #logsOf(slice: number, steps: number, stepsBefore: number): Promise<LogRef[]> {
    const every = this.#plan.logEvery ?? steps
    const logs: LogRef[] = []
    for (let step = every; step < steps; step += every) {
      logs.push({ ...(await refOf(this.#folder, logName(slice, step))), slice, step: stepsBefore + step })
    }
    return logs
  }

  async #keep(
    run: SgdRun,
    logs: readonly LogRef[],
    at: Pick<CheckpointRef, 'slice' | 'epoch' | 'step' | 'exact'>,
  ): Promise<void> {
    const file = `slice-${at.slice}.safetensors`
    const path = join(this.#folder, file)
    await run.save(path)
    const checkpoint = { ...(await refOf(this.#folder, file)), ...at }
    const { checkpoints } = this.#done
    this.#done = { checkpoints: [...checkpoints, checkpoint], logs: [...this.#done.logs, ...logs] }
    await writeFileAtomically(join(this.#folder, doneName), seal(this.#done))
    await rm(join(this.#folder, partialName), { force: true })
  }

  dispose(): void {
    this.#model.dispose()
    this.#rows.data.dispose()
  }
}

/** Goes on within a slice where an earlier try left a checkpoint of the same run; begins it anew where it did not. */
async function prepare(
  model: Model,
  rows: Dataset,
  options: (resume: boolean) => ReturnType<typeof readFitOptions>,
  series: RunSeries,
): Promise<SgdRun> {
  const { resume } = options(true)
  if (typeof resume === 'string' && existsSync(resume)) {
    try {
      return await SgdRun.prepare(model, rows, options(true), series)
    } catch {
      // Torn, or of a run before: whatever is wrong with the options or the rows themselves is thrown again.
    }
  }
  return SgdRun.prepare(model, rows, options(false), series)
}

/** Slices that an earlier try has finished, as far as they are whole. */
async function finished(folder: string, plan: ShardPlan): Promise<Finished> {
  const whole: Finished = { checkpoints: [], logs: [] }
  try {
    const listed = unseal(await readFile(join(folder, doneName)), doneName) as Finished
    for (const ref of listed.checkpoints) {
      if (ref.slice < plan.first) break
      const logs = listed.logs.filter(({ slice }) => slice === ref.slice)
      for (const each of [...logs, ref]) await checkedBytes(join(folder, each.file), each)
      whole.checkpoints.push(ref)
      whole.logs.push(...logs)
    }
  } catch {
    // What is missing or torn is made again.
  }
  return whole
}

const logName = (slice: number, step: number): string => `log-${slice}-${step}.safetensors`

async function refOf(folder: string, file: string): Promise<FileRef> {
  const bytes = await readFile(join(folder, file))
  return { file, bytes: bytes.length, sha256: sha256(bytes) }
}
