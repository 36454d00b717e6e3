// Safetensors: round trips, every type, and headers that lie.
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { PalimpsestError, type ErrorCode } from '../lib/errors.js'
import { readSafetensors, readTypedSafetensors, writeSafetensors } from '../lib/safetensors.js'

/** A file of a header, written as text or JSON, and data. */
function file(header: unknown, data: ArrayLike<number> = []): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const bytes = new Uint8Array(8 + json.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
  bytes.set(json, 8)
  bytes.set(data, 8 + json.length)
  return bytes
}

function refused(bytes: Uint8Array, message: RegExp, code: ErrorCode = 'ERR_MODEL_FORMAT'): void {
  expect(() => readSafetensors(bytes)).toThrow(PalimpsestError)
  expect(() => readSafetensors(bytes)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
  )
}

describe('files', () => {
  it('come back as they were written, with metadata', () => {
    const tensors = new Map([
      ['bytes', { shape: [3], data: Uint8Array.of(1, 2, 3) }],
      ['a.weight', { shape: [2, 3], data: Float32Array.from({ length: 6 }, (_, i) => i / 7) }],
      ['scalar', { shape: [], data: Float64Array.of(Math.PI) }],
      ['labels', { shape: [2], data: BigInt64Array.of(-1n, 2n ** 60n) }],
      ['empty', { shape: [0, 4], data: new Float32Array() }],
      ['counts', { shape: [2], data: Int32Array.of(-5, 7) }],
    ])
    const bytes = writeSafetensors(tensors, { format: 'test', name: 'Käse' })
    const back = readTypedSafetensors(bytes)
    expect(back.tensors).toEqual(tensors)
    expect(back.metadata).toEqual({ format: 'test', name: 'Käse' })
    expect(readTypedSafetensors(Buffer.concat([Buffer.alloc(3), bytes]).subarray(3)).tensors).toEqual(tensors)
  })

  it('of PyTorch are read: float32, and labels in int64 as numbers', async () => {
    const { tensors } = readSafetensors(await readFile(new URL('fixtures/tied.safetensors', import.meta.url)))
    expect(tensors.get('x')!.shape).toEqual([5, 4, 4, 6])
    expect([...tensors.get('y')!.data].every((v) => Number.isInteger(v) && v >= 0 && v < 6)).toBe(true)
  })

  it('of half precision are widened', () => {
    const header = {
      h: { dtype: 'F16', shape: [2], data_offsets: [0, 4] },
      b: { dtype: 'BF16', shape: [1], data_offsets: [4, 6] },
    }
    const { tensors } = readSafetensors(file(header, [0x00, 0x3c, 0x00, 0xc1, 0x40, 0x40]))
    expect([...tensors.get('h')!.data]).toEqual([1, -2.5])
    expect([...tensors.get('b')!.data]).toEqual([3])
  })

  it('are not written from data that do not fit', () => {
    expect(() => writeSafetensors(new Map([['a', { shape: [2], data: new Float32Array(3) }]]))).toThrow(
      /expected data for shape \[2\], got 3/,
    )
  })
})

describe('files that are refused', () => {
  const entry = (shape: unknown, begin: unknown, end: unknown, dtype: unknown = 'F32') => ({
    dtype,
    shape,
    data_offsets: [begin, end],
  })

  it('truncated, or no safetensors at all', () => {
    const whole = writeSafetensors(new Map([['a', { shape: [4], data: new Float32Array(4) }]]), { k: 'v' })
    for (let length = 0; length < whole.length; length++) refused(whole.subarray(0, length), /safetensors/)
    refused(new Uint8Array([...whole, 0]), /expected 16 bytes of data, got 17/)
    refused(new Uint8Array(100).fill(255), /expected a header of at most/)
    refused(file('[1, 2]'), /JSON object/)
    refused(file('{"a": '), /JSON/)
    refused(file('null'), /JSON object/)
  })

  it('names twice, offsets that overlap, leave holes or do not fit', () => {
    const text = JSON.stringify(entry([1], 0, 4))
    refused(file(`{"a": ${text}, "a": ${text}}`, [0, 0, 0, 0]), /every name once/)
    refused(file({ a: entry([1], 0, 4), b: entry([1], 0, 4) }, [0, 0, 0, 0]), /expected "b" to begin at 4, got 0/)
    refused(file({ a: entry([1], 4, 8) }, new Uint8Array(8)), /begin at 0, got 4/)
    refused(file({ a: entry([2], 0, 4) }, new Uint8Array(4)), /take 8 bytes/)
    refused(file({ a: entry([1], 0, 4) }), /expected 4 bytes of data, got 0/)
    refused(file({ a: entry([-1], 0, -4) }), /whole numbers/)
    refused(file({ a: entry([1.5], 0, 6) }, new Uint8Array(6)), /whole numbers/)
    refused(file({ a: entry([2 ** 40, 2 ** 40], 0, 4) }), /take/)
    refused(file({ a: entry('x', 0, 4) }), /whole numbers/)
    refused(file({ a: null }), /got undefined/, 'ERR_UNSUPPORTED')
    refused(file({ a: entry([1], 0, 1, 'F8_E4M3') }, [0]), /got F8_E4M3/, 'ERR_UNSUPPORTED')
    refused(file({ __metadata__: { a: 1 } }), /map names to strings/)
  })

  it('integers that float32 cannot hold', () => {
    const bytes = writeSafetensors(new Map([['i', { shape: [1], data: BigInt64Array.of(2n ** 24n + 1n) }]]))
    refused(bytes, /"i"/, 'ERR_UNSUPPORTED')
    expect(readTypedSafetensors(bytes).tensors.get('i')!.data[0]).toBe(2n ** 24n + 1n)
  })
})
