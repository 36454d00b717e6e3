// Results of a long run's parts in a JSON file: each is written as soon as it is there, and a later run goes on after it.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'

export function revision(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}

interface Finished {
  /** Commit that the part was run at: parts of one file may come from several. */
  revision: string
  result: unknown
}

export class FinishedParts {
  readonly #path: string | undefined
  readonly #settings: unknown
  readonly #parts: Map<string, Finished>

  /** @param settings - what decides the results; a file with others is refused, so that runs are never mixed */
  constructor(path: string | undefined, settings: object) {
    this.#path = path
    this.#settings = JSON.parse(JSON.stringify(settings))
    this.#parts = new Map()
    if (path === undefined || !existsSync(path)) return
    const read = JSON.parse(readFileSync(path, 'utf8'), (_, v: unknown) => (v === 'NaN' ? NaN : v)) as {
      settings: unknown
      parts: Record<string, Finished>
    }
    if (!isDeepStrictEqual(read.settings, this.#settings)) {
      throw new Error(`expected the settings of this run in ${path}, got ${JSON.stringify(read.settings)}`)
    }
    this.#parts = new Map(Object.entries(read.parts))
  }

  has(key: string): boolean {
    return this.#parts.has(key)
  }

  /** The part's result: the one in the file, or that of `work`, which is then written. */
  async part<T>(key: string, work: () => Promise<T>): Promise<T> {
    const known = this.#parts.get(key)
    if (known !== undefined) return known.result as T
    const result = await work()
    this.#parts.set(key, { revision: revision(), result })
    this.#write()
    return result
  }

  /** Commits that the parts were run at. */
  get revisions(): string[] {
    return [...new Set([...this.#parts.values()].map((part) => part.revision))]
  }

  #write(): void {
    if (this.#path === undefined) return
    // JSON has no NaN, and null would pass for 0.
    const named = (_: string, value: unknown) => (Number.isNaN(value) ? 'NaN' : value)
    const text = JSON.stringify({ settings: this.#settings, parts: Object.fromEntries(this.#parts) }, named, 1)
    writeFileSync(`${this.#path}.new`, text)
    renameSync(`${this.#path}.new`, this.#path)
  }
}
