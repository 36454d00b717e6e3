// Crash rounds: a process is killed at a random moment in training or in forget, another one goes on; are the bits the same?
import { fork } from 'node:child_process'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { fitSharded, forget, resumeRecord } from '../../lib/index.js'
import { TrainingRecord } from '../../lib/record.js'
import { here, makeData, makeModel, optionsOf, preferOf, revoked, work } from './setup.js'

export const phases = ['fit', 'forget', 'direct'] as const
export type Phase = (typeof phases)[number]

export interface Round {
  phase: Phase
  /** Seconds after the call began. */
  killedAfter: number
  /** Whether the kill came before the call had ended. */
  inTime: boolean
  /** What was found: 'nothing yet', 'training', 'as before', 'request' or 'done'. */
  found: string
  /** Whether bits, files and checksums after going on are those of a run that was never killed. */
  same: boolean
}

const filesOf = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && !/^lock/.test(file.name))
    .map((file) => join(file.parentPath, file.name).slice(folder.length))
    .sort()

const bits = (record: TrainingRecord) =>
  JSON.stringify([record.manifest.index, record.manifest.states, filesOf(record.folder)])

/** Runs the victim and kills it; false where it had ended by itself. */
export async function kill(phase: Phase, folder: string, runner: string, seconds: number): Promise<boolean> {
  const path = fileURLToPath(new URL('./victim.ts', import.meta.url))
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const victim = fork(path, [phase, folder, runner], { execArgv: ['--import', loader], silent: true })
  const ended = new Promise<NodeJS.Signals | null>((resolve) => victim.once('exit', (_, signal) => resolve(signal)))
  await Promise.race([new Promise((resolve) => victim.once('message', resolve)), ended])
  const timer = setTimeout(() => victim.kill('SIGKILL'), seconds * 1000)
  const signal = await ended
  clearTimeout(timer)
  return signal === 'SIGKILL'
}

export class CrashRounds {
  readonly #root: string
  #rounds = 0
  #reference: Record<Phase, string> | undefined
  #seconds: Record<Phase, number> = { fit: 0, forget: 0, direct: 0 }

  constructor(root: string) {
    this.#root = root
  }

  get #fitted(): string {
    return join(this.#root, 'fitted')
  }

  /** What is to come out, and how long it takes. */
  async prepare(): Promise<void> {
    const found: Partial<Record<Phase, string>> = {}
    for (const phase of phases) {
      const folder = phase === 'fit' ? this.#fitted : join(this.#root, `reference-${phase}`)
      if (phase !== 'fit') cpSync(this.#fitted, folder, { recursive: true })
      const started = performance.now()
      await work(phase, folder, here)
      this.#seconds[phase] = (performance.now() - started) / 1000
      const record = await TrainingRecord.open(folder, { data: makeData() })
      found[phase] = bits(record)
      await record.close()
    }
    this.#reference = found as Record<Phase, string>
  }

  /** @param share - when to kill, as a share of the time that the call takes undisturbed */
  async round(phase: Phase, share: number, runner: string): Promise<Round> {
    const folder = join(this.#root, `round-${this.#rounds++}`)
    if (phase !== 'fit') cpSync(this.#fitted, folder, { recursive: true })
    const killedAfter = share * this.#seconds[phase] * (runner === 'pool' ? 6 : 1.5)
    const inTime = await kill(phase, folder, runner, killedAfter)
    const { record, found } = await (phase === 'fit' ? goOnFitting(folder) : goOnForgetting(folder, phase))
    await record.verify()
    const same = bits(record) === this.#reference?.[phase]
    await record.close()
    rmSync(folder, { recursive: true })
    return { phase, killedAfter, inTime, found, same }
  }
}

async function goOnFitting(folder: string) {
  const before = await TrainingRecord.open(folder, { data: makeData() }).catch(() => undefined)
  const found = before === undefined ? 'nothing yet' : before.complete ? 'done' : 'training'
  await before?.close()
  const { record } = await fitSharded(makeModel(), makeData(), optionsOf(folder, here))
  return { record, found }
}

async function goOnForgetting(folder: string, phase: 'forget' | 'direct') {
  const record = await TrainingRecord.open(folder, { data: makeData() })
  await record.verify()
  const had = record.locate(revoked[0]).length > 0
  const found = record.pending ? 'request' : had ? 'as before' : 'done'
  if (record.pending) await resumeRecord(record, { runner: here })
  else if (had) await forget(record, { keys: revoked, runner: here, prefer: preferOf(phase) })
  return { record, found }
}
