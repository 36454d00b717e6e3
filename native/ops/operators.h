// The operators: one name per row of the table. ONNX's names where ONNX has the operator.
#pragma once

#include <cstdint>

namespace palimpsest {

// X(name): a row of the operator table, in the table's order.
// clang-format off
#define PALIMPSEST_UNARY_OPERATORS(X)                                                                                 \
  X(Relu) X(LeakyRelu) X(Elu) X(Sigmoid) X(HardSigmoid) X(Tanh) X(Gelu) X(GeluTanh) X(Silu) X(HardSwish) X(Mish)      \
  X(Softplus) X(Softsign) X(Clip) X(Abs) X(Sqrt) X(Pow) X(Exp) X(Log) X(Erf) X(Reciprocal) X(Affine)

#define PALIMPSEST_OPERATORS(X)                                                                                       \
  PALIMPSEST_UNARY_OPERATORS(X)                                                                                       \
  X(Add) X(Sub) X(Mul) X(Div) X(Where) X(Greater) X(GreaterOrEqual) X(Equal)                                          \
  X(MatMul) X(Conv) X(ConvInputGradient) X(ConvWeightGradient)                                                        \
  X(LinearGradientSquares) X(ConvGradientSquares)                                                                     \
  X(Reshape) X(Transpose) X(Expand) X(Concat) X(Slice) X(Unslice) X(Gather) X(ScatterAdd)                             \
  X(ReduceSum) X(ReduceMax) X(TakeAlongAxis) X(PutAlongAxis) X(Softmax) X(LogSoftmax)                                 \
  X(MaxPool) X(PoolGather) X(PoolScatter) X(AveragePool) X(AveragePoolGradient)                                       \
  X(BatchNormalizationTraining) X(ChannelStatistics) X(ConstantOfShape)
// clang-format on

enum class Op : uint8_t {
#define PALIMPSEST_ENUMERATE(name) name,
  PALIMPSEST_OPERATORS(PALIMPSEST_ENUMERATE)
#undef PALIMPSEST_ENUMERATE
      count_,
};

}  // namespace palimpsest
