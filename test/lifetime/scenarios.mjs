// Lives and deaths of environments, each run in a process of its own: node scenarios.mjs NAME. Prints what it did.
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const path = fileURLToPath(new URL('../../build/Release/palimpsest.node', import.meta.url))
const load = () => createRequire(import.meta.url)(path)
const say = (...words) => console.log(...words)

/** y = ((x w1^T) w2^T) ..., `layers` square layers of `width`; one parameter each, all entries `value`. */
function chain(addon, width, layers, value) {
  const leaves = [{ kind: 'input', id: 0 }]
  const nodes = []
  const values = {}
  for (let layer = 0; layer < layers; layer++) {
    leaves.push({ kind: 'parameter', id: 1 + layer, name: `w${layer}`, shape: [width, width] })
    values[`w${layer}`] = new Float32Array(width * width).fill(value)
    nodes.push({
      op: 'MatMul',
      inputs: [layer === 0 ? 0 : layers + layer, 1 + layer],
      outputs: [layers + 1 + layer],
      attributes: { transB: true },
    })
  }
  const description = { inputShape: [width], classes: width, leaves, nodes, output: 2 * layers }
  const network = new addon.Network(description, 'cpu')
  return { network, parameters: new addon.Vector(network, 'float32', values) }
}

/** A program whose every run takes a good while, and a function that queues a run. */
async function heavy(addon) {
  const width = 1024
  const batch = 2048
  const { network, parameters } = chain(addon, width, 4, 1 / width)
  const program = await addon.createProgram(network, { quantity: 'evaluate', batch })
  const inputs = new Float32Array(batch * width).fill(1)
  const run = () => program.run({ rows: batch, inputs, parameters })
  return { network, parameters, run }
}

/** A few small runs; the sum of all results, which is the same everywhere. */
async function small(addon) {
  const { network, parameters } = chain(addon, 8, 3, 0.25)
  const program = await addon.createProgram(network, { quantity: 'evaluate', batch: 4 })
  let sum = 0
  for (let i = 1; i <= 5; i++) {
    const [y] = await program.run({ rows: 3, inputs: new Float32Array(24).fill(i), parameters })
    sum += y.reduce((a, b) => a + b, 0)
  }
  return sum
}

const expectedSum = 15 * 24 * 8

/** A worker that runs `scenario` of this file; resolves with its exit code. */
function worker(scenario) {
  const thread = new Worker(new URL(import.meta.url), { workerData: scenario })
  thread.on('error', (error) => say('worker error', error.message))
  const exited = new Promise((resolve) => thread.on('exit', resolve))
  const said = (word) =>
    new Promise((resolve) => thread.on('message', (message) => message === word && resolve(undefined)))
  return { thread, exited, said }
}

/** Queues several runs and comes back while the first of them is running. */
async function midStep(addon) {
  const { run, parameters } = await heavy(addon)
  await run()
  const pending = [run(), run(), run()]
  await sleep(5)
  return { pending, parameters }
}

/** Starts a worker that is in the middle of a step, ends it, and works on. */
async function endWorker(scenario, end) {
  const { thread, exited, said } = worker(scenario)
  await said('mid-step')
  await end(thread)
  say('worker ended', await exited)
}

const scenarios = {
  /** Nothing pending: the process ends by itself, undisposed handles and all. */
  async natural() {
    say('sum', (await small(load())) === expectedSum)
  },
  /** A promise that nobody awaits keeps the process alive until it is settled. */
  async unawaited() {
    const { run } = await heavy(load())
    void run().then(() => say('settled'))
  },
  async exit() {
    await midStep(load())
    process.exit(7)
  },
  /** As `exit`, but no 'exit' event is emitted. */
  async reallyExit() {
    await midStep(load())
    process.reallyExit(7)
  },
  /** As `reallyExit`, in the middle of the first step of all, which makes what libraries keep until the process ends. */
  async firstStep() {
    const [width, side, batch] = [64, 24, 64]
    const kernel = { strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 }
    const convs = 6
    const leaves = [{ kind: 'input', id: 0 }]
    const nodes = []
    for (let i = 0; i < convs; i++) {
      leaves.push({ kind: 'parameter', id: 1 + i, name: `w${i}`, shape: [width, width, 3, 3] })
      const attributes = i < convs - 1 ? kernel : { ...kernel, pads: [0, 0, 0, 0], strides: [side, side] }
      nodes.push({ op: 'Conv', inputs: [i === 0 ? 0 : convs + i, 1 + i], outputs: [convs + 1 + i], attributes })
    }
    const output = 2 * convs + 1
    nodes.push({ op: 'Reshape', inputs: [2 * convs], outputs: [output], attributes: { dims: [-1, width] } })
    const addon = load()
    const description = { inputShape: [width, side, side], classes: width, leaves, nodes, output }
    const network = new addon.Network(description, 'cpu')
    const parameters = new addon.Vector(network, 'float32')
    const program = await addon.createProgram(network, { quantity: 'evaluate', batch })
    void program.run({ rows: batch, inputs: new Float32Array(batch * width * side * side), parameters })
    await sleep(Number(process.argv[3]))
    process.reallyExit(7)
  },
  async throws() {
    await midStep(load())
    throw new Error('thrown in the middle of a step')
  },
  /** Listeners of 'exit' that come after the addon's: reads work, new steps are refused. */
  async exitListener() {
    const addon = load()
    const { parameters } = await midStep(addon)
    const write = parameters.fill(3)
    write.catch(() => {})
    process.on('exit', () => {
      say('read', parameters.get('w0').length)
      try {
        parameters.scale(2)
      } catch (error) {
        say('refused', error.code)
      }
    })
    process.exit(7)
  },
  async terminate() {
    await endWorker('steps', (thread) => thread.terminate())
    say('sum', (await small(load())) === expectedSum)
  },
  /** A worker that calls the addon without pause is in the middle of a call when it is terminated. */
  async terminateCalls() {
    for (let i = 0; i < 8; i++) await endWorker('calls', (thread) => sleep(3 * i).then(() => thread.terminate()))
    say('sum', (await small(load())) === expectedSum)
  },
  async workerExits() {
    await endWorker('steps', (thread) => thread.postMessage('exit'))
    say('sum', (await small(load())) === expectedSum)
  },
  /** The addon is loaded by workers alone, one after another: it must stay in memory in between. */
  async workersAlone() {
    for (let i = 0; i < 3; i++) {
      await endWorker('steps', (thread) => thread.terminate())
      const { exited, said } = worker('small')
      await said(`sum ${expectedSum}`)
      say('next worker', await exited)
    }
  },
  /** The process leaves while a worker, which alone loaded the addon, is in a step. */
  async exitBesideWorker() {
    await endWorker('steps', () => process.exit(7))
  },
  async manyWorkers() {
    const all = Array.from({ length: 4 }, () => worker('small'))
    const sums = Promise.all(all.map(({ said }) => said(`sum ${expectedSum}`)))
    say('main', (await small(load())) === expectedSum)
    await sums
    say('workers', (await Promise.all(all.map(({ exited }) => exited))).join(' '))
  },
  /** Two loads in one environment: handles of one work with the other. */
  async loadTwice() {
    const first = load()
    const require = createRequire(import.meta.url)
    delete require.cache[path]
    const second = load()
    say('apart', first !== second && first.Vector !== second.Vector)
    const { network, parameters } = chain(first, 8, 2, 0.25)
    const copy = new second.Vector(network, 'float64')
    await copy.copyFrom(parameters)
    say(
      'equal',
      copy.get('w1').every((value) => value === 0.25),
    )
    say('sums', (await small(first)) === expectedSum, (await small(second)) === expectedSum)
  },
  /** Handles that only queued steps hold survive garbage collection until those are over. */
  async garbage() {
    const addon = load()
    const queueTwo = async () => {
      const { run } = await heavy(addon)
      return [run(), run()]
    }
    const pending = await queueTwo()
    for (let i = 0; i < 5; i++) {
      globalThis.gc()
      await sleep(1)
    }
    const results = await Promise.all(pending)
    say(
      'values',
      results.every(([y]) => y.every((value) => Math.abs(value - 1) < 1e-3)),
    )
    globalThis.gc()
    await sleep(1)
    say('sum', (await small(addon)) === expectedSum)
  },
}

const inWorker = {
  async steps() {
    parentPort.on('message', () => process.exit(3))
    await midStep(load())
    parentPort.postMessage('mid-step')
    await sleep(600_000)
  },
  async calls() {
    const addon = load()
    const { network } = chain(addon, 8, 8, 0.25)
    parentPort.postMessage('mid-step')
    for (;;) {
      for (let i = 0; i < 50; i++) {
        const vector = new addon.Vector(network, 'float32')
        vector.scale(2).catch(() => {})
        vector.layout.map(({ name }) => vector.get(name))
        vector.dispose()
      }
      await sleep(0)
    }
  },
  async small() {
    parentPort.postMessage(`sum ${await small(load())}`)
  },
}

if (isMainThread) await scenarios[process.argv[2]]()
else await inWorker[workerData]()
