// Options of fit() as a record holds them, and what its slices cost in epochs.
import { readFitOptions, type FitOptions } from '../fit/options.js'
import { invalid } from '../options.js'
import type { Model } from '../model.js'

/** Options of fit() that a record takes: those that a file can hold and that mean the same for every slice. */
export type FitSettings = Omit<
  FitOptions,
  'epochs' | 'steps' | 'seed' | 'mnemonic' | 'evaluation' | 'checkpoint' | 'resume' | 'signal' | 'onProgress'
>

const others = ['epochs', 'steps', 'seed', 'mnemonic', 'evaluation', 'checkpoint', 'resume', 'signal', 'onProgress']

/** Checks settings and brings them to the form a file holds: parameters by name, nothing that is undefined. */
export function settingsOf(given: FitSettings, model: Model): FitSettings {
  for (const key of others) {
    if (key in given) throw invalid(`fit.${key}`, 'nothing: it stands beside', (given as Record<string, unknown>)[key])
  }
  readFitOptions(given)
  const { parameters, ...rest } = given
  const names =
    typeof parameters === 'function' ? model.parameters.map(({ name }) => name).filter(parameters) : parameters
  return JSON.parse(JSON.stringify({ ...rest, parameters: names })) as FitSettings
}

/**
 * Epochs of each slice, so that all together visit about as many rows as `epochs` passes over the whole: 2 e / (R + 1)
 * on average (Bourtoule et al. 2021, section V), in whole numbers, at least one each.
 */
export function sliceEpochs(epochs: number, slices: number): number[] {
  const each = (2 * epochs) / (slices + 1)
  const upTo = (slice: number) => Math.round(slice * each)
  return Array.from({ length: slices }, (_, i) => Math.max(1, upTo(i + 1) - upTo(i)))
}
