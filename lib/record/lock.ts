// The lock of a training record: one process at a time, by a file that names its holder.
//
// Not proper-lockfile: it tells a dead holder from a living one by a clock (a file touched every few seconds), so a killed
// process keeps a record locked until that runs out, and one that was suspended loses its lock without knowing.
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { PalimpsestError } from '../errors.js'

interface Holder {
  pid: number
  host: string
  /** When the process began, in the kernel's ticks where it tells: process ids are given again. */
  started: string
  token: string
}

export interface Lock {
  /** Idempotent. */
  release(): Promise<void>
}

/** When a process of this host began, or '' where that cannot be told; undefined where there is none. */
function startOf(pid: number): string | undefined {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined
  }
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name of the program stands in brackets and may hold any character.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return ''
  }
}

const me = (): Omit<Holder, 'token'> => ({ pid: process.pid, host: hostname(), started: startOf(process.pid) ?? '' })

/** Whether the holder has certainly ended. */
function hasEnded({ pid, host, started }: Holder): boolean {
  if (host !== hostname()) return false
  const now = startOf(pid)
  return now === undefined || (now !== '' && started !== '' && now !== started)
}

async function holderOf(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new PalimpsestError(
      'ERR_LOCKED',
      `expected a record that is free, got a lock that cannot be read: '${path}'`,
      {
        cause: error,
      },
    )
  }
}

/** Takes the lock; the lock of a process of this host that has ended is taken over. ERR_LOCKED names the holder. */
export async function takeLock(folder: string): Promise<Lock> {
  const path = join(folder, 'lock')
  const token = randomBytes(12).toString('hex')
  const own = `${path}.${token}`
  try {
    // Written whole beside, then linked: the name is taken by one alone, and is never seen half written.
    await writeFile(own, JSON.stringify({ ...me(), token }), { flag: 'wx' })
    for (;;) {
      if (await linked(own, path)) break
      const holder = await holderOf(path)
      if (holder === undefined) continue
      if (!hasEnded(holder)) throw held(folder, holder)
      await setAside(path, holder, own)
    }
  } catch (cause) {
    if (cause instanceof PalimpsestError) throw cause
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_IO', `could not lock the record '${folder}': ${message}`, { cause })
  } finally {
    await rm(own, { force: true }).catch(() => undefined)
  }
  let released = false
  return {
    async release() {
      if (released) return
      released = true
      if ((await holderOf(path))?.token === token) await rm(path, { force: true })
    },
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Moves a dead holder's lock away; where another took it over in between, that one's is put back. */
async function setAside(path: string, holder: Holder, own: string): Promise<void> {
  const aside = `${own}.old`
  try {
    await rename(path, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  const moved = await holderOf(aside)
  if (moved !== undefined && moved.token !== holder.token) await linked(aside, path)
  await rm(aside, { force: true })
}

function held(folder: string, { pid, host }: Holder): PalimpsestError {
  const here = host === hostname() ? '' : ` (if that one has ended, remove '${join(folder, 'lock')}')`
  return new PalimpsestError(
    'ERR_LOCKED',
    `expected a record that no other process works on, got '${folder}', held by process ${pid} on ${host}${here}`,
  )
}
