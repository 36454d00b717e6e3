// Windows of convolutions and pools.

/** Positions that a window of `kernel` taps spans: (kernel - 1) dilation + 1. */
export function windowExtent(kernel: number, dilation: number): number {
  return (kernel - 1) * dilation + 1
}
