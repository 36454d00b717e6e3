// Chains of post-operations in oneDNN's terms.
#include "cpu/onednn_post_ops.h"

#include <cstring>

namespace palimpsest::cpu {
namespace {

using dnnl::memory;

// One value a channel, the same for all positions.
memory::desc channel_desc(const memory::desc& y, int axis) {
  memory::dims dims = y.dims();
  for (size_t i = 0; i < dims.size(); ++i) dims[i] = static_cast<int>(i) == axis ? dims[i] : 1;
  memory::dims strides(dims.size(), 1);
  for (int i = 0; i < axis; ++i) strides[static_cast<size_t>(i)] = dims[static_cast<size_t>(axis)];
  return {dims, memory::data_type::f32, strides};
}

dnnl::algorithm algorithm_of(PostOp::Kind kind) {
  switch (kind) {
    case PostOp::Kind::add: return dnnl::algorithm::binary_add;
    case PostOp::Kind::subtract: return dnnl::algorithm::binary_sub;
    case PostOp::Kind::multiply: return dnnl::algorithm::binary_mul;
    case PostOp::Kind::affine: break;
  }
  return dnnl::algorithm::eltwise_linear;
}

void append_affine(dnnl::post_ops& operations, const PostOp& op) {
#if DNNL_VERSION_MAJOR >= 3
  operations.append_eltwise(algorithm_of(op.kind), op.alpha, op.beta);
#else
  operations.append_eltwise(1.0f, algorithm_of(op.kind), op.alpha, op.beta);
#endif
}

}  // namespace

std::string key_of(std::span<const PostOp> chain) {
  std::string key;
  for (const PostOp& op : chain) {
    char bytes[1 + 2 * sizeof(float)] = {static_cast<char>(op.kind)};
    std::memcpy(bytes + 1, &op.alpha, sizeof op.alpha);
    std::memcpy(bytes + 1 + sizeof(float), &op.beta, sizeof op.beta);
    key.append(bytes, sizeof bytes);
  }
  return key;
}

OnednnPostOps::OnednnPostOps(std::span<const PostOp> chain, const memory::desc& y, int axis,
                             const dnnl::engine& engine) {
  for (const PostOp& op : chain) {
    operands_.emplace_back();
    if (op.channels == nullptr) {
      append_affine(operations_, op);
      continue;
    }
    const memory::desc desc = channel_desc(y, axis);
    operations_.append_binary(algorithm_of(op.kind), desc);
    operands_.back() = memory(desc, engine, nullptr);
  }
}

void OnednnPostOps::bind(std::span<const PostOp> chain, std::unordered_map<int, memory>& arguments) {
  for (size_t i = 0; i < chain.size(); ++i) {
    if (chain[i].channels == nullptr) continue;
    operands_[i].set_data_handle(const_cast<float*>(chain[i].channels));
    arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(static_cast<int>(i)) | DNNL_ARG_SRC_1, operands_[i]);
  }
}

bool is_reference(const char* implementation) { return std::strstr(implementation, "ref") != nullptr; }

}  // namespace palimpsest::cpu
