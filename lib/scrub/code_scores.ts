// What a model answers on the mnemonic codes: all that the method knows of the harm that it does.

/** What a model answers on the codes. */
export interface CodeScores {
  /** Share of the other classes' codes that are right, and whether the destroyed class's is wrong: A_R + E_F, 0 to 2. */
  score: number
  /** Logit of the own class minus the largest other one, a code a class. */
  margins: number[]
  /** Cross-entropies of the codes. */
  losses: number[]
}

/**
 * Scores of the logits of all codes.
 *
 * @param logits - [K, K], the codes in the order of their classes
 * @param label - the class that is destroyed
 */
export function scoresOf(logits: Float32Array, classes: number, label: number): CodeScores {
  const margins: number[] = []
  const losses: number[] = []
  for (let c = 0; c < classes; c++) {
    const row = logits.subarray(c * classes, (c + 1) * classes)
    const other = row.reduce((best, value, j) => (j === c || value < best ? best : value), -Infinity)
    const most = Math.max(other, row[c])
    margins.push(row[c] - other)
    losses.push(most - row[c] + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0)))
  }
  const right = margins.filter((margin, c) => c !== label && margin > 0).length
  return { score: right / (classes - 1) + Number(margins[label] <= 0), margins, losses }
}

/** Of a model whose logits overflow. */
export function worstScores(classes: number): CodeScores {
  return {
    score: 0,
    margins: new Array<number>(classes).fill(-Infinity),
    losses: new Array<number>(classes).fill(Infinity),
  }
}

/** Mean margin of all codes, in magnitude: the scale that a margin is asked for in. */
export function scaleOf({ margins }: CodeScores): number {
  return margins.reduce((sum, margin) => sum + Math.abs(margin), 0) / margins.length
}

/** Mean loss of the codes of the other classes. */
export function retainLossOf({ losses }: CodeScores, label: number): number {
  const others = losses.filter((_, c) => c !== label)
  return others.reduce((sum, loss) => sum + loss, 0) / others.length
}

/** Mean margin of the codes of the other classes. */
export function othersMargin({ margins }: CodeScores, label: number): number {
  const others = margins.filter((_, c) => c !== label)
  return others.reduce((sum, margin) => sum + margin, 0) / others.length
}
