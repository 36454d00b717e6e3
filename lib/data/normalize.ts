// Normalisation of rows: from what is stored to what a network reads, as the scale and shift of the gathering kernel.
import { invalid, is } from '../options.js'
import type { GatherSpec } from '../native.js'

/**
 * x = (scale * value - mean) / std, channel by channel; mean and std are one number for all channels or one for each.
 * `scale` is 1/255 for uint8 rows and 1 for float32 rows where it is left out, so that `{}` maps pictures to [0, 1].
 */
export interface Normalization {
  mean?: number | readonly number[]
  std?: number | readonly number[]
  scale?: number
}

function perChannel(value: unknown, name: string, fallback: number, channels: number): readonly number[] {
  if (value === undefined) return [fallback]
  const values: readonly unknown[] = Array.isArray(value) ? value : [value]
  const fits = values.length === 1 || values.length === channels
  if (!fits || !values.every(is.number)) throw invalid(name, `a number or ${channels} numbers (one a channel)`, value)
  return values
}

/** The kernel's scale and shift for rows of `shape`; rows that are not [C, H, W] are vectors. */
export function gatherSpec(
  shape: readonly number[],
  type: 'uint8' | 'float32',
  normalize: Normalization = {},
): GatherSpec {
  const image = shape.length === 3
  const channels = image ? shape[0] : shape.reduce((a, b) => a * b, 1)
  const { scale: factor = type === 'uint8' ? 1 / 255 : 1 } = normalize
  if (!is.number(factor) || factor === 0) throw invalid('normalize.scale', 'a number other than 0', factor)
  const mean = perChannel(normalize.mean, 'normalize.mean', 0, channels)
  const std = perChannel(normalize.std, 'normalize.std', 1, channels)
  if (std.some((value) => value <= 0)) throw invalid('normalize.std', 'numbers above 0', normalize.std)
  const length = Math.max(mean.length, std.length)
  const at = (values: readonly number[], c: number) => values[values.length === 1 ? 0 : c]
  const scale = Float32Array.from({ length }, (_, c) => factor / at(std, c))
  const shift = Float32Array.from({ length }, (_, c) =>
    mean.length === 1 && mean[0] === 0 ? 0 : -at(mean, c) / at(std, c),
  )
  if (![...scale, ...shift].every(Number.isFinite)) throw invalid('normalize', 'values within float32', normalize)
  return { channels, height: image ? shape[1] : 1, width: image ? shape[2] : 1, pad: 0, scale, shift }
}
