// Residual networks (He et al. 2016) for small images.
import { gains, NetworkBuilder, type BuiltNetwork } from './builder.js'
import type { Value } from './graph.js'
import { readNetworkOptions, size, type NetworkOptions } from './options.js'

export interface ResnetOptions extends NetworkOptions {
  /** Channels of the first stage. */
  width?: number
}

interface Block {
  readonly name: string
  readonly channels: number
  readonly stride: number
}

/** Two 3 x 3 convolutions with batch normalisation, beside a shortcut. */
function residual(
  b: NetworkBuilder,
  x: Value,
  { name, channels, stride }: Block,
  shortcut: (x: Value) => Value,
): Value {
  const conv = (from: Value, i: number, step: number): Value =>
    b.batchNorm(
      b.conv(from, `${name}.conv${i}`, { channels, kernel: 3, stride: step, padding: 1, bias: false }),
      `${name}.bn${i}`,
    )
  const y = conv(b.relu(conv(x, 1, stride)), 2, 1)
  return b.relu(b.add(y, stride === 1 && x.dims[1] === channels ? x : shortcut(x)))
}

function stem(b: NetworkBuilder, channels: number): Value {
  return b.relu(b.batchNorm(b.conv(b.input, 'conv1', { channels, kernel: 3, padding: 1, bias: false }), 'bn1'))
}

/** Stages of blocks; every stage but the first halves the image and doubles the channels. */
function stages(
  b: NetworkBuilder,
  x: Value,
  depths: readonly number[],
  width: number,
  shortcut: (x: Value, block: Block) => Value,
): Value {
  depths.forEach((depth, stage) => {
    for (let i = 0; i < depth; i++) {
      const block = {
        name: `layer${stage + 1}.${i}`,
        channels: width * 2 ** stage,
        stride: stage > 0 && i === 0 ? 2 : 1,
      }
      x = residual(b, x, block, (from) => shortcut(from, block))
    }
  })
  return x
}

/** ResNet-20 with shortcuts of option A, without weights (He et al. 2016, section 4.2; inputs [3, 32, 32], 10 classes). */
export function resnet20(options: ResnetOptions = {}): BuiltNetwork {
  const read = readNetworkOptions(options, 'resnet20', [3, 32, 32], { width: size(16) })
  const { inputShape, classes, width, seed } = read
  const b = new NetworkBuilder(inputShape, { seed })
  const x = stages(b, stem(b, width), [3, 3, 3], width, (from, { channels }) => b.shortcut(from, channels))
  return b.build(b.linear(b.globalAveragePool(x), 'linear', { features: classes, gain: gains.linear }))
}

/** ResNet-18 with a 3 x 3 stem for small images and projections as shortcuts (inputs [3, 32, 32], 10 classes). */
export function resnet18(options: ResnetOptions = {}): BuiltNetwork {
  const read = readNetworkOptions(options, 'resnet18', [3, 32, 32], { width: size(64) })
  const { inputShape, classes, width, seed } = read
  const b = new NetworkBuilder(inputShape, { seed })
  const x = stages(b, stem(b, width), [2, 2, 2, 2], width, (from, { name, channels, stride }) => {
    const projected = b.conv(from, `${name}.downsample.0`, {
      channels,
      kernel: 1,
      stride,
      bias: false,
      gain: gains.linear,
    })
    return b.batchNorm(projected, `${name}.downsample.1`)
  })
  return b.build(b.linear(b.globalAveragePool(x), 'fc', { features: classes, gain: gains.linear }))
}
