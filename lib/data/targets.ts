// Targets of a batch from its labels: one-hot, scaled or smoothed.

export interface TargetOptions {
  /** The target of the right class; the others' is 0. */
  scale?: number
  /** Label smoothing s: (1 - s) one-hot + s / K (Szegedy et al. 2016, section 7). */
  smoothing?: number
}

/** Targets [rows, K] for labels [rows], into `target` where one is given (native calls copy it before they return). */
export function oneHot(
  labels: Int32Array,
  classes: number,
  { scale = 1, smoothing = 0 }: TargetOptions = {},
  target: Float32Array = new Float32Array(labels.length * classes),
): Float32Array {
  const others = (scale * smoothing) / classes
  const right = scale * (1 - smoothing) + others
  const used = target.subarray(0, labels.length * classes).fill(others)
  labels.forEach((label, i) => {
    used[i * classes + label] = right
  })
  return used
}
