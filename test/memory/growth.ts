// Memory of products over few and many rows, in a process of its own: prints bytes gained from one to the other.
import { Dataset, Model, networks } from '../../lib/index.js'

const width = 8
const model = Model.fromNetwork(networks.mlp({ inputShape: [width], hidden: [6], classes: 2, seed: 1 }))
const v = model.vector({ 'fc1.weight': new Float32Array(6 * width).fill(0.1) })

function rowsOf(count: number): Dataset {
  const inputs = Float32Array.from({ length: count * width }, (_, i) => Math.sin(i))
  return Dataset.fromArrays({ inputs, labels: new Int32Array(count), shape: [width], classes: 2 })
}

const products: ((data: Dataset) => Promise<unknown>)[] = [
  async (data) => (await model.gradient(data)).dispose(),
  async (data) => (await model.ggnProduct(data, v)).dispose(),
  async (data) => (await model.hessianProduct(data, v)).dispose(),
  async (data) => (await model.fisherDiagonal(data, { type: 'exact' })).dispose(),
  (data) => model.measure(data),
]

/** Resident bytes once garbage is gone. */
async function resident(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return process.memoryUsage.rss()
}

const few = rowsOf(1000)
const many = rowsOf(100_000)
// As much work as there will be, so that the garbage collector has its space.
for (let i = 0; i < 100; i++) for (const product of products) await product(few)
const before = await resident()
let most = before
for (const product of products) {
  await product(many)
  most = Math.max(most, await resident())
}
console.log(most - before)
few.dispose()
many.dispose()
