// Small networks: a multilayer perceptron, LeNet and a plain convolutional network.
import { oneOf, withDefault } from '../options.js'
import { gains, NetworkBuilder, type BuiltNetwork } from './builder.js'
import { readNetworkOptions, size, sizes, type NetworkOptions } from './options.js'

export interface MlpOptions extends NetworkOptions {
  /** Sizes of the hidden layers; [1024, 1024]. */
  hidden?: readonly number[]
  /** Between the linear layers; 'Relu' where left out, in ONNX's words. */
  activation?: 'Relu' | 'LeakyRelu' | 'Sigmoid' | 'Tanh'
}

/** Multilayer perceptron: an activation between linear layers fc1, fc2, .. (inputs [1, 28, 28], 10 classes). */
export function mlp(options: MlpOptions = {}): BuiltNetwork {
  const { inputShape, classes, hidden, activation, seed } = readNetworkOptions(options, 'mlp', [], {
    inputShape: sizes([1, 28, 28]),
    hidden: sizes([1024, 1024]),
    activation: withDefault(oneOf('Relu', 'LeakyRelu', 'Sigmoid', 'Tanh'), 'Relu'),
  })
  const gain = activation.endsWith('Relu') ? gains.rectifier : gains.linear
  const b = new NetworkBuilder(inputShape, { seed })
  let x = b.flatten(b.input)
  hidden.forEach((features, i) => {
    const y = b.linear(x, `fc${i + 1}`, { features, gain })
    x = b.activation(y, activation, activation === 'LeakyRelu' ? { alpha: 0.01 } : {})
  })
  return b.build(b.linear(x, `fc${hidden.length + 1}`, { features: classes, gain: gains.linear }))
}

/** LeNet-5 (LeCun et al. 1998) with ReLU and max pooling (inputs [1, 28, 28], 10 classes). */
export function lenet(options: NetworkOptions = {}): BuiltNetwork {
  const { inputShape, classes, seed } = readNetworkOptions(options, 'lenet', [1, 28, 28], {})
  const b = new NetworkBuilder(inputShape, { seed })
  let x = b.maxPool(b.relu(b.conv(b.input, 'conv1', { channels: 6, kernel: 5, padding: 2 })), 2)
  x = b.maxPool(b.relu(b.conv(x, 'conv2', { channels: 16, kernel: 5 })), 2)
  x = b.relu(b.linear(b.flatten(x), 'fc1', { features: 120 }))
  x = b.relu(b.linear(x, 'fc2', { features: 84 }))
  return b.build(b.linear(x, 'fc3', { features: classes, gain: gains.linear }))
}

/** Four 3 x 3 convolutions in two pooled pairs, two linear layers (inputs [3, 32, 32], 10 classes). */
export function convnet(options: NetworkOptions & { width?: number } = {}): BuiltNetwork {
  const { inputShape, classes, seed, width } = readNetworkOptions(options, 'convnet', [3, 32, 32], { width: size(32) })
  const b = new NetworkBuilder(inputShape, { seed })
  const [first, second] = [width, 2 * width]
  let x = b.input
  const convs = [first, first, second, second]
  convs.forEach((channels, i) => {
    x = b.relu(b.conv(x, `conv${i + 1}`, { channels, kernel: 3, padding: 1 }))
    if (i % 2 === 1) x = b.maxPool(x, 2)
  })
  x = b.relu(b.linear(b.flatten(x), 'fc1', { features: 4 * width }))
  return b.build(b.linear(x, 'fc2', { features: classes, gain: gains.linear }))
}
