// What a call is refused with: the error, its code and message checked.
import { expect } from 'vitest'
import { PalimpsestError, type ErrorCode } from '../lib/index.js'

export async function refusal(
  work: Promise<unknown>,
  code: ErrorCode,
  message: RegExp = /./,
): Promise<PalimpsestError> {
  const error: unknown = await work.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(PalimpsestError)
  expect((error as PalimpsestError).code).toBe(code)
  expect((error as PalimpsestError).message).toMatch(message)
  return error as PalimpsestError
}
