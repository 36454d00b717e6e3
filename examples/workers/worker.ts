// A worker of the queue: tsx examples/workers/worker.ts PORT QUEUE. On another machine the record's folder is mounted.
import { bullmqWorker } from '../../lib/index.js'

const [port, queue] = process.argv.slice(2)
await bullmqWorker({ connection: { host: '127.0.0.1', port: Number(port) }, queue, lockDuration: 2000 })
process.send?.('ready')
// Whoever started it has gone.
process.on('disconnect', () => process.exit(0))
