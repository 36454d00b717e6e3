// The package's public names.
export { PalimpsestError, errorCodes, type ErrorCode } from './errors.js'
