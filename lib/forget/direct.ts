// The direct arm: the weights that there are lose what the rows did in training, and every state that held traces is
// rewritten; no guarantee comes with it.
import { Model } from '../model.js'
import type { PassOptions } from '../model/passes.js'
import type { TrainingRecord } from '../record.js'
import type { DirectSettings, LedgerEntry, Manifest, PendingRequest } from '../record/format.js'
import { readNetwork } from '../record/network_file.js'
import type { RecordStore } from '../record/store.js'
import { finish, takeBack, type Retrained } from './retrain.js'
import type { Revocation } from './revoked.js'
import { ShardUpdater, type UpdatedShard } from './shard_update.js'

/** Serves a request by direct updates, shard after shard; one commit swaps the manifest, as in the exact arm. */
export async function updateDirectly(
  record: TrainingRecord,
  store: RecordStore,
  revocation: Revocation,
  settings: DirectSettings,
  passes: PassOptions,
): Promise<Retrained> {
  const started = performance.now()
  const { revoked, remaining, touched } = revocation
  const rows = revoked.map(({ key, digest }) => ({ key, digest }))
  const pending: PendingRequest = { kind: 'forget', rows, direct: settings }
  await store.note(pending)
  record.settle(undefined, pending)
  let committed = false
  try {
    const states = [...store.manifest.states]
    let visits = 0
    for (const [i, { shard, slice }] of touched.entries()) {
      const made = await updateShard(record, store, revocation, { shard, slice }, settings, passes)
      states[shard] = made.state
      visits += made.visits
      passes.onProgress?.({ phase: 'forget', done: i + 1, total: touched.length })
    }
    const bare = remaining.map((shard) => shard.map((list) => list.map(({ key, digest }) => ({ key, digest }))))
    const index = await store.putIndex({ slices: bare })
    const seconds = (performance.now() - started) / 1000
    const entry = entryOf(store.manifest, touched, revoked.length, visits, seconds)
    if (passes.signal?.aborted) throw passes.signal.reason
    await store.commit({ ...store.manifest, states, index, ledger: [...store.manifest.ledger, entry] })
    committed = true
    record.settle(remaining, pending)
    return { entry, visits, purged: await finish(record, store) }
  } catch (error) {
    if (!committed) await takeBack(record, store, error)
    throw error
  }
}

async function updateShard(
  record: TrainingRecord,
  store: RecordStore,
  { revoked, remaining }: Revocation,
  { shard, slice }: { shard: number; slice: number },
  settings: DirectSettings,
  passes: PassOptions,
): Promise<UpdatedShard> {
  const { initial, environment } = store.manifest
  const model = Model.fromNetwork(readNetwork(await store.read(initial)), { device: environment.device as 'cpu' })
  try {
    const slices = record.rows[shard]
    const update = { shard, first: slice, slices, remaining: remaining[shard], gone: new Set(revoked) }
    return await new ShardUpdater(store, record.data, model, update, settings, passes).run()
  } finally {
    model.dispose()
  }
}

function entryOf(
  { ledger }: Manifest,
  shards: LedgerEntry['shards'],
  rows: number,
  visits: number,
  seconds: number,
): LedgerEntry {
  const at = new Date().toISOString()
  return { number: ledger.length + 1, kind: 'forget', arm: 'direct', exact: false, rows, shards, visits, seconds, at }
}
