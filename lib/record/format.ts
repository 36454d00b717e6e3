// The format of a training record: what its manifest and its index hold, written with checksums and checked when read.
import { createHash } from 'node:crypto'
import { PalimpsestError } from '../errors.js'
import { is } from '../options.js'
import { turn } from '../turns.js'
import type { FitSettings } from './settings.js'
import type { KeyedBy, RecordedRow } from './rows.js'

/** A file of the record, its name relative to the folder. */
export interface FileRef {
  file: string
  bytes: number
  /** Hexadecimal. */
  sha256: string
}

/** State of a shard after one of its slices, or within one: weights, momentum, statistics, counters. */
export interface CheckpointRef extends FileRef {
  /** From 1: the run has visited slices 1 to this one. */
  slice: number
  /** Epochs of the shard's run so far, those of earlier slices included. */
  epoch: number
  /** Steps of the shard's run so far, those of earlier slices included. */
  step: number
  /** Whether these are the bits that training the recorded rows alone gives; false after a direct update. */
  exact: boolean
}

/** State of a shard within a slice, before a step: weights, momentum and statistics. */
export interface LogRef extends FileRef {
  /** From 1. */
  slice: number
  /** Steps of the shard's run before it, those of earlier slices included. */
  step: number
}

/** What a shard has: its checkpoints in the order of its run, and an update log where one is kept. */
export interface ShardState {
  /** Rows of each slice. */
  rows: number[]
  checkpoints: CheckpointRef[]
  /** In the order of its run. */
  logs: LogRef[]
}

/** What bits depend on besides seeds and options; workers pin it, or refuse. */
export interface Environment {
  device: string
  threads: number
  /** Instruction set, threads and library versions, as devices() tells them. */
  description: string
  /** Of the library. */
  version: string
}

/** A line of the ledger. It names no rows. */
export interface LedgerEntry {
  /** From 1. */
  number: number
  kind: 'fit' | 'forget'
  /** What served it; 'exact' for a fit. */
  arm: 'exact' | 'direct'
  /** Whether the weights after it are those of training the remaining rows alone. */
  exact: boolean
  /** Rows fitted, or revoked. */
  rows: number
  /** Shards that it changed, each with the first slice that was run again. */
  shards: { shard: number; slice: number }[]
  /** Rows that went through the network, forwards and back. */
  visits: number
  seconds: number
  /** Jobs that trained, the slices that they ended, the seconds of all of them in their workers, how many ran side by side. */
  jobs?: { count: number; slices?: number; seconds: number; processorSeconds?: number; atOnce: number }
  /** When it was done, ISO 8601. */
  at: string
}

/** The root of a record: what it names is the record, other files in the folder are left-overs. */
export interface Manifest {
  format: 'palimpsest-record'
  version: 1
  /** 'sharded': fitSharded(); 'logged': fitLogged(), one shard. */
  kind: 'sharded' | 'logged'
  /** Counts commits. */
  revision: number
  /** Digest of the network and the weights that the run began with. */
  model: string
  /** The network and those weights. */
  initial: FileRef
  shards: number
  slices: number
  /** Epochs of each slice: slice r trains on slices 1 to r for so many. */
  epochs: number[]
  seed: number
  fit: FitSettings
  /** Steps from one state of the update log to the next; none: no log. */
  logEvery?: number
  environment: Environment
  keyedBy: KeyedBy
  /** Digest of how rows become inputs. */
  preparation: string
  /** Which keys are in which slice. */
  index: FileRef
  states: ShardState[]
  ledger: LedgerEntry[]
}

/** Rows by shard and slice, each list in canonical order: key to shard and slice; steps follow from the seed. */
export interface RecordIndex {
  slices: RecordedRow[][][]
}

/** How a direct update is made and amended. */
export interface DirectSettings {
  /** 'none'; 'slices': passes over part of the rows until the loss settles; or so many steps over all that stay. */
  amend: 'none' | 'slices' | number
  /** Where curvature comes from: the log's own steps, Hessian products, or nowhere. */
  drift: 'log' | 'products' | 'none'
  /** Rows that curvature is measured on, and most products between two logged states. */
  rows: number
  products: number
}

/** A request that was begun: what a crash leaves is finished from it. Removed with the last trace of its rows. */
export interface PendingRequest {
  kind: 'forget'
  rows: RecordedRow[]
  /** How the direct arm serves it; none: the exact arm does. */
  direct?: DirectSettings
}

export const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

const bytesPerTurn = 4 * 2 ** 20

/** The same of many bytes, other work of the event loop in between. */
export async function sha256InTurns(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += bytesPerTurn) {
    hash.update(bytes.subarray(at, at + bytesPerTurn))
    await turn()
  }
  return hash.digest('hex')
}

/** Text with its own checksum: a torn or edited file is found. */
export function seal(value: object): Uint8Array {
  const body = JSON.stringify(value)
  return new TextEncoder().encode(`${sha256(body)}\n${body}\n`)
}

/** What `seal` wrote; ERR_DAMAGED names the file. */
export function unseal(bytes: Uint8Array, file: string): unknown {
  const text = new TextDecoder().decode(bytes)
  const sum = text.slice(0, 64)
  const body = text.slice(65, -1)
  if (text.length < 66 || sha256(body) !== sum) throw damaged(file, 'a checksum that fits its text', 'another text')
  return JSON.parse(body) as unknown
}

export function damaged(file: string, expected: string, got: string, cause?: unknown): PalimpsestError {
  const message = `expected ${expected} in the record's file '${file}', got ${got}`
  return new PalimpsestError('ERR_DAMAGED', message, { cause })
}

/** ERR_MODEL_FORMAT where this is no manifest that this version of the library reads. */
export function checkManifest(value: unknown): Manifest {
  const refuse = (expected: string, got: unknown) =>
    new PalimpsestError('ERR_MODEL_FORMAT', `expected ${expected} in manifest.json, got ${String(got)}`)
  if (!is.plainObject(value)) throw refuse('an object', value)
  if (value.format !== 'palimpsest-record') throw refuse("format 'palimpsest-record'", value.format)
  if (value.version !== 1) throw refuse('version 1 of the format', value.version)
  // The checksum has shown that a commit wrote it: what follows would be a mistake of ours, not damage.
  const manifest = value as unknown as Manifest
  const sound =
    is.integer(manifest.shards) &&
    is.integer(manifest.slices) &&
    is.integer(manifest.seed) &&
    Array.isArray(manifest.states) &&
    manifest.states.length === manifest.shards &&
    Array.isArray(manifest.epochs) &&
    manifest.epochs.length === manifest.slices &&
    Array.isArray(manifest.ledger)
  if (!sound) throw refuse('shards, slices, epochs, seed, states and ledger', 'others')
  return manifest
}

/** Every file that a manifest names. */
export function filesOf(manifest: Manifest): FileRef[] {
  const { initial, index, states } = manifest
  return [initial, index, ...states.flatMap(({ checkpoints, logs }) => [...checkpoints, ...logs])]
}
