// Files that are written whole or not at all.
import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { PalimpsestError } from '../errors.js'

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
