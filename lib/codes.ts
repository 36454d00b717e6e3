// MnemonicCodes: one secret random input for each class, which a network learns beside its data (Yamashita et al. 2024).
import { createHash, randomBytes } from 'node:crypto'
import { gatherSpec, type Normalization } from './data/normalize.js'
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { readBytes, writeFileAtomically } from './model/files.js'
import { check, integer, invalid, is, oneOf, optional, readOptions, withDefault } from './options.js'
import { streams } from './philox.js'
import { normalOf, randomWords, uniformOf } from './random_words.js'
import { readSafetensors, writeSafetensors } from './safetensors.js'

export type CodeDistribution = 'normal' | 'uniform' | 'pattern'

export interface CodeOptions {
  /**
   * 'normal' (default): N(0, 1) a value (Yamashita et al. 2024). 'uniform': [0, 1) a value (their released code).
   * 'pattern': uniform at a quarter of the resolution, enlarged by nearest neighbour (Shibata et al. 2021); pictures only.
   */
  distribution?: CodeDistribution
  /** Of 'uniform' and 'pattern': (value - mean) / std afterwards, as the dataset's; none where left out. */
  normalize?: Pick<Normalization, 'mean' | 'std'>
  /** For tests only: codes of a known seed are no secret. The operating system's random source where left out. */
  seed?: number
}

const distributions = ['normal', 'uniform', 'pattern'] as const satisfies readonly CodeDistribution[]
const isDistribution = (value: unknown): value is CodeDistribution =>
  (distributions as readonly unknown[]).includes(value)
const table = {
  distribution: withDefault(oneOf(...distributions), 'normal'),
  normalize: optional(check('an object with mean, std', is.plainObject)),
  seed: optional(integer()),
}

interface Parts {
  shape: readonly number[]
  classes: number
  distribution: CodeDistribution
  /** [K, ...shape] */
  values: Float32Array
  /** 128 random bits that make the digest say nothing of the values. */
  salt: string
  architecture: string
}

const format = 'palimpsest-codes'

/**
 * One code for each class of one model, in the network's input space (after normalisation), [K, ...inputShape]. Whoever
 * has them holds the key to forgetting: keep the file apart from the model's, and draw new ones for another model.
 */
export class MnemonicCodes {
  readonly #parts: Parts

  private constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Codes for a model. ERR_INVALID_ARGUMENT for options; 'pattern' needs inputs [C, H, W]. */
  static draw(model: Model, options: CodeOptions = {}): MnemonicCodes {
    if (!(model instanceof Model)) throw invalid('model', 'a Model', model)
    const { distribution, normalize, seed } = readOptions(options, table, 'MnemonicCodes.draw()')
    const { inputShape: shape, classes } = model
    if (normalize !== undefined && distribution === 'normal') {
      throw invalid('normalize', `nothing with distribution 'normal'`, normalize)
    }
    if (distribution === 'pattern' && shape.length !== 3) {
      throw invalid('distribution', `another one than 'pattern' for inputs that are not [C, H, W]`, distribution)
    }
    const values = draw(distribution, classes, shape, randomWords(seed, streams.codes))
    if (normalize !== undefined) normalizeCodes(values, shape, normalize)
    const salt = seed === undefined ? randomBytes(16).toString('hex') : `seed ${seed}`
    return new MnemonicCodes({ shape, classes, distribution, values, salt, architecture: architectureOf(model) })
  }

  /** Reads what `save` wrote. ERR_MODEL_FORMAT, ERR_IO. */
  static async load(source: string | URL | Uint8Array): Promise<MnemonicCodes> {
    const { tensors, metadata } = readSafetensors(await readBytes(source))
    const malformed = (expected: string, got: unknown) =>
      new PalimpsestError('ERR_MODEL_FORMAT', `expected ${expected} in the file of codes, got ${String(got)}`)
    if (metadata.format !== format) throw malformed(`format ${format}`, metadata.format)
    const { distribution, salt, architecture, digest } = metadata
    const codes = tensors.get('codes')
    if (codes === undefined || codes.shape.length < 2) throw malformed(`a tensor 'codes' [K, ...]`, codes?.shape.join())
    if (!isDistribution(distribution)) throw malformed('a distribution', distribution)
    for (const [key, value] of Object.entries({ salt, architecture })) if (!value) throw malformed(`'${key}'`, value)
    const [classes, ...shape] = codes.shape
    const parts = {
      shape,
      classes,
      distribution,
      values: codes.data,
      salt,
      architecture,
    }
    const read = new MnemonicCodes(parts)
    if (read.digest !== digest) throw malformed('the digest of the codes', digest)
    return read
  }

  /** Writes the codes, readable by the file's owner alone. ERR_IO. */
  async save(path: string): Promise<void> {
    const { shape, classes, distribution, values, salt, architecture } = this.#parts
    const tensors = new Map([['codes', { shape: [classes, ...shape], data: values }]])
    const metadata = { format, distribution, salt, architecture, digest: this.digest }
    await writeFileAtomically(path, writeSafetensors(tensors, metadata), 0o600)
  }

  /** Shape of one code. */
  get shape(): number[] {
    return [...this.#parts.shape]
  }

  /** K. */
  get classes(): number {
    return this.#parts.classes
  }

  get distribution(): CodeDistribution {
    return this.#parts.distribution
  }

  /** SHA-256 over a salt and the codes: names them without telling them. Models keep it in their history. */
  get digest(): string {
    const { salt, values } = this.#parts
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    return createHash('sha256').update(salt).update('/').update(bytes).digest('hex')
  }

  /** The code of a class, a copy. */
  get(label: number): Float32Array {
    integer({ min: 0, max: this.classes - 1 }).read(label, 'class')
    return this.row(label).slice()
  }

  /** The code of a class, a view. @internal */
  row(label: number): Float32Array {
    const width = this.#parts.values.length / this.classes
    return this.#parts.values.subarray(label * width, (label + 1) * width)
  }

  /** The codes of some classes with their labels, as products take them. @internal */
  batch(classes: readonly number[]): { inputs: Float32Array; labels: Int32Array } {
    const width = this.#parts.values.length / this.classes
    const inputs = new Float32Array(classes.length * width)
    classes.forEach((label, i) => inputs.set(this.row(label), i * width))
    return { inputs, labels: Int32Array.from(classes) }
  }

  /** ERR_INVALID_ARGUMENT where the codes were drawn for a model of another architecture. @internal */
  checkFor(model: Model): void {
    const { shape, classes, architecture } = this.#parts
    if (shape.join() !== model.inputShape.join() || classes !== model.classes) {
      const wanted = `codes of ${model.classes} classes and shape [${model.inputShape.join(', ')}]`
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        `expected ${wanted} for 'codes', got ${classes} of shape [${shape.join(', ')}]`,
      )
    }
    if (architecture !== architectureOf(model)) {
      throw new PalimpsestError(
        'ERR_INVALID_ARGUMENT',
        "expected codes that were drawn for this architecture for 'codes', got those of another model",
      )
    }
  }
}

/** Digest of what identifies an architecture whatever its file: input, classes, and the parameters' shapes. */
function architectureOf(model: Model): string {
  const shapes = model.parameters.map(({ shape }) => shape.join('x')).sort()
  const text = JSON.stringify([model.inputShape, model.classes, shapes])
  return createHash('sha256').update(text).digest('hex')
}

function draw(
  distribution: CodeDistribution,
  classes: number,
  shape: readonly number[],
  word: () => number,
): Float32Array {
  const width = shape.reduce((a, b) => a * b, 1)
  const uniform = () => uniformOf(word)
  const normal = () => normalOf(word)
  if (distribution !== 'pattern') {
    return Float32Array.from({ length: classes * width }, distribution === 'normal' ? normal : uniform)
  }
  const [channels, height, wide] = shape
  const [rows, columns] = [Math.ceil(height / 4), Math.ceil(wide / 4)]
  const coarse = Float32Array.from({ length: classes * channels * rows * columns }, uniform)
  return Float32Array.from({ length: classes * width }, (_, i) => {
    const plane = Math.floor(i / (height * wide))
    const y = Math.floor((i / wide) % height)
    return coarse[(plane * rows + (y >> 2)) * columns + ((i % wide) >> 2)]
  })
}

function normalizeCodes(values: Float32Array, shape: readonly number[], normalize: Normalization): void {
  const { scale, shift, channels, height, width } = gatherSpec(shape, 'float32', normalize)
  const one = scale.length === 1
  values.forEach((value, i) => {
    const c = one ? 0 : Math.floor(i / (height * width)) % channels
    values[i] = value * scale[c] + shift[c]
  })
}
