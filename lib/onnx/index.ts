// ONNX in and out: the interface of this folder.
export { exportOnnx, fileOptions } from './export.js'
export { importOnnx, type ImportOptions, type OnnxModel } from './import.js'
export type { LeftOut, ParameterChoice } from './parameters.js'
export { exportNetwork, type ExportOptions } from './rows/network.js'
