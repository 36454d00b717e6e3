// The model that is being served: an onnxruntime session that can be replaced while requests run.
import { InferenceSession, Tensor } from 'onnxruntime-node'

interface Loaded {
  session: InferenceSession
  /** Number of the release in the ledger. */
  release: number
  /** Predictions that still use it. */
  running: number
  /** Set when a newer one has taken its place. */
  retired: boolean
}

export interface Prediction {
  /** Which release answered. */
  release: number
  /** [N][K] */
  outputs: number[][]
}

export class ServedModel {
  #loaded: Loaded | undefined

  /** Takes the place of the model before it in one assignment; predictions that began with the old one end with it. */
  async replace(onnx: Uint8Array, release: number): Promise<void> {
    const session = await InferenceSession.create(onnx, { logSeverityLevel: 3 })
    const old = this.#loaded
    this.#loaded = { session, release, running: 0, retired: false }
    if (old !== undefined) await retire(old)
  }

  /** `inputs` [N, ...shape] as the network reads them. */
  async predict(inputs: Float32Array, shape: readonly number[]): Promise<Prediction> {
    const loaded = this.#loaded
    if (loaded === undefined) throw new Error('expected a model to serve, got none')
    const { session, release } = loaded
    const rows = inputs.length / shape.reduce((a, b) => a * b, 1)
    loaded.running++
    try {
      const feeds = { [session.inputNames[0]]: new Tensor('float32', inputs, [rows, ...shape]) }
      const results = await session.run(feeds)
      const values = results[session.outputNames[0]].data as Float32Array
      const k = values.length / rows
      return { release, outputs: Array.from({ length: rows }, (_, i) => [...values.subarray(i * k, (i + 1) * k)]) }
    } finally {
      loaded.running--
      if (loaded.retired && loaded.running === 0) await session.release()
    }
  }

  async close(): Promise<void> {
    const old = this.#loaded
    this.#loaded = undefined
    if (old !== undefined) await retire(old)
  }
}

async function retire(loaded: Loaded): Promise<void> {
  loaded.retired = true
  if (loaded.running === 0) await loaded.session.release()
}
