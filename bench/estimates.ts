// estimate() beside what the products then take: seconds and peak memory, three batch sizes of every workload.
import { estimate, Model, type EstimateOptions, type ParameterVector } from '../lib/index.js'
import { mebibytes, peakMemory } from './memory.js'
import {
  digits,
  isUndisturbed,
  spread,
  summarize,
  timed,
  timedResult,
  undisturbed,
  type Sample,
  type Summary,
} from './statistics.js'
import { markdown } from './tables.js'
import { batchFor, filled, tinyWorkloads, workloads, type WorkloadName } from './workloads.js'

type Quantity = Exclude<EstimateOptions['quantity'], 'fitStep'>

const quantities: readonly Quantity[] = [
  'evaluate',
  'gradient',
  'jvp',
  'vjp',
  'fisherDiagonal',
  'ggnProduct',
  'hessianProduct',
]

export interface EstimateRow {
  workload: WorkloadName
  batch: number
  quantity: Quantity
  precision: 'float32' | 'float64'
  /** Milliseconds: predicted before anything ran, and measured. */
  predicted: number
  wall: Summary
  /** Processor time over threads: what the wall clock would say if nobody else used the machine. */
  cpu: Summary
  /** Predicted over measured medians; over undisturbed repetitions where no estimate of the last ten seconds was disturbed. */
  ratio: { wall: number; cpu: number; undisturbed: number | null }
  /** Seconds that the estimate took. */
  calibration: number
  /** Bytes of the engine; `resident` of the process, which has the host's copies and the allocator's pages too. */
  memory: { predicted: number; measured: number; ratio: number; predictedPeak: number; resident: number | null }
}

/** What an estimate measured is good for others so long, in milliseconds. */
const goodMilliseconds = 10_000
/** When an estimate last was disturbed. */
let disturbed = -Infinity

/** A product is repeated for so long at least. */
const leastMilliseconds = 1000

export interface EstimateBenchOptions {
  workloads: readonly WorkloadName[]
  only: string
  repeats: number
  threads: number
  tiny: boolean
  precision: 'float32' | 'float64'
  onRow: (row: EstimateRow) => void
}

function product(model: Model, quantity: Quantity, batch: ReturnType<typeof batchFor>, tangent: ParameterVector) {
  return async (precision: 'float32' | 'float64'): Promise<void> => {
    const options = { precision }
    const call = async () => {
      if (quantity === 'evaluate') return model.evaluate(batch, options)
      if (quantity === 'vjp') return model.vjp(batch, filled(batch.labels.length * model.classes, 3), options)
      if (quantity === 'gradient' || quantity === 'fisherDiagonal') return model[quantity](batch, options)
      return model[quantity](batch, tangent, options)
    }
    const result = await call()
    if (!ArrayBuffer.isView(result)) result.dispose()
  }
}

async function measure(
  name: WorkloadName,
  rows: number,
  quantity: Quantity,
  { repeats, threads, tiny, precision }: EstimateBenchOptions,
): Promise<EstimateRow> {
  const model = Model.fromNetwork((tiny ? tinyWorkloads : workloads)[name].network(), { device: 'cpu' })
  const batch = batchFor(model, rows)
  const tangent = model.vector(
    Object.fromEntries(
      model.parameters.map(({ name, shape }, i) => [
        name,
        filled(
          shape.reduce((a, b) => a * b, 1),
          100 + i,
        ),
      ]),
    ),
  )
  const { result: predicted, sample: estimating } = await timedResult(() =>
    estimate(model, { quantity, rows, precision }),
  )
  if (!isUndisturbed(estimating)) disturbed = performance.now()
  const trusted = performance.now() - disturbed > goodMilliseconds
  const run = product(model, quantity, batch, tangent)
  const memory = await peakMemory(() => run(precision))
  const samples: Sample[] = []
  const started = performance.now()
  while (samples.length < repeats || (!tiny && performance.now() - started < leastMilliseconds)) {
    samples.push(await timed(() => run(precision)))
  }
  tangent.dispose()
  model.dispose()
  const wall = summarize(samples.map((sample) => sample.wall))
  const cpu = summarize(samples.map((sample) => sample.cpu / threads))
  const alone = undisturbed(samples)
  const { peak, working, host } = predicted.memory
  const milliseconds = 1e3 * predicted.seconds
  // The rehearsal has already given the kernels what they work in.
  const engine = peak - working - host
  return {
    workload: name,
    batch: rows,
    quantity,
    precision,
    predicted: milliseconds,
    wall,
    cpu,
    ratio: {
      wall: milliseconds / wall.median,
      cpu: milliseconds / cpu.median,
      undisturbed: alone && trusted ? milliseconds / alone.median : null,
    },
    calibration: predicted.calibration,
    memory: {
      predicted: engine,
      measured: memory.engine,
      ratio: engine / memory.engine,
      predictedPeak: peak,
      resident: memory.resident,
    },
  }
}

export async function benchEstimates(options: EstimateBenchOptions): Promise<EstimateRow[]> {
  const rows: EstimateRow[] = []
  for (const name of options.workloads) {
    const { batch } = (options.tiny ? tinyWorkloads : workloads)[name]
    for (const size of [batch / 4, batch, 2 * batch]) {
      for (const quantity of quantities) {
        if (!quantity.toLowerCase().includes(options.only.toLowerCase())) continue
        const row = await measure(name, size, quantity, options)
        rows.push(row)
        options.onRow(row)
      }
    }
  }
  return rows
}

const head = [
  'workload', 'batch', 'quantity', 'type', 'predicted, ms', 'measured, ms', 'predicted / measured', 'CPU / threads, ms',
  'predicted / that', 'undisturbed', 'MiB predicted', 'measured', 'ratio', 'estimate, s',
] // prettier-ignore

export function estimateCells(row: EstimateRow): string[] {
  return [
    row.workload,
    String(row.batch),
    row.quantity,
    row.precision,
    digits(row.predicted),
    spread(row.wall),
    row.ratio.wall.toFixed(2),
    digits(row.cpu.median),
    row.ratio.cpu.toFixed(2),
    row.ratio.undisturbed?.toFixed(2) ?? '',
    mebibytes(row.memory.predicted),
    mebibytes(row.memory.measured),
    row.memory.ratio.toFixed(3),
    row.calibration.toFixed(2),
  ]
}

/** Shares of the rows within the bars, in words. */
function summary(rows: readonly EstimateRow[]): string {
  const within = (ratio: number, bar: number) => ratio > 1 - bar && ratio < 1 + bar
  const alone = rows.flatMap(({ ratio }) => ratio.undisturbed ?? [])
  const count = (ratio: (row: EstimateRow) => number, bar: number) =>
    rows.filter((row) => within(ratio(row), bar)).length
  return (
    `time within 25 %: ${count((row) => row.ratio.wall, 0.25)} of ${rows.length} by the wall clock, ` +
    `${count((row) => row.ratio.cpu, 0.25)} by processor time, ` +
    `${alone.filter((ratio) => within(ratio, 0.25)).length} of ${alone.length} undisturbed; ` +
    `peak memory within 10 %: ${count((row) => row.memory.ratio, 0.1)} of ${rows.length}`
  )
}

export function estimatesTable(rows: readonly EstimateRow[]): string {
  return [markdown(head, rows.map(estimateCells), 4), '', summary(rows)].join('\n')
}
