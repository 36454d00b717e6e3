// Keys of rows: one string a row, each distinct string kept once.

/** A key as a caller gives it; numbers stand for their decimal digits. */
export type Key = string | number

/** A key for each row: in order, or made from a row's index and label. */
export type KeySource = readonly Key[] | ((index: number, label: number) => Key)

/** One key a row. */
export class KeyColumn {
  readonly #names: string[] = []
  readonly #codes: number[] = []
  readonly #codeOf = new Map<string, number>()

  get length(): number {
    return this.#codes.length
  }

  add(key: Key): void {
    const name = String(key)
    let code = this.#codeOf.get(name)
    if (code === undefined) {
      code = this.#names.push(name) - 1
      this.#codeOf.set(name, code)
    }
    this.#codes.push(code)
  }

  /** The key of a row. */
  at(row: number): string {
    return this.#names[this.#codes[row]]
  }

  /** Whether a row has one of these keys. */
  matcher(keys: readonly Key[]): (row: number) => boolean {
    const codes = new Set<number>()
    for (const key of keys) {
      const code = this.#codeOf.get(String(key))
      if (code !== undefined) codes.add(code)
    }
    return (row) => codes.has(this.#codes[row])
  }
}

/** Whether a value can be a key: a string that is not empty, or a whole number. */
export function isKey(value: unknown): value is Key {
  return (typeof value === 'string' && value !== '') || Number.isSafeInteger(value)
}
