// Serialised models: bytes to ModelProto and back. What a file may make the process allocate is bounded beforehand.
import { fromBinary, ScalarType, toBinary, type DescField, type DescMessage } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { PalimpsestError } from '../errors.js'
import { ModelProtoSchema, type ModelProto } from './onnx_pb.js'

/** Nesting of messages (graphs in attributes of nodes of graphs ...) that is read. */
const deepest = 64

/**
 * @param maxBytes the most memory that the unpacked messages may take, weights in raw_data aside (they stay in `bytes`)
 * @throws ERR_MODEL_FORMAT where the bytes are no ONNX model, ERR_OUT_OF_MEMORY above maxBytes
 */
export function readModel(bytes: Uint8Array, maxBytes: number): ModelProto {
  let model: ModelProto
  try {
    const estimate = unpackedBytes(bytes, ModelProtoSchema, 0)
    if (estimate > maxBytes) {
      throw new PalimpsestError(
        'ERR_OUT_OF_MEMORY',
        `maxBytes: expected a model of at most ${maxBytes} bytes, got ${estimate}`,
      )
    }
    model = fromBinary(ModelProtoSchema, bytes)
  } catch (cause) {
    if (cause instanceof PalimpsestError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PalimpsestError('ERR_MODEL_FORMAT', `model: expected the bytes of an ONNX file, got ${reason}`, { cause })
  }
  if (!model.graph || model.opsetImport.length === 0) {
    const missing = model.graph ? 'an operator set version' : 'a graph'
    throw new PalimpsestError(
      'ERR_MODEL_FORMAT',
      `model: expected an ONNX model, got ${bytes.length} bytes without ${missing}`,
    )
  }
  return model
}

/** @throws ERR_UNSUPPORTED above protobuf's 2 GiB */
export function writeModel(model: ModelProto): Uint8Array {
  try {
    return toBinary(ModelProtoSchema, model)
  } catch (cause) {
    throw new PalimpsestError('ERR_UNSUPPORTED', 'model: expected at most 2 GiB, the limit of a protobuf file', {
      cause,
    })
  }
}

/** An upper estimate of the memory that a message's objects and numbers take once unpacked; checks all lengths. */
function unpackedBytes(bytes: Uint8Array, schema: DescMessage, depth: number): number {
  if (depth > deepest) throw new RangeError(`messages nested deeper than ${deepest}`)
  const reader = new BinaryReader(bytes)
  let total = 256
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    const field = schema.fields.find((f) => f.number === number)
    if (!field || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, number)
      total += 64
      continue
    }
    const payload = reader.bytes()
    total += field.message ? unpackedBytes(payload, field.message, depth + 1) : 64 + payloadBytes(field, payload.length)
  }
  return total
}

function payloadBytes({ scalar }: DescField, length: number): number {
  if (scalar === ScalarType.BYTES) return 0 // a view of the file
  if (scalar === ScalarType.FLOAT) return 2 * length
  // As little as a byte each, unpacked to a bigint or a number.
  return scalar === ScalarType.INT64 || scalar === ScalarType.UINT64 ? 32 * length : 8 * length
}
