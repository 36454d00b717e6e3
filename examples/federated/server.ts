// The server's side: asks the clients, adds up what they send, and averages what they trained. It never sees a row.
import { fork, type ChildProcess } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { federatedAverage, mergeStatistics, type ChannelStatistics, type FederatedUpdate } from '../../lib/index.js'
import type { Answer, Request } from './client.js'
import { clients, type Size } from './share.js'

export class Clients {
  readonly #processes: ChildProcess[]
  readonly #folder: string

  constructor(size: Size, folder: string) {
    this.#folder = folder
    const file = fileURLToPath(new URL('client.ts', import.meta.url))
    // Ten processes share the machine: a thread each.
    const env = { ...process.env, OMP_NUM_THREADS: '1' }
    this.#processes = Array.from({ length: clients }, (_, i) => fork(file, [String(i), size], { env }))
  }

  #ask(client: number, request: Request): Promise<Answer> {
    const child = this.#processes[client]
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`client ${client} ended with ${code}`))
      child.once('exit', ended)
      child.once('message', (answer: Answer) => {
        child.off('exit', ended)
        if ('error' in answer) reject(new Error(`client ${client}: ${answer.error}`))
        else resolve(answer)
      })
      child.send(request)
    })
  }

  /** Every client's statistics of the model at that path, added up. */
  async statistics(model: string): Promise<ChannelStatistics> {
    const answers = await Promise.all(this.#processes.map((_, i) => this.#ask(i, { ask: 'statistics', model })))
    return mergeStatistics(answers.map((answer) => (answer as { statistics: ChannelStatistics }).statistics))
  }

  /** Rounds of federated averaging without the class; gives the last round's weights. */
  async train(model: string, rounds: number): Promise<Uint8Array> {
    let weights: string | null = null
    let averaged = new Uint8Array()
    for (let round = 0; round < rounds; round++) {
      const paths = this.#processes.map((_, i) => join(this.#folder, `client-${i}.safetensors`))
      const from: string | null = weights
      const answers = await Promise.all(
        paths.map((answer, i) => this.#ask(i, { ask: 'train', model, weights: from, answer, seed: round })),
      )
      const updates: FederatedUpdate[] = []
      for (const [i, answer] of answers.entries()) {
        const { rows } = answer as { rows: number }
        if (rows > 0) updates.push({ weights: await readFile(paths[i]), rows })
      }
      averaged = new Uint8Array(federatedAverage(updates))
      weights = join(this.#folder, 'round.safetensors')
      await writeFile(weights, averaged)
    }
    return averaged
  }

  end(): void {
    for (const child of this.#processes) child.kill()
  }
}
