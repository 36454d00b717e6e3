// Both arms of forget() on records: npx tsx bench/hybrid.ts grid [rows] [sizes], or npx tsx bench/hybrid.ts table [mnist|CIFAR
// FOLDER] [rows] [epochs] [shards] [slices] [request sizes].
import { grid } from './hybrid/grid.js'
import { cifar, mnist, removeAll } from './hybrid/setup.js'
import { table } from './hybrid/table.js'

const [what = 'table', ...given] = process.argv.slice(2)
const list = (text: string) => text.split(',').map(Number)
try {
  if (what === 'grid') {
    const [rows = '2000', sizes] = given
    await grid(Number(rows), sizes === undefined ? undefined : list(sizes))
  } else {
    const [data = 'mnist', rows = '4000', epochs = '6', shards = '1', slices = '1', sizes = '1,10,100'] = given
    const setup = data === 'mnist' ? await mnist(Number(rows)) : await cifar(data, Number(rows))
    const shape = { shards: Number(shards), slices: Number(slices), epochs: Number(epochs) }
    if (setup === undefined) console.log(`skipped: '${data}' does not hold CIFAR-10's six .bin files`)
    else await table(setup, shape, list(sizes))
  }
} finally {
  removeAll()
}
