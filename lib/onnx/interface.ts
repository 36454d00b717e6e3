// The graph's interface: its one input and the output that holds the logits.
import { PalimpsestError } from '../errors.js'
import type { GraphProto, TypeProto_Tensor, ValueInfoProto } from './onnx_pb.js'
import { isFloat, typeName } from './tensors.js'

export interface ModelInput {
  readonly name: string
  /** Of one example. */
  readonly shape: readonly number[]
  /** The batch size that the file fixes; undefined where it is open. */
  readonly fixedBatch: number | undefined
}

/** @throws ERR_UNSUPPORTED for several inputs or integers, ERR_SHAPE where axes are open that `inputShape` does not give */
export function readInput(graph: GraphProto, inputShape: readonly number[] | undefined): ModelInput {
  const initializers = new Set(graph.initializer.map((t) => t.name))
  const inputs = graph.input.filter((i) => !initializers.has(i.name))
  const [info] = inputs
  if (!info || inputs.length !== 1) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `model: expected one input, got ${inputs.map((i) => `"${i.name}"`).join(', ') || 'none'}`,
    )
  }
  const tensor = tensorType(info)
  if (!isFloat(tensor.elemType)) {
    throw new PalimpsestError(
      'ERR_UNSUPPORTED',
      `input "${info.name}": expected floats, got ${typeName(tensor.elemType)}`,
    )
  }
  const dims = (tensor.shape?.dim ?? []).map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : undefined,
  )
  if (!tensor.shape || dims.length < 2) {
    throw new PalimpsestError(
      'ERR_SHAPE',
      `input "${info.name}": expected a batch axis and at least one more, got rank ${dims.length}`,
    )
  }
  const [batch, ...own] = dims
  return {
    name: info.name,
    shape: exampleShape(info.name, own, inputShape),
    fixedBatch: batch !== undefined && batch > 0 ? batch : undefined,
  }
}

function exampleShape(
  name: string,
  own: readonly (number | undefined)[],
  given: readonly number[] | undefined,
): number[] {
  const show = `[${own.map((d) => d ?? '?').join(', ')}]`
  const open = own.some((d) => d === undefined || d < 1)
  if (given && (given.length !== own.length || given.some((d, i) => (own[i] ?? 0) > 0 && own[i] !== d))) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `inputShape: expected a shape that fits the file's ${show}, got [${given.join(', ')}]`,
    )
  }
  const shape = given ?? own
  if (!shape.every((d) => d !== undefined && Number.isSafeInteger(d) && d >= 1)) {
    const hint = open ? '; give the option inputShape' : ''
    throw new PalimpsestError(
      'ERR_SHAPE',
      `input "${name}": expected every axis but the batch's to have a size, got ${show}${hint}`,
    )
  }
  return shape as number[]
}

function tensorType(info: ValueInfoProto): TypeProto_Tensor {
  const type = info.type?.value
  if (type?.case === 'tensorType') return type.value
  throw new PalimpsestError('ERR_UNSUPPORTED', `"${info.name}": expected a tensor, got ${type?.case ?? 'no type'}`)
}

/** @throws ERR_INVALID_ARGUMENT where the wanted output is not there, ERR_UNSUPPORTED where several are and none is chosen */
export function readOutput(graph: GraphProto, wanted: string | undefined): string {
  const names = graph.output.map((o) => o.name)
  const list = names.map((n) => `"${n}"`).join(', ') || 'none'
  if (wanted !== undefined) {
    if (names.includes(wanted)) return wanted
    throw new PalimpsestError('ERR_INVALID_ARGUMENT', `output: expected one of ${list}, got "${wanted}"`)
  }
  if (names.length !== 1) {
    throw new PalimpsestError('ERR_UNSUPPORTED', `model: expected one output or the option output, got ${list}`)
  }
  return names[0]
}
