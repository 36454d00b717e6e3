// Small tangent models with rows, owners and classes for tests of what is fitted and forgotten.
import { Dataset, fit, Model, networks, TangentModel, type TangentOptions } from '../lib/index.js'
import { normals } from './random.js'

export const width = 6
export const classes = 3
/** Owner o0 .. o9, six rows each in turn. */
export const rowCount = 60

export interface Rows {
  inputs: Float32Array
  labels: Int32Array
  owners: string[]
}

/** Clusters that overlap, so that nothing is fitted without error. */
export function makeRows(count = rowCount, seed = 1): Rows {
  const inputs = normals(count * width, seed)
  const labels = Int32Array.from({ length: count }, (_, i) => (i * 7 + (i >> 2)) % classes)
  labels.forEach((label, i) => (inputs[i * width + label] += 1))
  return { inputs, labels, owners: Array.from({ length: count }, (_, i) => `o${i % 10}`) }
}

/** Some of the rows as a dataset of its own, with no memory of the others. */
export function datasetOf(rows: Rows, chosen: readonly number[] = [...rows.labels.keys()]): Dataset {
  return Dataset.fromArrays({
    inputs: Float32Array.from(chosen.flatMap((i) => [...rows.inputs.subarray(i * width, (i + 1) * width)])),
    labels: Int32Array.from(chosen, (i) => rows.labels[i]),
    owners: chosen.map((i) => rows.owners[i]),
    shape: [width],
    classes,
  })
}

/** fc1 [5, 6], fc2 [3, 5] with biases: 53 parameters. */
export function makeCore(seed = 3): Model {
  return Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [5], classes, seed }))
}

/** The three ways to linearise. */
export const layerChoices = [
  ['all', 'all'],
  ['names', ['fc2.weight', 'fc1.bias']],
  ['head', 'head'],
] as const

export async function fitted(
  layers: NonNullable<TangentOptions['layers']> = 'all',
  rows = makeRows(),
  options: TangentOptions = {},
): Promise<TangentModel> {
  const publicData = datasetOf(makeRows(40, 2))
  const model = TangentModel.at(makeCore(), { layers, publicData, ...options })
  await fit(model, datasetOf(rows))
  return model
}
