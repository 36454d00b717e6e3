// The peer: a Python process with PyTorch that times one repetition on request, so that ours and its own alternate.
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Sample } from './statistics.js'
import type { Place } from './workload.js'

const script = fileURLToPath(new URL('./peers/serve.py', import.meta.url))

/** What the peer answers to each request; bench/peers/serve.py says what it does. */
interface Replies {
  load: object
  prepare: {
    way: string
    tried: [string, number][]
    failed: [string, string][]
    /** Highest resident memory over what it had before, bytes; null where the system does not tell. */
    memory: number | null
  }
  time: Sample
  result: { values: number }
}

/** Why there is no peer: told in its column, never a failure. */
export interface NoPeer {
  reason: string
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

export class Peer {
  /** Library and version. */
  readonly name: string
  readonly #process: Child
  readonly #lines: AsyncIterator<string>

  private constructor(name: string, child: Child, lines: AsyncIterator<string>) {
    this.name = name
    this.#process = child
    this.#lines = lines
  }

  /** `python` with torch importable; both sides have the same number of threads, which sleep while they wait. */
  static async start(python: string, threads: number, { device, precision }: Place): Promise<Peer | NoPeer> {
    const env = { ...process.env, OMP_WAIT_POLICY: 'passive', OMP_NUM_THREADS: String(threads) }
    const child = spawn(python, ['-B', '-u', '-W', 'ignore', script, String(threads), device, precision ?? 'float32'], {
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let complaints = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints = (complaints + text).slice(-4000)))
    child.stdin.on('error', () => undefined) // a peer that ends is seen as the end of its lines
    const failed = new Promise<string>((resolve) => child.once('error', (error) => resolve(error.message)))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const first = await Promise.race([failed, lines.next()])
    if (typeof first === 'string') return { reason: first }
    if (first.done) return { reason: complaints.trim().split('\n').at(-1) || `${python} ended without a word` }
    const { peer } = JSON.parse(first.value) as { peer: string }
    return new Peer(peer, child, lines)
  }

  async ask<Kind extends keyof Replies>(kind: Kind, request: object = {}): Promise<Replies[Kind]> {
    this.#process.stdin.write(`${JSON.stringify({ do: kind, ...request })}\n`)
    const line = await this.#lines.next()
    if (line.done) throw new Error(`expected an answer to '${kind}', got the end of the peer's process`)
    const reply = JSON.parse(line.value) as Replies[Kind] & { error?: string }
    if (reply.error !== undefined) throw new Error(reply.error)
    return reply
  }

  stop(): void {
    this.#process.stdin.end()
    this.#process.kill()
  }
}
