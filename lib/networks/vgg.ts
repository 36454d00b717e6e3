// VGG (Simonyan and Zisserman 2015, configuration A) with batch normalisation, for small images.
import { gains, NetworkBuilder, type BuiltNetwork } from './builder.js'
import { readNetworkOptions, size, type NetworkOptions } from './options.js'

export interface VggOptions extends NetworkOptions {
  /** Channels of the first layer; 64. */
  width?: number
}

/** Channels in multiples of the width; 0 pools. */
const layers = [1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0]

/** VGG-11 with batch normalisation and one linear layer (inputs [3, 32, 32], 10 classes; sides are multiples of 32). */
export function vgg11(options: VggOptions = {}): BuiltNetwork {
  const read = readNetworkOptions(options, 'vgg11', [3, 32, 32], { width: size(64) })
  const { inputShape, classes, width, seed } = read
  const b = new NetworkBuilder(inputShape, { seed })
  let x = b.input
  let index = 0
  for (const multiple of layers) {
    if (multiple === 0) {
      x = b.maxPool(x, 2)
      index++
      continue
    }
    const conv = b.conv(x, `features.${index}`, { channels: multiple * width, kernel: 3, padding: 1 })
    x = b.relu(b.batchNorm(conv, `features.${index + 1}`))
    index += 3
  }
  return b.build(b.linear(b.flatten(x), 'classifier', { features: classes, gain: gains.linear }))
}
