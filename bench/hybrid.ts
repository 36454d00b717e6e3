// Both arms of forget() on records: npx tsx bench/hybrid.ts, followed by
//   grid [rows] [sizes] [JSON file]
//   table [mnist | CIFAR FOLDER] [rows] [epochs] [shards] [slices] [request sizes] [JSON file]
//   parts [rows] [sizes]
//   plot SVG-FILE JSON-FILE ...
import { grid } from './hybrid/grid.js'
import { partsTable } from './hybrid/parts.js'
import { cifar, mnist, removeAll } from './hybrid/setup.js'
import { table } from './hybrid/table.js'

const [what = 'table', ...given] = process.argv.slice(2)
const list = (text: string) => text.split(',').map(Number)
try {
  if (what === 'grid') {
    const [rows = '4000', sizes = '1,10,100,400', keep] = given
    await grid(Number(rows), list(sizes), keep)
  } else if (what === 'parts') {
    const [rows = '4000', sizes = '400,40'] = given
    await partsTable(Number(rows), list(sizes))
  } else if (what === 'plot') {
    const { plot } = await import('./hybrid/plot.js')
    const [to, ...files] = given
    plot(files, to)
  } else {
    const [data = 'mnist', rows = '4000', epochs = '6', shards = '1', slices = '1', sizes = '1,10,100', keep] = given
    const setup = data === 'mnist' ? await mnist(Number(rows)) : await cifar(data, Number(rows))
    const shape = { shards: Number(shards), slices: Number(slices), epochs: Number(epochs) }
    if (setup === undefined) console.log(`skipped: '${data}' does not hold CIFAR-10's six .bin files`)
    else await table(setup, shape, list(sizes), keep)
  }
} finally {
  removeAll()
}
