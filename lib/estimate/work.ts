// What each product does: which programs it runs how often, which vectors it makes and how often it goes through them.
import { readFitOptions, trainedNormalizations } from '../fit/options.js'
import type { Model } from '../model.js'
import { invalid } from '../options.js'
import { dtypeOf } from '../model/products.js'
import type { Loss, ProgramOptions, Quantity } from '../native.js'
import type { EstimateOptions } from './options.js'

/** Runs of one program, one after the other. */
export interface ProgramRuns {
  program: ProgramOptions
  runs: number
  /** Runs that add to what earlier ones left. */
  accumulated: number
}

/** A call as the engine sees it. */
export interface Work {
  programs: ProgramRuns[]
  /** Parameter-space vectors of the call's type that it makes. */
  vectors: number
  /** Of them, or of the model's, read or written: once for every element. */
  vectorPasses: number
  /** Steps on vectors: each waits its turn in the queue. */
  vectorSteps: number
  /** Values of results that go back, and of inputs a row beside the row itself. */
  outputs: number
  rowInputs: number
}

type PlannedQuantity = Exclude<EstimateOptions['quantity'], 'fitStep' | 'fisherDiagonal'>

/** What is read of the loss's inputs, and whether v is copied: a tangent, and a sum that is checked to be finite. */
const plain: Readonly<Record<PlannedQuantity, { quantity: Quantity; rows: boolean; tangent: boolean; loss: boolean }>> =
  {
    evaluate: { quantity: 'evaluate', rows: true, tangent: false, loss: false },
    jvp: { quantity: 'jvp', rows: true, tangent: true, loss: false },
    vjp: { quantity: 'vjp', rows: false, tangent: false, loss: false },
    gradient: { quantity: 'gradient', rows: false, tangent: false, loss: true },
    ggnProduct: { quantity: 'ggnProduct', rows: false, tangent: true, loss: true },
    hessianProduct: { quantity: 'hessianProduct', rows: false, tangent: true, loss: true },
  }

function parts(model: Model, { precision, parameters }: EstimateOptions) {
  return {
    arithmetic: { dtype: dtypeOf({ precision }), ...(precision === 'tf32' && { tf32: true }) },
    names: parameters ?? model.parameters.map(({ name }) => name),
    chosen: parameters && { parameters },
  } as const
}

/** Rows at once: those asked for, else what the product takes by itself. */
async function sizeOf(
  model: Model,
  options: EstimateOptions,
  rows: number,
  program: Omit<ProgramOptions, 'batch'>,
  least = 1,
): Promise<number> {
  return model.engine.programs.batchSize(program, rows, least, options.batchSize)
}

function runsOf(program: Omit<ProgramOptions, 'batch'>, batch: number, rows: number, rounds = 1): ProgramRuns {
  const each = Math.ceil(rows / batch)
  return { program: { ...program, batch }, runs: each * rounds, accumulated: (each - 1) * rounds }
}

async function plainWork(
  model: Model,
  quantity: PlannedQuantity,
  options: EstimateOptions,
  rows: number,
): Promise<Work> {
  const { arithmetic, chosen } = parts(model, options)
  const { quantity: name, rows: givesRows, tangent, loss } = plain[quantity]
  const kind = options.loss ?? 'crossEntropy'
  const program = { quantity: name, ...arithmetic, ...(loss && { loss: kind }), ...chosen }
  const vectors = (tangent ? 1 : 0) + (givesRows ? 0 : 1)
  return {
    programs: [runsOf(program, await sizeOf(model, options, rows, program), rows)],
    vectors,
    // A vector is cleared (or copied: twice), and read twice by the product with itself that finds what is not finite.
    vectorPasses: (tangent ? 5 : 0) + (givesRows ? 0 : 3),
    vectorSteps: 2 * vectors,
    outputs: givesRows ? rows * model.classes : 0,
    rowInputs: quantity === 'evaluate' || quantity === 'jvp' ? 0 : model.classes + 1,
  }
}

async function fisherWork(model: Model, options: EstimateOptions, rows: number): Promise<Work> {
  const { arithmetic, names } = parts(model, options)
  const { type = 'empirical', samples = 1 } = options
  const rounds = type === 'empirical' ? 1 : type === 'exact' ? model.classes : samples
  const slowNames = new Set(await model.engine.network.parametersWithoutQuickSquares())
  const [slow, quick] = [names.filter((n) => slowNames.has(n)), names.filter((n) => !slowNames.has(n))]
  const loss: Loss = 'crossEntropy'
  const quantity: Quantity = type === 'exact' ? 'fisherClass' : 'fisherEmpirical'
  const programs: ProgramRuns[] = []
  if (quick.length > 0) {
    const program = { quantity, ...arithmetic, loss, parameters: quick }
    programs.push(runsOf(program, await sizeOf(model, options, rows, program, 2), rows, rounds))
  }
  if (slow.length > 0) {
    const program = { quantity: 'gradient' as const, ...arithmetic, loss, parameters: slow }
    // Row by row; every row overwrites the gradient of the one before.
    programs.push({ ...runsOf(program, 1, rows, rounds), accumulated: 0 })
  }
  const evaluations = (type === 'mc' ? 1 : 0) + (type === 'exact' && slow.length > 0 ? rounds : 0)
  if (evaluations > 0) {
    const { parameters } = options
    const program = { quantity: 'evaluate' as const, ...arithmetic, ...(parameters && { parameters }) }
    programs.push(runsOf(program, await sizeOf(model, options, rows, program), rows, evaluations))
  }
  const squared = slow.length > 0 ? rows * rounds : 0
  const more = rounds - 1
  return {
    programs,
    vectors: 1 + (more > 0 ? 1 : 0) + (slow.length > 0 ? 1 : 0),
    // The sums: cleared, multiplied by themselves (2); a round's part: made; each further round: added (3); a square: 4.
    vectorPasses: 3 + (more > 0 ? 1 + 3 * more : 0) + 4 * squared,
    vectorSteps: 2 + more + squared,
    outputs: evaluations * rows * model.classes,
    rowInputs: (model.classes + 1) * rounds,
  }
}

async function fitWork(model: Model, options: EstimateOptions, rows: number): Promise<Work> {
  const { chosen } = parts(model, options)
  const { parameters, batchNorm, batchSize } = options
  const fitting = readFitOptions({ epochs: 1, ...(parameters && { parameters }), ...(batchNorm && { batchNorm }) })
  const training = trainedNormalizations(fitting, model, Math.max(rows, 2)).length > 0
  if (training && batchSize !== undefined && batchSize !== rows) {
    throw invalid('batchSize', `the ${rows} rows of a step with batchNorm: 'training', taken at once`, batchSize)
  }
  const program = { quantity: 'gradient' as const, loss: options.loss ?? 'crossEntropy', training, ...chosen }
  const size = training ? rows : await sizeOf(model, options, rows, program)
  return {
    programs: [runsOf(program, size, rows)],
    vectors: 3, // weights, velocity, gradient
    vectorPasses: 5, // gradient, weights and velocity read, the last two written
    vectorSteps: 1,
    outputs: rows * (model.classes + 1),
    rowInputs: model.classes + 1,
  }
}

export function workOf(model: Model, options: EstimateOptions, rows: number): Promise<Work> {
  if (options.quantity === 'fisherDiagonal') return fisherWork(model, options, rows)
  if (options.quantity === 'fitStep') return fitWork(model, options, rows)
  return plainWork(model, options.quantity, options, rows)
}
