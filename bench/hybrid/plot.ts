// Draws kept tables of both arms: how many times faster than training anew, and accuracy, over the size of a request.
import * as echarts from 'echarts'
import { readFileSync, writeFileSync } from 'node:fs'
import type { Kept, Line } from './table.js'

/** One colour-blind safe hue an arm (Okabe and Ito). Training anew has the exact arm's bits, and so its accuracy. */
const colours = { exact: '#0072b2', direct: '#d55e00' }
const arms = ['exact', 'direct'] as const
const width = 460
const height = 300
const gap = { left: 60, top: 70, between: 70, bottom: 60 }

interface Panel {
  title: string
  axis: string
  series: { name: keyof typeof colours; values: [number, number][] }[]
  log: boolean
}

/** Two panels a table: speed-up in processor seconds, accuracy. */
function panelsOf({ name, size, shape, lines }: Kept): Panel[] {
  const title = `${name}, ${size} rows, ${shape.shards} x ${shape.slices}`
  const of = (arm: Line['arm'], value: (line: Line, anew: Line) => number) =>
    lines
      .filter((line) => line.arm === arm)
      .map((line): [number, number] => {
        const anew = lines.find((each) => each.rows === line.rows && each.arm === 'anew') ?? line
        return [line.rows, value(line, anew)]
      })
      .sort(([a], [b]) => a - b)
  const faster = (line: Line, anew: Line) => Number((anew.processor / line.processor).toFixed(2))
  const percent = (line: Line) => Number((100 * line.accuracy).toFixed(2))
  return [
    {
      title,
      axis: 'times faster than anew',
      log: true,
      series: arms.map((arm) => ({ name: arm, values: of(arm, faster) })),
    },
    {
      title,
      axis: 'accuracy, %',
      log: false,
      series: arms.map((arm) => ({ name: arm, values: of(arm, percent) })),
    },
  ]
}

/** The tables in files that table() kept, as one SVG: a row a table. */
export function plot(files: readonly string[], to: string): void {
  const panels = files.flatMap((file) => (JSON.parse(readFileSync(file, 'utf8')) as Kept[]).flatMap(panelsOf))
  const [columns, rows] = [2, Math.ceil(panels.length / 2)]
  const chart = echarts.init(null, null, {
    renderer: 'svg',
    ssr: true,
    width: columns * width,
    height: rows * height + gap.top,
  })
  const place = (i: number) => ({
    left: (i % columns) * width + gap.left,
    top: Math.floor(i / columns) * height + gap.top,
    width: width - gap.between - gap.left / 2,
    height: height - gap.top - gap.bottom / 2,
  })
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    legend: { top: 8, data: Object.keys(colours) },
    title: panels.map(({ title, axis }, i) => ({
      text: title,
      subtext: axis,
      left: place(i).left,
      top: place(i).top - 44,
      itemGap: 2,
      textStyle: { fontSize: 13 },
    })),
    grid: panels.map((_, i) => place(i)),
    xAxis: panels.map((_, i) => ({
      gridIndex: i,
      type: 'log',
      name: 'rows revoked',
      nameLocation: 'middle',
      nameGap: 24,
    })),
    yAxis: panels.map(({ log }, i) => ({ gridIndex: i, type: log ? 'log' : 'value', logBase: 2, scale: true })),
    series: panels.flatMap(({ series }, i) =>
      series.map(({ name, values }) => ({
        name,
        type: 'line',
        xAxisIndex: i,
        yAxisIndex: i,
        data: values,
        symbolSize: 7,
        itemStyle: { color: colours[name] },
        lineStyle: { color: colours[name] },
      })),
    ),
  })
  writeFileSync(to, `${chart.renderToSVGString()}\n`)
  chart.dispose()
}
