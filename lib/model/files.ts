// Files: read with coded errors, written whole or not at all.
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { PalimpsestError } from '../errors.js'

/** Bytes as given, or of a file. ERR_IO names the path. */
export async function readBytes(source: string | URL | Uint8Array): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source
  try {
    return await readFile(source)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not read '${String(source)}': ${message}`, { cause })
  }
}

/** Writes beside the path, flushes, then renames over it. ERR_IO names the path. */
export async function writeFileAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.part`
  try {
    const file = await open(beside, 'wx')
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => undefined)
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not write '${path}': ${message}`, { cause })
  }
}
