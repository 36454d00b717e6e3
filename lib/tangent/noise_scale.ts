// noise: 'auto': the largest noise that public rows hardly see; a rule on the core and public data alone.
import type { Dataset } from '../dataset.js'
import { rowsPass, type Engine } from '../model/products.js'
import type { PassOptions } from '../model/passes.js'
import { native } from '../native.js'
import { setSigns } from './quadratic.js'

/** Share of the target scale that the outputs' standard deviation may reach. */
const share = 0.05
const probes = 8
const mostRows = 512

/**
 * s with s rms_{i,k} |J_ik| = 5 % of the target scale over (up to 512) public rows; the mean square of |J_ik| is
 * estimated by 8 Rademacher probes, E |J z|^2 = |J|_F^2 (Hutchinson 1990), and rounded down to a power of two.
 */
export async function automaticNoiseScale(
  engine: Engine,
  publicData: Dataset,
  parameters: readonly string[],
  targetScale: number,
  options: PassOptions,
): Promise<number> {
  const rows = publicData.subset(Array.from({ length: Math.min(mostRows, publicData.size) }, (_, i) => i))
  const z = new (native().Vector)(engine.network, 'float32')
  try {
    let sum = 0
    let count = 0
    for (let probe = 0; probe < probes; probe++) {
      await setSigns(z, parameters, probe)
      const pass = {
        phase: 'noise scale',
        program: { quantity: 'jvp', dtype: 'float32', parameters } as const,
        data: rows,
        options,
        needLabels: false,
        tangents: z,
        inputs: () => ({}),
      }
      const [outputs] = await rowsPass(engine, pass, 1)
      for (let i = 0; i < outputs.length; i++) sum += outputs[i] * outputs[i]
      count += outputs.length
    }
    const scale = (share * targetScale) / Math.sqrt(sum / count)
    return 2 ** Math.floor(Math.log2(scale))
  } finally {
    z.dispose()
    rows.dispose()
  }
}
