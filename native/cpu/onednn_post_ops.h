// Post-operations as oneDNN takes them. For its users alone: it needs oneDNN's headers.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "cpu/post_ops.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace palimpsest::cpu {

// Tells chains apart that need primitives of their own: all but where their operands lie.
std::string key_of(std::span<const PostOp> chain);

// A chain of a primitive whose results lie like y, with channels on `axis`.
class OnednnPostOps {
 public:
  OnednnPostOps(std::span<const PostOp> chain, const dnnl::memory::desc& y, int axis, const dnnl::engine& engine);

  const dnnl::post_ops& operations() const { return operations_; }
  // The operands of this call, among the primitive's arguments.
  void bind(std::span<const PostOp> chain, std::unordered_map<int, dnnl::memory>& arguments);

 private:
  dnnl::post_ops operations_;
  std::vector<dnnl::memory> operands_;  // one an operation, empty where it has none
};

// Whether an implementation is one of oneDNN's plain loops, which serve what its generated code does not.
bool is_reference(const char* implementation);

}  // namespace palimpsest::cpu
