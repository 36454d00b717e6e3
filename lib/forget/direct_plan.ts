// What a direct update of a record would visit and take: a closed form of seed, keys and logged states.
import type { TrainingRecord } from '../record.js'
import type { DirectSettings, Manifest } from '../record/format.js'
import { amendedVisits, amendmentOf, lostOf } from './amend.js'
import type { Costs } from './costs.js'
import { together } from './direct_update.js'
import { lossesOf, segmentsOf, sliceRuns, statesOf, type SliceRun } from './logged_run.js'
import type { Revocation } from './revoked.js'
import { roomFor } from './row_sums.js'
import { groupLength } from './shard_update.js'

interface Work {
  /** Rows: revoked ones, those that curvature is measured on, rows of Hessian products, rows of the amendment. */
  lost: number
  /** The revoked ones and what fills their programs up. */
  computed: number
  probe: number
  drift: number
  amend: number
  /** Gradients that are asked for, states, and passes over parameter vectors. */
  calls: number
  states: number
  vectors: number
  /** Runs of SGD in the amendment, programs of other sizes, and shards. */
  fits: number
  programs: number
  shards: number
  /** Seconds that finding all this took: the update finds the same steps and rows again. */
  seconds: number
}

/** Of a program, as most networks have it on the CPU. */
const mostRows = 256

/** Index, manifest, the note of the request, and the removal of what was. */
const filesApart = 4

/** Passes over parameter vectors for a state and for a group of losses, by the drift correction: by count of the code. */
const vectorPasses = { log: [160, 26], products: [300, 22], none: [20, 14] } as const

export function directVisits({ lost, probe, drift, amend }: Work): number {
  return lost + probe + drift + amend
}

export function directSeconds(work: Work, costs: Costs): number {
  const { computed, probe, drift, amend, calls, states, vectors, fits, programs, shards, seconds } = work
  return (
    seconds +
    (shards + 0.25 * (fits + programs)) * costs.model +
    calls * costs.call +
    (computed + probe) * costs.gradient +
    amend * costs.training +
    drift * costs.hessian +
    vectors * costs.vector +
    states * costs.state +
    filesApart * costs.file
  )
}

export function directWork(
  record: TrainingRecord,
  manifest: Manifest,
  revocation: Revocation,
  settings: DirectSettings,
): Work {
  const gone = new Set(revocation.revoked)
  const started = performance.now()
  const rows = { lost: 0, computed: 0, probe: 0, drift: 0, amend: 0 }
  const work: Work = { ...rows, calls: 0, states: 0, vectors: 0, fits: 0, programs: 0, shards: 0, seconds: 0 }
  for (const { shard, slice } of revocation.touched) {
    work.shards++
    const slices = record.rows[shard]
    const state = { begun: false, sizes: new Set<number>() }
    for (const run of sliceRuns(manifest, slices)) {
      if (run.slice < slice) continue
      const segments = segmentsOf(statesOf(manifest.states[shard], run), run, lossesOf(run, manifest, gone))
      addRun(work, { run, segments, gone, state }, settings)
    }
    work.programs += state.sizes.size
    const last = sliceRuns(manifest, revocation.remaining[shard]).at(-1)
    if (last === undefined || last.slice !== manifest.slices) continue
    const part = { manifest, run: last, slices: revocation.remaining[shard], ...lostOf(slices, gone) }
    const amendment = amendmentOf(settings.amend, part)
    work.fits += amendment.steps.length
    work.amend += amendedVisits(amendment, manifest)
  }
  work.seconds = (performance.now() - started) / 1000
  return work
}

interface Part {
  run: SliceRun
  segments: ReturnType<typeof segmentsOf>
  gone: ReadonlySet<SliceRun['rows'][number]>
  state: { begun: boolean; sizes: Set<number> }
}

function addRun(work: Work, { run, segments, gone, state }: Part, settings: DirectSettings): void {
  const probe = Math.min(settings.rows, run.rows.filter((row) => !gone.has(row)).length)
  const [aState, aGroup] = vectorPasses[settings.drift]
  if (settings.drift === 'log') work.probe += (1 + segments.length) * probe
  for (const { losses } of segments) {
    // Where the deviation stands.
    if (state.begun && settings.drift === 'log') work.probe += probe
    if (state.begun && settings.drift === 'products') work.drift += settings.products * probe
    state.begun ||= losses.length > 0
    const groups = together(losses, groupLength(run))
    for (const { rows } of groups) {
      if (rows.length === 0) continue
      const room = Math.min(roomFor(rows.length), mostRows)
      state.sizes.add(room)
      work.lost += rows.length
      work.computed += room * Math.ceil(rows.length / room)
    }
    work.calls += groups.length + 2
    work.states++
    work.vectors += aState + groups.length * aGroup
  }
}
