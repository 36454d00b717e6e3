// The one error class of the library and its stable codes.

/** Stable error codes; docs/errors.md says for each what happened, why, and the cure. */
export const errorCodes = [
  'ERR_INVALID_ARGUMENT',
  'ERR_SHAPE',
  'ERR_UNSUPPORTED_OPERATOR',
  'ERR_UNSUPPORTED',
  'ERR_MODEL_FORMAT',
  'ERR_DATA_FORMAT',
  'ERR_DEVICE',
  'ERR_OUT_OF_MEMORY',
  'ERR_NOT_CONVERGED',
  'ERR_NOT_FITTED',
  'ERR_DISPOSED',
  'ERR_ABORTED',
  'ERR_IO',
  'ERR_LOCKED',
  'ERR_DAMAGED',
  'ERR_ENVIRONMENT',
  'ERR_WORKER',
  'ERR_ADDON',
  'ERR_INTERNAL',
] as const

export type ErrorCode = (typeof errorCodes)[number]

/** Every error this library throws on purpose. `cause` keeps what lies beneath; `report` what a verb had reached. */
export class PalimpsestError extends Error {
  override readonly name = 'PalimpsestError'
  readonly code: ErrorCode
  /** The report of a verb that did not converge, where there is one. */
  readonly report?: unknown

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; report?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    if (options.report !== undefined) this.report = options.report
  }
}
