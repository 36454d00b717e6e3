// The benchmarks' tables, as Markdown: what a terminal shows can be copied into the documentation.

/** Columns are padded to one width; the first `left` columns stand to the left, the others to the right. */
export function markdown(head: readonly string[], rows: readonly (readonly string[])[], left = 1): string {
  const widths = head.map((title, i) => Math.max(title.length, 3, ...rows.map((row) => row[i].length)))
  const pad = (text: string, i: number) => (i < left ? text.padEnd(widths[i]) : text.padStart(widths[i]))
  const line = (cells: readonly string[]) => `| ${cells.map(pad).join(' | ')} |`
  const rule = widths.map((width, i) => (i < left ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}
