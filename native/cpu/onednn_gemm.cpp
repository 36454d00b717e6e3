// Matrix products through oneDNN: its plain call, or a primitive kept for the shape where that is quicker.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "core/error.h"
#include "cpu/memory.h"
#include "cpu/onednn.h"
#include "cpu/onednn_post_ops.h"
#include "cpu/threads.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "oneapi/dnnl/dnnl_debug.h"

namespace palimpsest::cpu {
namespace {

using dnnl::memory;

struct Product {
  dnnl::matmul run;
  memory a, b, c, scratchpad;
  size_t scratchpad_bytes = 0;
  std::optional<OnednnPostOps> after;
};

// Threads, M, N, K, transposed B, leading dimensions, what follows.
using Key = std::tuple<int, int64_t, int64_t, int64_t, bool, int64_t, int64_t, int64_t, std::string>;

// Rows-by-rows products (a linear layer's) gain 5 to 90 % over the plain call up to some hundred rows; rows by columns
// gain less, and lose where B's width is no multiple of a few vectors, because B is then copied at every turn.
bool primitive_is_quicker(const GemmShape& s) {
  constexpr int64_t most_rows = 512, width = 64, least_work = 64 * 1024;
  if (s.trans_a || s.alpha != 1 || s.beta != 0 || s.m > most_rows || s.m * s.n * s.k < least_work) return false;
  return s.trans_b || s.n % width == 0;
}

// What oneDNN keeps on a thread: its primitives belong to the team size and to the thread that calls.
class Products {
 public:
  // Null where oneDNN has no primitive for the shape.
  Product* find(const GemmShape& s, std::span<const PostOp> after) {
    constexpr size_t most_shapes = 1024;
    const Key key{thread_count(), s.m, s.n, s.k, s.trans_b, s.lda, s.ldb, s.ldc, key_of(after)};
    const auto at = products_.find(key);
    if (at != products_.end()) return at->second.get();
    if (products_.size() >= most_shapes) products_.clear();
    return products_.emplace(key, make(s, after)).first->second.get();
  }

  dnnl::stream& stream() { return stream_; }

 private:
  std::unique_ptr<Product> make(const GemmShape& s, std::span<const PostOp> after) {
    constexpr auto f32 = memory::data_type::f32;
    const memory::desc a({s.m, s.k}, f32, memory::dims{s.lda, 1});
    const memory::desc b({s.k, s.n}, f32, s.trans_b ? memory::dims{1, s.ldb} : memory::dims{s.ldb, 1});
    const memory::desc c({s.m, s.n}, f32, memory::dims{s.ldc, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    try {
      std::optional<OnednnPostOps> chain;
      if (!after.empty()) {
        chain.emplace(after, c, 1, engine_);
        attributes.set_post_ops(chain->operations());
      }
#if DNNL_VERSION_MAJOR >= 3
      const dnnl::matmul::primitive_desc description(engine_, a, b, c, attributes);
#else
      const dnnl::matmul::primitive_desc description({a, b, c}, attributes, engine_);
#endif
      if (!after.empty() && is_reference(description.impl_info_str())) return nullptr;
      auto p = std::make_unique<Product>();
      p->after = std::move(chain);
      p->run = dnnl::matmul(description);
      p->a = memory(a, engine_, nullptr);
      p->b = memory(b, engine_, nullptr);
      p->c = memory(c, engine_, nullptr);
      p->scratchpad = memory(description.scratchpad_desc(), engine_, nullptr);
      p->scratchpad_bytes = description.scratchpad_desc().get_size();
      return p;
    } catch (const dnnl::error& error) {
      if (error.status == dnnl_unimplemented || error.status == dnnl_invalid_arguments) return nullptr;
      throw;
    }
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, std::unique_ptr<Product>> products_;
};

[[noreturn]] void refuse(dnnl_status_t status) {
  throw Error(status == dnnl_out_of_memory ? ErrorCode::out_of_memory : ErrorCode::internal,
              std::string("expected oneDNN to run a matrix product, got its status ") + dnnl_status2str(status));
}

bool run_primitive(const GemmShape& s, const float* a, const float* b, float* c, std::span<const PostOp> after) {
  thread_local Products of_thread;
  try {
    Product* p = of_thread.find(s, after);
    if (p == nullptr) return false;
    p->a.set_data_handle(const_cast<float*>(a));
    p->b.set_data_handle(const_cast<float*>(b));
    p->c.set_data_handle(c);
    p->scratchpad.set_data_handle(workspace(Slot::onednn_scratchpad, p->scratchpad_bytes));
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}, {DNNL_ARG_SCRATCHPAD, p->scratchpad}};
    if (p->after) p->after->bind(after, arguments);
    p->run.execute(of_thread.stream(), arguments);
    of_thread.stream().wait();
    return true;
  } catch (const dnnl::error& error) {
    refuse(error.status);
  }
}

}  // namespace

bool onednn_gemm(const GemmShape& s, const float* a, const float* b, float* c, std::span<const PostOp> after) {
  if (s.batch != 1 || s.m == 0 || s.n == 0 || s.k == 0 || !onednn_ready()) return false;
  share_team_size();
  if (primitive_is_quicker(s) && run_primitive(s, a, b, c, after)) return true;
  if (!after.empty()) return false;
  const dnnl_status_t status =
      dnnl_sgemm(s.trans_a ? 'T' : 'N', s.trans_b ? 'T' : 'N', s.m, s.n, s.k, static_cast<float>(s.alpha), a, s.lda, b,
                 s.ldb, static_cast<float>(s.beta), c, s.ldc);
  if (status == dnnl_unimplemented || status == dnnl_invalid_arguments) return false;
  if (status != dnnl_success) refuse(status);
  return true;
}

}  // namespace palimpsest::cpu
