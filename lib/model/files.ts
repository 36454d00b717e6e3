// Files: read with coded errors, written whole or not at all.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PalimpsestError } from '../errors.js'
import { invalid, is } from '../options.js'

/** A copy of the bytes as they are now, or those of a regular file. ERR_IO names the path. */
export async function readBytes(source: string | URL | Uint8Array): Promise<Uint8Array> {
  // An array that was given away has no bytes, and no copy.
  if (source instanceof Uint8Array) return source.length > 0 ? new Uint8Array(source) : new Uint8Array()
  if (!(is.string(source) || source instanceof URL))
    throw invalid('source', 'a path, a file URL or a Uint8Array', source)
  try {
    // Not blocking: a named pipe is refused instead of waited for.
    const file = await open(source, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    try {
      if (!(await file.stat()).isFile()) throw new Error('expected a regular file, got something else')
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not read '${String(source)}': ${message}`, { cause })
  }
}

/** Writes beside the path, flushes, renames over it, then flushes the folder; `mode` as open() takes it. ERR_IO names the path. */
export async function writeFileAtomically(path: string, bytes: Uint8Array, mode?: number): Promise<void> {
  if (!is.string(path) || path === '') throw invalid('path', 'a path', path)
  const beside = `${path}.${randomBytes(6).toString('hex')}.part`
  try {
    const file = await open(beside, 'wx', mode)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
    await syncFolder(dirname(path))
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => undefined)
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not write '${path}': ${message}`, { cause })
  }
}

/** Makes what was renamed, linked or removed in a folder outlast a loss of power, where the system can do that. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows opens no folders, and some network file systems flush none.
  const unsupported = ['EISDIR', 'EPERM', 'EINVAL', 'ENOTSUP', 'EACCES']
  try {
    const handle = await open(folder, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (!unsupported.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
