// A TangentModel as one plain ONNX graph: folded into the weights for a head, primal and tangent streams otherwise.
import { exportNetwork } from '../onnx/index.js'
import type { TensorMap } from '../network.js'
import type { TangentModel } from '../tangent.js'

/** ONNX bytes whose output is f_core(x) + J(x) w. */
export async function exportTangent(model: TangentModel): Promise<Uint8Array> {
  const { core, parameters, state } = model
  if (model.head !== undefined) return exportFolded(model)
  const description = await core.engine.network.linearized(parameters)
  const tangents: TensorMap = new Map(
    core.parameters
      .filter(({ name }) => parameters.includes(name))
      .map(({ name, shape }) => [name, { shape, data: Float32Array.from(state.served.get(name)) }]),
  )
  return exportNetwork(description, await core.tensors(), tangents)
}

/** A linear layer is linear in its weights: f_core(x) + J(x) w is the core with w added to them. */
async function exportFolded(model: TangentModel): Promise<Uint8Array> {
  const folded = await model.core.clone()
  try {
    const weights = await model.core.weights('float64')
    try {
      await weights.native.axpy(1, model.state.w)
      await folded.setWeights(weights)
      // The file that the core came from, unless that ends in a Softmax: these outputs are scores.
      return folded.endsIn === null
        ? await folded.exportOnnx()
        : exportNetwork(await folded.describeConstants(), await folded.tensors())
    } finally {
      weights.dispose()
    }
  } finally {
    folded.dispose()
  }
}
