// The service over HTTP: POST /predict, DELETE /owners/:owner, GET /ledger.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { PalimpsestError } from '../../lib/index.js'
import type { Service } from './service.js'

const mostBytes = 8 * 2 ** 20

/** A request that is refused, with its status. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** An HTTP server for a service, not listening yet. `prepare` turns what clients send into what the network reads. */
export function makeServer(service: Service, prepare = (value: number): number => value): Server {
  return createServer((request, response) => {
    answer(service, prepare, request).then(
      (body) => send(response, 200, body),
      (error: unknown) => {
        const status = statusOf(error)
        if (status === 500) console.error(error)
        // What went wrong inside is the operator's to read.
        const message = status < 500 && error instanceof Error ? error.message : 'the request could not be carried out'
        send(response, status, { error: message })
      },
    )
  })
}

function statusOf(error: unknown): number {
  if (error instanceof Refusal) return error.status
  // Nothing was released and the model is as before: the client may ask again.
  if (error instanceof PalimpsestError && error.code === 'ERR_NOT_CONVERGED') return 503
  return 500
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}

async function answer(service: Service, prepare: (value: number) => number, request: IncomingMessage): Promise<object> {
  const { pathname } = new URL(request.url ?? '/', 'http://service')
  const [, first, second, ...more] = pathname.split('/')
  const is = (name: string, parts: number) =>
    first === name && more.length === 0 && (second !== undefined) === parts > 1
  if (is('predict', 1)) {
    requireMethod(request, 'POST')
    return predict(service, prepare, await readJson(request))
  }
  if (is('owners', 2)) {
    requireMethod(request, 'DELETE')
    const owner = decode(second)
    const record = await service.forgetOwner(owner)
    if (record === undefined) throw new Refusal(404, `no rows of owner '${owner}'`)
    return record
  }
  if (is('ledger', 1)) {
    requireMethod(request, 'GET')
    return service.ledger()
  }
  throw new Refusal(404, 'expected /predict, /owners/:owner or /ledger')
}

function requireMethod(request: IncomingMessage, method: string): void {
  if (request.method !== method) throw new Refusal(405, `expected ${method}, got ${request.method}`)
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new Refusal(400, 'expected an owner in percent-encoding')
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > mostBytes) throw new Refusal(413, `expected at most ${mostBytes} bytes`)
    pieces.push(piece)
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    throw new Refusal(400, 'expected JSON')
  }
}

/** { inputs: [[...], ...] }, a list of values a row. */
async function predict(service: Service, prepare: (value: number) => number, body: unknown): Promise<object> {
  const width = service.inputShape.reduce((a, b) => a * b, 1)
  const rows: unknown = typeof body === 'object' && body !== null && 'inputs' in body ? body.inputs : undefined
  const isRow = (row: unknown): row is number[] =>
    Array.isArray(row) && row.length === width && row.every((value) => Number.isFinite(value))
  if (!Array.isArray(rows) || rows.length === 0 || !rows.every(isRow)) {
    throw new Refusal(400, `expected { "inputs": [[...], ...] } with ${width} numbers in each row`)
  }
  const { outputs, release } = await service.predict(Float32Array.from(rows.flat(), prepare))
  const classes = outputs.map((row) => row.indexOf(Math.max(...row)))
  return { release, classes, outputs }
}
