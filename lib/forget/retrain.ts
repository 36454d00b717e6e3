// The exact arm: shards that lost rows go on from the checkpoint before the first of them; then every trace is purged.
import { PalimpsestError } from '../errors.js'
import type { RecordTrainOptions, TrainingRecord } from '../record.js'
import type { LedgerEntry, Manifest, PendingRequest } from '../record/format.js'
import type { RecordStore } from '../record/store.js'
import { adoptShard, trainShards, type ShardWork } from '../record/train.js'
import type { Revocation } from './revoked.js'

/** What serving a request did. */
export interface Retrained {
  entry: LedgerEntry
  /** Rows that went through the network. */
  visits: number
  /** Files of the record that held traces of the rows and are gone, relative to its folder. */
  purged: string[]
}

/** The work of each shard that a revocation touches. */
export function worksOf(manifest: Manifest, { remaining, touched }: Revocation): ShardWork[] {
  return touched.map(({ shard, slice }) => {
    const before = manifest.states[shard].checkpoints.filter((each) => each.slice < slice && each.exact)
    const start = before.at(-1)
    // After a direct edit the newest exact checkpoint may be older than the slice before this one.
    return { shard, slices: remaining[shard], first: start ? start.slice + 1 : 1, start }
  })
}

/**
 * Serves a request. The record is as before until one commit swaps the manifest; after a crash the noted request is
 * begun again, and slices that were finished are kept. An error or an abort takes the request back.
 */
export async function retrain(
  record: TrainingRecord,
  store: RecordStore,
  revocation: Revocation,
  { runner, ...passes }: RecordTrainOptions,
): Promise<Retrained> {
  const started = performance.now()
  const { revoked } = revocation
  const pending: PendingRequest = { kind: 'forget', rows: revoked.map(({ key, digest }) => ({ key, digest })) }
  const works = worksOf(store.manifest, revocation)
  await store.note(pending)
  record.settle(undefined, pending)
  let committed = false
  try {
    const next = [...store.manifest.states]
    const { visits, jobs } = await record.withRunner(runner, (using) =>
      trainShards(store, record.data, works, using, { ...passes, phase: 'forget' }, async (trained) => {
        const { shard } = trained.work
        next[shard] = await adoptShard(store, store.manifest.states[shard], trained)
      }),
    )
    const seconds = (performance.now() - started) / 1000
    const entry = {
      ...entryOf(store.manifest, works, revoked.length, visits, seconds),
      jobs,
    }
    const bare = revocation.remaining.map((shard) =>
      shard.map((rows) => rows.map(({ key, digest }) => ({ key, digest }))),
    )
    const index = await store.putIndex({ slices: bare })
    if (passes.signal?.aborted) throw passes.signal.reason
    await store.commit({ ...store.manifest, states: next, index, ledger: [...store.manifest.ledger, entry] })
    committed = true
    record.settle(revocation.remaining, pending)
    return { entry, visits, purged: await finish(record, store) }
  } catch (error) {
    if (!committed) await takeBack(record, store, error)
    throw error
  }
}

/** Removes what the manifest no longer names, jobs' folders and the note: the last traces of the rows. */
export async function finish(record: TrainingRecord, store: RecordStore): Promise<string[]> {
  const purged = [...(await store.purge()), ...(await store.removeJobs())]
  await store.note(undefined)
  record.settle(undefined, undefined)
  return [...purged, 'request.json']
}

/** The record as it was before the request. */
export async function takeBack(record: TrainingRecord, store: RecordStore, cause: unknown): Promise<void> {
  try {
    await finish(record, store)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const message = `the request failed, and its left-overs could not be removed (${why}); resumeRecord() serves it`
    throw new PalimpsestError('ERR_IO', message, { cause })
  }
}

function entryOf(
  { ledger }: Manifest,
  works: readonly ShardWork[],
  rows: number,
  visits: number,
  seconds: number,
): LedgerEntry {
  const shards = works.map(({ shard, first }) => ({ shard, slice: first }))
  const at = new Date().toISOString()
  return { number: ledger.length + 1, kind: 'forget', arm: 'exact', exact: true, rows, shards, visits, seconds, at }
}
