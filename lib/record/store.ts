// The folder of a training record: files named by their content, one manifest that is swapped whole, and what is left
// over removed. A crash at any byte leaves the manifest before or the one after, and every file that it names.
import { copyFile, link, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join, posix, relative, resolve, sep } from 'node:path'
import { PalimpsestError } from '../errors.js'
import { syncFolder, writeFileAtomically } from '../model/files.js'
import {
  checkManifest,
  damaged,
  filesOf,
  seal,
  sha256,
  unseal,
  type FileRef,
  type Manifest,
  type PendingRequest,
  type RecordIndex,
} from './format.js'
import { takeLock, type Lock } from './lock.js'

export const manifestName = 'manifest.json'
const requestName = 'request.json'
const jobsName = 'jobs'

/** Names that this store gives, and those of files half written; nothing else is ever removed. */
const ours = /^((index|initial|(shards|logs)\/\d+\/[\w-]+)-[0-9a-f]{16}\.\w+|(.*\/)?[^/]+\.[0-9a-f]{12}\.part)$/

const ioError = (what: string, cause: unknown): PalimpsestError => {
  if (cause instanceof PalimpsestError) return cause
  const message = cause instanceof Error ? cause.message : String(cause)
  return new PalimpsestError('ERR_IO', `could not ${what}: ${message}`, { cause })
}

/** Writes a file whole or not at all; tests give one that fails. */
export type Write = (path: string, bytes: Uint8Array) => Promise<void>

export class RecordStore {
  readonly folder: string
  readonly #lock: Lock
  readonly #write: Write
  #manifest: Manifest | undefined
  #closed = false
  #unsure = false

  private constructor(folder: string, lock: Lock, write: Write) {
    this.folder = folder
    this.#lock = lock
    this.#write = write
  }

  /**
   * Takes the folder of a record, or of one to be: makes it where it is missing, locks it, reads the manifest and removes
   * what a crash has left over. `mustExist`: ERR_NOT_FITTED where there is no record.
   */
  static async take(
    given: string,
    { mustExist = false, write = writeFileAtomically }: { mustExist?: boolean; write?: Write } = {},
  ): Promise<RecordStore> {
    // In normal form, and the same whatever the working directory becomes.
    const folder = resolve(given)
    if (mustExist && !(await exists(join(folder, manifestName)))) {
      const message = `expected the folder of a training record, got '${folder}', which has no ${manifestName}`
      throw new PalimpsestError('ERR_NOT_FITTED', message)
    }
    try {
      await mkdir(folder, { recursive: true })
    } catch (cause) {
      throw ioError(`make the record's folder '${folder}'`, cause)
    }
    const store = new RecordStore(folder, await takeLock(folder), write)
    try {
      const bytes = await readFile(join(folder, manifestName)).catch(absent)
      if (bytes !== undefined) store.#manifest = checkManifest(unseal(bytes, manifestName))
      else await refuseForeign(folder)
      // What the manifest says must outlast a loss of power before what it does not name goes.
      await syncFolder(folder)
      await store.purge()
      return store
    } catch (error) {
      await store.close()
      throw ioError(`read the record '${folder}'`, error)
    }
  }

  get manifest(): Manifest {
    if (this.#manifest === undefined) throw new PalimpsestError('ERR_NOT_FITTED', 'expected a record, got none yet')
    return this.#manifest
  }

  get empty(): boolean {
    return this.#manifest === undefined
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Where a job of this name works. Jobs' folders stay over a crash and go with `removeJobs`. */
  jobFolder(name: string): string {
    return join(this.folder, jobsName, name)
  }

  path({ file }: FileRef): string {
    return join(this.folder, ...file.split('/'))
  }

  /** Writes a file under a name that holds its checksum, e.g. put('shards/0/slice-1', bytes, '.safetensors'). */
  async put(stem: string, bytes: Uint8Array, ending: string): Promise<FileRef> {
    this.#check()
    const sum = sha256(bytes)
    const file = `${stem}-${sum.slice(0, 16)}${ending}`
    await this.#makeFolder(file)
    await this.#write(join(this.folder, ...file.split('/')), bytes)
    return { file, bytes: bytes.length, sha256: sum }
  }

  /** Takes over a file that lies elsewhere, checked: linked where that can be done, so that it is there or not at all. */
  async adopt(stem: string, from: string, wanted: Omit<FileRef, 'file'>, ending: string): Promise<FileRef> {
    this.#check()
    const file = `${stem}-${wanted.sha256.slice(0, 16)}${ending}`
    await checkedBytes(from, { ...wanted, file: from })
    await this.#makeFolder(file)
    const to = join(this.folder, ...file.split('/'))
    try {
      await rm(to, { force: true })
      await link(from, to).catch(() => copyFile(from, to))
      await flush(to)
      await syncFolder(dirname(to))
    } catch (cause) {
      throw ioError(`write '${to}'`, cause)
    }
    return { file, bytes: wanted.bytes, sha256: wanted.sha256 }
  }

  /** The bytes of a file, checked; ERR_DAMAGED names it. */
  async read(ref: FileRef): Promise<Uint8Array> {
    return checkedBytes(this.path(ref), ref)
  }

  async putIndex(index: RecordIndex): Promise<FileRef> {
    return this.put('index', seal(index), '.json')
  }

  async readIndex(): Promise<RecordIndex> {
    const { index } = this.manifest
    return unseal(await this.read(index), index.file) as RecordIndex
  }

  /** Swaps the manifest: from then on the record is what this one names. */
  async commit(manifest: Omit<Manifest, 'revision'>): Promise<void> {
    this.#checkSure()
    const next: Manifest = { ...manifest, revision: (this.#manifest?.revision ?? 0) + 1 }
    try {
      await this.#write(join(this.folder, manifestName), seal(next))
    } catch (error) {
      if (await this.#holds(this.#manifest?.revision)) throw error
      // Renamed, but perhaps not flushed: which of the two lasts is known when the folder is opened again.
      this.#unsure = true
      throw error
    }
    this.#manifest = next
  }

  /** Whether the manifest on disk is of this revision; none: whether there is none. */
  async #holds(revision: number | undefined): Promise<boolean> {
    try {
      const bytes = await readFile(join(this.folder, manifestName)).catch(absent)
      return (bytes && (unseal(bytes, manifestName) as Manifest).revision) === revision
    } catch {
      return false
    }
  }

  /** The request that a crash has left unfinished. */
  async pending(): Promise<PendingRequest | undefined> {
    const bytes = await readFile(join(this.folder, requestName)).catch(absent)
    return bytes && (unseal(bytes, requestName) as PendingRequest)
  }

  /** Notes a request before its work begins, or that it is over. */
  async note(request: PendingRequest | undefined): Promise<void> {
    this.#checkSure()
    const path = join(this.folder, requestName)
    if (request !== undefined) return this.#write(path, seal(request))
    await rm(path, { force: true })
    await syncFolder(this.folder)
  }

  /** Removes jobs' folders with all that is in them, but for those named; gives the files that went. */
  async removeJobs(keep: ReadonlySet<string> = new Set()): Promise<string[]> {
    this.#checkSure()
    const removed: string[] = []
    for (const name of await readdir(join(this.folder, jobsName)).catch(() => [])) {
      if (keep.has(name)) continue
      const files = await filesUnder(this.jobFolder(name))
      await rm(this.jobFolder(name), { recursive: true, force: true })
      removed.push(...files.map((file) => posix.join(jobsName, name, file)))
    }
    await syncFolder(join(this.folder, jobsName)).catch(() => undefined)
    return removed
  }

  /** Removes every file that the manifest does not name (jobs and a pending request aside); gives their names. */
  async purge(): Promise<string[]> {
    this.#checkSure()
    const kept = new Set(this.#manifest ? filesOf(this.#manifest).map(({ file }) => file) : [])
    const removed = (await filesUnder(this.folder)).filter((file) => ours.test(file) && !kept.has(file))
    for (const file of removed) await rm(join(this.folder, ...file.split('/')), { force: true })
    for (const folder of new Set(removed.map((file) => posix.dirname(file)))) {
      await syncFolder(join(this.folder, ...folder.split('/')))
    }
    return removed
  }

  /** Checks every file that the manifest names; ERR_DAMAGED names the first that is not whole. */
  async verify(): Promise<void> {
    for (const ref of filesOf(this.manifest)) await this.read(ref)
  }

  /** Bytes on disk of the files that the manifest names. */
  get bytes(): number {
    return filesOf(this.manifest).reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** Gives the folder free. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#lock.release()
  }

  #check(): void {
    if (this.#closed) throw new PalimpsestError('ERR_DISPOSED', 'expected a record in use, got one that was closed')
  }

  #checkSure(): void {
    this.#check()
    if (!this.#unsure) return
    const what = `which manifest of '${this.folder}' lasts is not known; nothing is removed: open the record again`
    throw new PalimpsestError('ERR_IO', what)
  }

  async #makeFolder(file: string): Promise<void> {
    const folder = join(this.folder, ...posix.dirname(file).split('/'))
    try {
      await mkdir(folder, { recursive: true })
      await syncFolder(dirname(folder))
    } catch (cause) {
      throw ioError(`make '${folder}'`, cause)
    }
  }
}

/** A folder that is to become a record holds nothing else. */
async function refuseForeign(folder: string): Promise<void> {
  const known = (name: string) => ours.test(name) || name === jobsName || name === 'lock' || name.startsWith('lock.')
  const other = (await readdir(folder)).find((name) => !known(name) && name !== 'shards')
  if (other === undefined) return
  const message = `expected an empty folder or one with a training record, got '${folder}', which holds '${other}'`
  throw new PalimpsestError('ERR_INVALID_ARGUMENT', message)
}

const absent = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT' && error.code !== 'ENOTDIR',
  )
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** A file's bytes where they are what the reference says. */
export async function checkedBytes(path: string, { file, bytes, sha256: sum }: FileRef): Promise<Uint8Array> {
  let found: Buffer
  try {
    found = await readFile(path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw damaged(file, `${bytes} bytes`, 'no file', cause)
    throw ioError(`read '${path}'`, cause)
  }
  if (found.length !== bytes) throw damaged(file, `${bytes} bytes`, `${found.length}`)
  const got = sha256(found)
  if (got !== sum) throw damaged(file, `SHA-256 ${sum}`, got)
  return new Uint8Array(found.buffer, found.byteOffset, found.byteLength)
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => {
      return posix.join(...relative(folder, entry.parentPath).split(sep), entry.name)
    })
}
