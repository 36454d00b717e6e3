// ONNX in and out: the interface of this folder.
export { importOnnx, type ImportOptions, type OnnxModel } from './import.js'
export type { LeftOut, ParameterChoice } from './parameters.js'
