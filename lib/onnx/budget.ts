// A cap on the memory that one import may plan, checked before anything is allocated.
import { PalimpsestError } from '../errors.js'

export class Budget {
  #left: number

  constructor(readonly limit: number) {
    this.#left = limit
  }

  /** @throws ERR_OUT_OF_MEMORY where `bytes` more would pass the limit */
  take(bytes: number, what: string): void {
    if (!(bytes <= this.#left)) {
      throw new PalimpsestError(
        'ERR_OUT_OF_MEMORY',
        `${what}: expected at most ${this.#left} more bytes (maxBytes ${this.limit}), got ${bytes}`,
      )
    }
    this.#left -= bytes
  }
}
