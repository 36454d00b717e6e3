// Model files: reading a path, and weights that lie in other files beside it.
import { constants } from 'node:fs'
import { open, realpath, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { PalimpsestError } from '../errors.js'
import { elementBytes, shallow, tensorShape } from './tensors.js'
import { TensorProto_DataLocation, type ModelProto, type TensorProto } from './onnx_pb.js'
import type { Budget } from './budget.js'

/** @throws ERR_IO where the file cannot be read, ERR_OUT_OF_MEMORY above the budget */
export async function readModelFile(file: string, budget: Budget): Promise<Uint8Array> {
  return withFile(file, `model file "${file}"`, async (handle, size) => {
    budget.take(size, `model file "${file}"`)
    return readRange(handle, 0, size, `model file "${file}"`)
  })
}

/**
 * The model with the data of its external tensors (of the graph and of its Constant nodes) inside.
 * @param folder the model's folder; undefined where the model came as bytes
 * @throws ERR_MODEL_FORMAT where a location is missing, points outside the folder or past the end of its file
 */
export async function embedExternalData(
  model: ModelProto,
  folder: string | undefined,
  budget: Budget,
): Promise<ModelProto> {
  const graph = model.graph!
  if (!graph.initializer.some(isExternal)) return model
  if (folder === undefined) {
    const name = graph.initializer.find(isExternal)!.name
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `tensor "${name}": expected data inside the model, since it came as bytes; give its path`,
    )
  }
  const initializer: TensorProto[] = []
  for (const tensor of graph.initializer) {
    initializer.push(isExternal(tensor) ? await embedded(tensor, folder, budget) : tensor)
  }
  return Object.assign(shallow(model), { graph: Object.assign(shallow(graph), { initializer }) })
}

function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === TensorProto_DataLocation.EXTERNAL
}

async function embedded(tensor: TensorProto, folder: string, budget: Budget): Promise<TensorProto> {
  const what = `tensor "${tensor.name}"`
  const entries = new Map(tensor.externalData.map((entry) => [entry.key, entry.value]))
  const expected = tensorShape(tensor).reduce((a, b) => a * b, 1) * elementBytes(tensor)
  const offset = decimal(entries.get('offset') ?? '0', what, 'offset')
  const length = entries.has('length') ? decimal(entries.get('length')!, what, 'length') : expected
  if (length !== expected) {
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `${what}: expected ${expected} bytes of external data, got length ${length}`,
    )
  }
  const file = await insideFolder(entries.get('location') ?? '', folder, what)
  const rawData = await withFile(file, what, async (handle, size) => {
    if (offset + length > size) {
      throw new PalimpsestError(
        'ERR_MODEL_FORMAT',
        `${what}: expected bytes ${offset} to ${offset + length} of external data, got a file of ${size}`,
      )
    }
    budget.take(length, what)
    return readRange(handle, offset, length, what)
  })
  const copy = shallow(tensor)
  Reflect.deleteProperty(copy, 'dataLocation')
  return Object.assign(copy, { rawData, externalData: [] })
}

function decimal(text: string, what: string, key: string): number {
  const value = Number(text)
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value)) {
    throw new PalimpsestError('ERR_MODEL_FORMAT', `${what}: expected external ${key} as a whole number, got "${text}"`)
  }
  return value
}

/** The real path of an external file: below the model's folder, and no link out of it. */
async function insideFolder(location: string, folder: string, what: string): Promise<string> {
  const outside = (): PalimpsestError =>
    new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `${what}: expected external data inside the model's folder, got location "${location}"`,
    )
  if (!location || location.includes('\0') || path.isAbsolute(location) || path.win32.isAbsolute(location))
    throw outside()
  if (location.split(/[\\/]/).includes('..')) throw outside()
  try {
    const root = await realpath(folder)
    const file = await realpath(path.join(folder, location))
    if (!file.startsWith(root.endsWith(path.sep) ? root : root + path.sep)) throw outside()
    return file
  } catch (cause) {
    if (cause instanceof PalimpsestError) throw cause
    throw new PalimpsestError('ERR_IO', `${what}: expected external data at "${location}", got ${reason(cause)}`, {
      cause,
    })
  }
}

async function withFile<T>(
  file: string,
  what: string,
  use: (handle: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  let handle: FileHandle | undefined
  try {
    // Not blocking: a named pipe is refused below instead of waited for.
    handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const stat = await handle.stat()
    if (!stat.isFile())
      throw new PalimpsestError('ERR_IO', `${what}: expected a regular file, got something else at "${file}"`)
    return await use(handle, stat.size)
  } catch (cause) {
    if (cause instanceof PalimpsestError) throw cause
    throw new PalimpsestError('ERR_IO', `${what}: expected a readable file, got ${reason(cause)}`, { cause })
  } finally {
    await handle?.close()
  }
}

async function readRange(handle: FileHandle, offset: number, length: number, what: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 2 ** 30), offset + done)
    if (bytesRead === 0) throw new PalimpsestError('ERR_IO', `${what}: expected ${length} bytes, got ${done}`)
    done += bytesRead
  }
  return bytes
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
