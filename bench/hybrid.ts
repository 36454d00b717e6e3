// Both arms of forget() on records: npx tsx bench/hybrid.ts, followed by
//   grid [rows] [sizes, or 'all'] [JSON file]
//   table [mnist | CIFAR FOLDER] [rows] [epochs] [shards] [slices] [request sizes] [JSON file]
//   parts [rows] [sizes]
//   amend [mnist | CIFAR FOLDER] [rows] [epochs] [shards] [slices] [request sizes] [seeds]
//   plot SVG-FILE JSON-FILE ...
import { amendTable } from './hybrid/amend.js'
import { grid } from './hybrid/grid.js'
import { partsTable } from './hybrid/parts.js'
import { cifar, mnist, removeAll } from './hybrid/setup.js'
import { table } from './hybrid/table.js'

// Records are trained by one thread, in this process too. Read before the engine starts its threads.
process.env.OMP_NUM_THREADS ??= '1'

const [what = 'table', ...given] = process.argv.slice(2)
const list = (text: string) => text.split(',').map(Number)
try {
  if (what === 'grid') {
    const [rows = '4000', sizes = 'all', keep] = given
    await grid(Number(rows), sizes === 'all' ? undefined : list(sizes), keep)
  } else if (what === 'parts') {
    const [rows = '4000', sizes = '400,40'] = given
    await partsTable(Number(rows), list(sizes))
  } else if (what === 'plot') {
    const { plot } = await import('./hybrid/plot.js')
    const [to, ...files] = given
    plot(files, to)
  } else {
    const [data = 'mnist', rows = '4000', epochs = '6', shards = '1', slices = '1', sizes = '1,10,100', last] = given
    const setup = data === 'mnist' ? await mnist(Number(rows)) : await cifar(data, Number(rows))
    const shape = { shards: Number(shards), slices: Number(slices), epochs: Number(epochs) }
    if (setup === undefined) console.log(`skipped: '${data}' does not hold CIFAR-10's six .bin files`)
    else if (what === 'amend') await amendTable(setup, shape, list(sizes), list(last ?? '1'))
    else await table(setup, shape, list(sizes), last)
  }
} finally {
  removeAll()
}
