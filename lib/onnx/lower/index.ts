// Every ONNX operator that can be imported.
import type { Lowering } from '../scope.js'
import { activations } from './activations.js'
import { arithmetic } from './arithmetic.js'
import { convolution } from './convolution.js'
import { gathering } from './gathering.js'
import { linear } from './linear.js'
import { normalization } from './normalization.js'
import { pooling } from './pooling.js'
import { reductions } from './reductions.js'
import { slicing } from './slicing.js'
import { structure } from './structure.js'

/** By operator name; Constant is read where values are made. */
export const lowerings: ReadonlyMap<string, Lowering> = new Map(
  Object.entries({
    ...activations,
    ...arithmetic,
    ...convolution,
    ...gathering,
    ...linear,
    ...normalization,
    ...pooling,
    ...reductions,
    ...slicing,
    ...structure,
  }),
)
