// A small vision transformer (Dosovitskiy et al. 2021), its tokens averaged before the head.
import { PalimpsestError } from '../errors.js'
import { gains, NetworkBuilder, type BuiltNetwork } from './builder.js'
import type { Value } from './graph.js'
import { readNetworkOptions, size, type NetworkOptions } from './options.js'

export interface VitOptions extends NetworkOptions {
  /** Side of a patch in pixels; 4. */
  patch?: number
  /** Size of a token; 64. */
  dim?: number
  /** Blocks; 4. */
  depth?: number
  /** Attention heads; 4. */
  heads?: number
  /** Hidden size of a block's perceptron in multiples of `dim`; 2. */
  ratio?: number
}

/** y = x + attention(norm(x)) over tokens x [N, T, D]. */
function attention(b: NetworkBuilder, x: Value, name: string, heads: number): Value {
  const [, tokens, dim] = x.dims
  const size = dim / heads
  const qkv = b.linear(b.layerNorm(x, `${name}.norm1`), `${name}.attn.qkv`, { features: 3 * dim, gain: gains.linear })
  const split = b.transpose(b.reshape(qkv, [-1, tokens, 3, heads, size]), [2, 0, 3, 1, 4])
  const [q, k, v] = [0, 1, 2].map((i) => b.select(split, 0, i))
  const weights = b.softmax(b.matMul(q, k, { transB: true, alpha: 1 / Math.sqrt(size) }), 3)
  const mixed = b.reshape(b.transpose(b.matMul(weights, v), [0, 2, 1, 3]), [-1, tokens, dim])
  return b.add(x, b.linear(mixed, `${name}.attn.proj`, { features: dim, gain: gains.linear }))
}

/** y = x + fc2(gelu(fc1(norm(x)))) */
function perceptron(b: NetworkBuilder, x: Value, name: string, ratio: number): Value {
  const dim = x.dims[2]
  const hidden = b.linear(b.layerNorm(x, `${name}.norm2`), `${name}.fc1`, { features: ratio * dim })
  return b.add(x, b.linear(b.activation(hidden, 'Gelu'), `${name}.fc2`, { features: dim, gain: gains.linear }))
}

/** Vision transformer with learned positions (inputs [3, 32, 32], 10 classes, 64 tokens of 64). */
export function vit(options: VitOptions = {}): BuiltNetwork {
  const own = { patch: size(4), dim: size(64), depth: size(4), heads: size(4), ratio: size(2) }
  const read = readNetworkOptions(options, 'vit', [3, 32, 32], own)
  const { inputShape, classes, patch, dim, depth, heads, ratio, seed } = read
  if (dim % heads !== 0)
    throw new PalimpsestError('ERR_INVALID_ARGUMENT', `heads: expected a divisor of dim ${dim}, got ${heads}`)
  if (inputShape.slice(1).some((side) => side % patch !== 0)) {
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `inputShape: expected sides in multiples of patch ${patch}, got [${inputShape.join(', ')}]`,
    )
  }
  const b = new NetworkBuilder(inputShape, { seed })
  const image = b.conv(b.input, 'patch', { channels: dim, kernel: patch, stride: patch, gain: gains.linear })
  const tokens = image.dims[2] * image.dims[3]
  let x = b.transpose(b.reshape(image, [-1, dim, tokens]), [0, 2, 1])
  x = b.add(x, b.parameter('pos', [1, tokens, dim], { scale: 0.02 }))
  for (let i = 0; i < depth; i++) {
    x = perceptron(b, attention(b, x, `blocks.${i}`, heads), `blocks.${i}`, ratio)
  }
  return b.build(b.linear(b.mean(b.layerNorm(x, 'norm'), 1), 'head', { features: classes, gain: gains.linear }))
}
