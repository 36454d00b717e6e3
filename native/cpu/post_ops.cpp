// Chains of post-operations from elementwise programs.
#include "cpu/post_ops.h"

#include <utility>

namespace palimpsest::cpu {
namespace {

// Whether x is one value for each of y's channels.
bool is_by_channel(const Tensor& x, const Tensor& y, int axis) {
  for (size_t i = 0; i < y.dims.size(); ++i) {
    if (y.dims[i] != 1 && x.strides[i] != (static_cast<int>(i) == axis ? 1 : 0)) return false;
  }
  return true;
}

class Chain {
 public:
  Chain(const Epilogue& epilogue, int axis) : epilogue_(epilogue), axis_(axis) {}

  std::optional<std::vector<PostOp>> run() {
    for (const Instruction& step : epilogue_.program.instructions) {
      if (!add(step)) return std::nullopt;
      last_ = last_ == 0 ? epilogue_.program.inputs : last_ + 1;
    }
    if (epilogue_.program.outputs.size() != 1 || epilogue_.program.outputs[0] != last_) return std::nullopt;
    return std::move(chain_);
  }

 private:
  // One that takes the last result, once.
  bool add(const Instruction& step) {
    switch (step.code) {
      case Code::unary: return step.order == 0 && step.a == last_ && add_unary(step);
      case Code::add: return add_either(PostOp::Kind::add, step.a, step.b);
      case Code::mul: return add_either(PostOp::Kind::multiply, step.a, step.b);
      case Code::sub: return step.a == last_ && add_operand(PostOp::Kind::subtract, step.b);
      case Code::mul_add:
        if (step.c == last_) return false;
        return add_either(PostOp::Kind::multiply, step.a, step.b) && add_operand(PostOp::Kind::add, step.c);
      default: return false;
    }
  }

  bool add_unary(const Instruction& step) {
    if (step.unary != Unary::affine) return false;
    chain_.push_back(
        {.kind = PostOp::Kind::affine, .alpha = static_cast<float>(step.alpha), .beta = static_cast<float>(step.beta)});
    return true;
  }

  bool add_either(PostOp::Kind kind, int32_t a, int32_t b) {
    if (a == last_) return add_operand(kind, b);
    return b == last_ && add_operand(kind, a);
  }

  bool add_operand(PostOp::Kind kind, int32_t input) {
    if (input < 1 || input >= epilogue_.program.inputs) return false;
    const Tensor& x = epilogue_.inputs[static_cast<size_t>(input)];
    if (!is_by_channel(x, epilogue_.inputs[0], axis_)) return false;
    chain_.push_back({.kind = kind, .channels = x.as<const float>()});
    return true;
  }

  const Epilogue& epilogue_;
  const int axis_;
  int32_t last_ = 0;  // the register of the last result: at first the product's
  std::vector<PostOp> chain_;
};

}  // namespace

std::optional<std::vector<PostOp>> post_ops_of(const Epilogue& epilogue, int axis) {
  return Chain(epilogue, axis).run();
}

}  // namespace palimpsest::cpu
