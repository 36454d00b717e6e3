// onnxruntime's forward pass of a model, where the package can be loaded.
import type * as Library from 'onnxruntime-node'
import type { Model } from '../lib/index.js'

export class OnnxRuntime {
  readonly #session: Library.InferenceSession
  readonly #feeds: Record<string, Library.Tensor>

  private constructor(session: Library.InferenceSession, feeds: Record<string, Library.Tensor>) {
    this.#session = session
    this.#feeds = feeds
  }

  /** Undefined where there is no onnxruntime. Its threads sleep while they wait, like ours. */
  static async of(model: Model, inputs: Float32Array, threads: number): Promise<OnnxRuntime | undefined> {
    let library: typeof Library
    try {
      library = await import('onnxruntime-node')
    } catch {
      return undefined
    }
    const session = await library.InferenceSession.create(await model.exportOnnx(), {
      logSeverityLevel: 3,
      intraOpNumThreads: threads,
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    })
    const width = model.inputShape.reduce((a, b) => a * b, 1)
    const tensor = new library.Tensor('float32', inputs, [inputs.length / width, ...model.inputShape])
    return new OnnxRuntime(session, { [session.inputNames[0]]: tensor })
  }

  async run(): Promise<Float32Array> {
    const results = await this.#session.run(this.#feeds)
    return results[this.#session.outputNames[0]].data as Float32Array
  }

  dispose(): Promise<void> {
    return this.#session.release()
  }
}
