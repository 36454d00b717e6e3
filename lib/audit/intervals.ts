// Exact confidence intervals of shares (Clopper and Pearson 1934), by bisection of binomial tails.

export type Interval = [low: number, high: number]

/** P(X >= k) for X ~ Binomial(n, p), summed from its largest term in logarithms. */
function upperTail(k: number, n: number, p: number): number {
  if (k <= 0 || p >= 1) return 1
  if (p <= 0) return 0
  // The smaller tail is summed, so that nothing cancels.
  if (k > n * p) return tailSum(k, n, p)
  return 1 - tailSum(n - k + 1, n, 1 - p)
}

/** P(X >= k) where the terms fall from k on. */
function tailSum(k: number, n: number, p: number): number {
  let log = k * Math.log(p) + (n - k) * Math.log1p(-p)
  for (let i = 1; i <= Math.min(k, n - k); i++) log += Math.log((n - i + 1) / i)
  let term = Math.exp(log)
  let sum = term
  for (let i = k; i < n && term > sum * 1e-17; i++) sum += term *= ((n - i) / (i + 1)) * (p / (1 - p))
  return sum
}

/** The p in [0, 1] where an increasing function reaches `target`. */
function solve(target: number, of: (p: number) => number): number {
  let [low, high] = [0, 1]
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (of(middle) < target) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** The interval of a share of which k of n trials were hits, covering it with probability `confidence` or more. */
export function clopperPearson(k: number, n: number, confidence: number): Interval {
  const tail = (1 - confidence) / 2
  const low = k === 0 ? 0 : solve(tail, (p) => upperTail(k, n, p))
  const high = k === n ? 1 : solve(1 - tail, (p) => upperTail(k + 1, n, p))
  return [low, high]
}

/** Where two intervals leave no doubt: -1 the first lies below, 1 above, 0 they overlap. */
export function compare([low, high]: Interval, [otherLow, otherHigh]: Interval): -1 | 0 | 1 {
  return high < otherLow ? -1 : low > otherHigh ? 1 : 0
}
