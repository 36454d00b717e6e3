// Eigenvalues of small symmetric matrices by Jacobi's rotations: the few numbers of a Krylov space need no library.

/** U diag(bound(lambda)) U^T of a symmetric matrix U diag(lambda) U^T. */
export function mapEigenvalues(matrix: readonly (readonly number[])[], bound: (lambda: number) => number): number[][] {
  const n = matrix.length
  const a = matrix.map((row) => [...row])
  const u = a.map((_, i) => a.map((__, j) => Number(i === j)))
  const off = () => a.reduce((sum, row, i) => sum + row.reduce((s, x, j) => s + (i === j ? 0 : x * x), 0), 0)
  const whole = a.flat().reduce((sum, x) => sum + x * x, 0)
  for (let sweep = 0; sweep < 50 && off() > 1e-30 * whole; sweep++) {
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) if (a[p][q] !== 0) rotate(a, u, p, q)
  }
  const values = a.map((row, i) => bound(row[i]))
  return u.map((left) => u.map((right) => values.reduce((sum, value, k) => sum + value * left[k] * right[k], 0)))
}

/** Makes a[p][q] zero (Golub and Van Loan 2013, section 8.5.2). */
function rotate(a: number[][], u: number[][], p: number, q: number): void {
  const theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1))
  const c = 1 / Math.hypot(t, 1)
  const s = t * c
  for (const rows of [a, u]) {
    for (const row of rows) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]]
  }
  const [first, second] = [a[p], a[q]]
  a[p] = first.map((x, j) => c * x - s * second[j])
  a[q] = first.map((x, j) => s * x + c * second[j])
}
