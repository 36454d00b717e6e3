// Products of a small network under settings, in a process of its own: node compute.mjs SETTINGS. Prints a digest of the
// bits and the values, as JSON.
import { createHash } from 'node:crypto'
import { configure, Model, networks, settings } from '../../dist/index.js'

const given = JSON.parse(process.argv[2])
const info = await configure(given)
const model = Model.fromNetwork(networks.convnet({ seed: 1 }), { device: 'cpu' })
const width = 3 * 32 * 32
const inputs = Float32Array.from({ length: 4 * width }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5)
const batch = { inputs, labels: Int32Array.of(1, 0, 3, 2) }

async function products() {
  const hash = createHash('sha256')
  const values = []
  for (const precision of ['float32', 'float64']) {
    const logits = await model.evaluate(batch, { precision })
    hash.update(new Uint8Array(logits.buffer))
    values.push(...logits)
    for (const product of ['gradient', 'fisherDiagonal']) {
      const result = await model[product](batch, { precision })
      for (const { name } of model.parameters) {
        const part = result.get(name)
        hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
      }
      values.push(await result.norm())
    }
  }
  return { digest: hash.digest('hex'), values }
}

const [first, second] = [await products(), await products()]
const late = await configure({
  instructionSet: settings().instructionSets.find((set) => set !== info.instructionSet),
})
  .then(() => 'taken')
  .catch((error) => error.code)
console.log(JSON.stringify({ info, ...first, again: second.digest, late, after: settings().instructionSet }))
