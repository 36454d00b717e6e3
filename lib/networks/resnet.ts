// Residual networks (He et al. 2016), for small images and for large ones.
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

/** A 1 x 1 convolution with batch normalisation in place of the shortcut. */
function projection(b: NetworkBuilder, x: Value, { name, channels, stride }: Block): Value {
  const conv = b.conv(x, `${name}.downsample.0`, { channels, kernel: 1, stride, bias: false, gain: gains.linear })
  return b.batchNorm(conv, `${name}.downsample.1`)
}

/** A 3 x 3 convolution, which takes the stride, between two of 1 x 1, the last of four times the channels. */
function bottleneck(b: NetworkBuilder, x: Value, { name, channels, stride }: Block): Value {
  const conv = (from: Value, i: number, kernel: number, step: number, wide: number): Value => {
    const padding = (kernel - 1) / 2
    const options = { channels: wide, kernel, stride: step, padding, bias: false }
    return b.batchNorm(b.conv(from, `${name}.conv${i}`, options), `${name}.bn${i}`)
  }
  const out = 4 * channels
  const y = conv(b.relu(conv(b.relu(conv(x, 1, 1, 1, channels)), 2, 3, stride, channels)), 3, 1, 1, out)
  const same = stride === 1 && x.dims[1] === out
  return b.relu(b.add(y, same ? x : projection(b, x, { name, channels: out, stride })))
}

/** ResNet-18 with a 3 x 3 stem for small images and projections as shortcuts (inputs [3, 32, 32], 10 classes). */
export function resnet18(options: ResnetOptions = {}): BuiltNetwork {
  const read = readNetworkOptions(options, 'resnet18', [3, 32, 32], { width: size(64) })
  const { inputShape, classes, width, seed } = read
  const b = new NetworkBuilder(inputShape, { seed })
  const x = stages(b, stem(b, width), [2, 2, 2, 2], width, (from, block) => projection(b, from, block))
  return b.build(b.linear(b.globalAveragePool(x), 'fc', { features: classes, gain: gains.linear }))
}

/** ResNet-50 with the stride in the 3 x 3 convolutions (inputs [3, 224, 224], 1000 classes). */
export function resnet50(options: ResnetOptions = {}): BuiltNetwork {
  const read = readNetworkOptions(options, 'resnet50', [3, 224, 224], { width: size(64) }, 1000)
  const { inputShape, classes, width, seed } = read
  const b = new NetworkBuilder(inputShape, { seed })
  const wide = b.conv(b.input, 'conv1', { channels: width, kernel: 7, stride: 2, padding: 3, bias: false })
  let x = b.maxPool(b.relu(b.batchNorm(wide, 'bn1')), 3, 2, 1)
  for (const [stage, depth] of [3, 4, 6, 3].entries()) {
    for (let i = 0; i < depth; i++) {
      const stride = stage > 0 && i === 0 ? 2 : 1
      x = bottleneck(b, x, { name: `layer${stage + 1}.${i}`, channels: width * 2 ** stage, stride })
    }
  }
  return b.build(b.linear(b.globalAveragePool(x), 'fc', { features: classes, gain: gains.linear }))
}
