// The demo's core: a small convolutional network with Leaky-ReLU, 105,866 parameters.
import { networks, type NetworkSource } from '../../lib/index.js'

/** Leaky-ReLU rather than ReLU: its linearisation loses less (Golatkar et al. 2021). */
const slope = 0.1

export function coreNetwork(seed: number): NetworkSource {
  const b = new networks.NetworkBuilder([1, 28, 28], { seed })
  const rectify = (x: Parameters<typeof b.relu>[0]) => b.activation(x, 'LeakyRelu', { alpha: slope })
  let x = b.maxPool(rectify(b.conv(b.input, 'conv1', { channels: 16, kernel: 3, padding: 1 })), 2)
  x = b.maxPool(rectify(b.conv(x, 'conv2', { channels: 32, kernel: 3, padding: 1 })), 2)
  x = rectify(b.linear(b.flatten(x), 'fc1', { features: 64 }))
  return b.build(b.linear(x, 'fc2', { features: 10, gain: networks.gains.linear }))
}
