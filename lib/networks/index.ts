// Networks that come with the library, and the builder they are made with.
export { gains, NetworkBuilder, type BuiltNetwork, type ConvOptions, type LinearOptions } from './builder.js'
export type { NetworkOptions } from './options.js'
export { resnet18, resnet20, resnet50, type ResnetOptions } from './resnet.js'
export { convnet, lenet, mlp, type MlpOptions } from './small.js'
export { vgg11, type VggOptions } from './vgg.js'
export { vit, type VitOptions } from './vit.js'
