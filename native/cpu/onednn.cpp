// Convolution through oneDNN 2.6 to 3.x: channels-last activations, weights in whatever layout
// oneDNN likes best, primitives kept for each shape, all working memory reused.
#include "cpu/onednn.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "core/error.h"
#include "cpu/memory.h"
#include "cpu/onednn_post_ops.h"
#include "cpu/threads.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "oneapi/dnnl/dnnl_debug.h"

namespace palimpsest::cpu {
namespace {

using dnnl::memory;
using tag = dnnl::memory::format_tag;

std::atomic<bool> enabled{true}, refused{false};

// What oneDNN is to begin with; it takes its set once, before it looks at it for the first time.
struct Beginning {
  std::mutex mutex;
  Isa isa = best_isa();
  bool begun = false;
};

Beginning& beginning() {
  static Beginning of_process;
  return of_process;
}

void begin() {
  Beginning& state = beginning();
  const std::lock_guard lock(state.mutex);
  state.begun = true;
#if DNNL_VERSION_MAJOR > 2 || DNNL_VERSION_MINOR >= 6
  dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict);
#endif
  constexpr auto all = static_cast<dnnl_cpu_isa_t>(0);  // its name changed from 2.x to 3.x
  const Isa isa = state.isa;
  const auto wanted = isa == Isa::baseline ? dnnl_cpu_isa_sse41 : isa == Isa::avx2 ? dnnl_cpu_isa_avx2 : all;
  // Refused where something else in the process used the library before: it need not do what we say it does. Where it
  // has no sets to choose from, there is nothing to say.
  const dnnl_status_t status = dnnl_set_max_cpu_isa(wanted);
  refused = status != dnnl_success && status != dnnl_unimplemented;
}

enum class Kind { forward, input_gradient, weight_gradient };

constexpr auto f32 = memory::data_type::f32;

// A primitive of one shape, the arguments it takes, and the reorder of weights between ONNX's layout and its own.
struct Primitive {
  dnnl::primitive run, reorder;
  memory x, w, w_plain, y, scratchpad, reorder_scratchpad;
  size_t weight_bytes = 0, scratchpad_bytes = 0;
  bool reorders = false;
  std::optional<OnednnPostOps> after;
};

using Key = std::tuple<Kind, int, std::array<int64_t, 17>, std::string>;

Key key_of(Kind kind, const ConvShape& s, std::span<const PostOp> after) {
  return {kind,
          thread_count(),
          {s.n, s.c, s.h, s.w, s.o, s.oh, s.ow, s.kh, s.kw, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w,
           s.pad_top, s.pad_left, s.groups, 0},
          key_of(after)};
}

// Where oneDNN's arithmetic of pads does not reach: rows or columns of x beyond the last window by a stride or more,
// pads wider than the window.
bool describes(const ConvShape& s, int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t dilation,
               int64_t pad, int64_t& end_pad) {
  const int64_t extent = dilation * (kernel - 1) + 1;
  end_pad = std::max<int64_t>(0, (out - 1) * stride + extent - size - pad);
  return (size + pad + end_pad - extent) / stride + 1 == out && pad < extent && end_pad < extent && s.n > 0;
}

struct Description {
  memory::desc x, w, w_plain, y;
  memory::dims strides, dilations, pads, end_pads;
};

bool describe(const ConvShape& s, Description& d) {
  int64_t bottom = 0, right = 0;
  if (!describes(s, s.h, s.oh, s.kh, s.stride_h, s.dilation_h, s.pad_top, bottom)) return false;
  if (!describes(s, s.w, s.ow, s.kw, s.stride_w, s.dilation_w, s.pad_left, right)) return false;
  if (s.c == 0 || s.o == 0 || s.oh <= 0 || s.ow <= 0 || s.h == 0 || s.w == 0) return false;
  memory::dims w{s.o, s.c, s.kh, s.kw};
  if (s.groups > 1) w = {s.groups, s.o / s.groups, s.c / s.groups, s.kh, s.kw};
  d.x = memory::desc({s.n, s.c, s.h, s.w}, f32, tag::nhwc);
  d.y = memory::desc({s.n, s.o, s.oh, s.ow}, f32, tag::nhwc);
  d.w = memory::desc(w, f32, tag::any);
  d.w_plain = memory::desc(w, f32, s.groups > 1 ? tag::goihw : tag::oihw);
  d.strides = {s.stride_h, s.stride_w};
  d.dilations = {s.dilation_h - 1, s.dilation_w - 1};
  d.pads = {s.pad_top, s.pad_left};
  d.end_pads = {bottom, right};
  return true;
}

// Where oneDNN's first choice among its kernels, the batch-reduced one, is not its best: the direct one was 1.3 to 2.5
// times as fast on fewer than 16 input channels and 1.2 to 2.6 times with weights of 4.5 MiB and more; elsewhere, with
// weights of up to 2.25 MiB, no quicker without strides and between 0.9 and 1.4 times as fast with them (one thread of
// AVX-512, batches of 8 to 128). Of the shape alone, so that results repeat.
bool wants_direct(const ConvShape& s) {
  constexpr int64_t most_weights = 1 << 20, few_channels = 16;
  const bool large = s.o * s.c * s.kh * s.kw > most_weights;
  return s.groups == 1 && s.kh * s.kw > 1 && (s.c < few_channels || large);
}

bool is_batch_reduced(const char* implementation) { return std::string_view(implementation).starts_with("brgconv"); }
bool is_direct(const char* implementation) { return std::string_view(implementation).starts_with("jit:avx512"); }

// The three primitive descriptors, in either generation of the interface.
template <class... Given>
dnnl::convolution_forward::primitive_desc forward_descriptor(const dnnl::engine& engine,
                                                             const dnnl::primitive_attr& attributes,
                                                             dnnl::prop_kind kind, bool direct, const Given&... given) {
  const auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  const auto first = [&] {
    return dnnl::convolution_forward::primitive_desc(engine, kind, algorithm, given..., attributes);
  };
#else
  const dnnl::convolution_forward::desc description(kind, algorithm, given...);
  const auto first = [&] { return dnnl::convolution_forward::primitive_desc(description, attributes, engine); };
#endif
  auto found = first();
  if (!direct || !is_batch_reduced(found.impl_info_str())) return found;
  while (found.next_impl()) {
    if (is_direct(found.impl_info_str())) return found;
  }
  return first();
}

#if DNNL_VERSION_MAJOR >= 3
template <class Descriptor, class Hint, class... Given>
typename Descriptor::primitive_desc backward_descriptor(const dnnl::engine& engine,
                                                        const dnnl::primitive_attr& attributes, const Hint& hint,
                                                        const Given&... given) {
  return typename Descriptor::primitive_desc(engine, given..., hint, attributes);
}
#else
template <class Descriptor, class Hint, class... Given>
typename Descriptor::primitive_desc backward_descriptor(const dnnl::engine& engine,
                                                        const dnnl::primitive_attr& attributes, const Hint& hint,
                                                        const Given&... given) {
  return typename Descriptor::primitive_desc({given...}, attributes, engine, hint);
}
#endif

// What oneDNN keeps on a thread: its primitives belong to the team size and to the thread that calls.
class Library {
 public:
  // Null where oneDNN has no primitive for the shape.
  Primitive* find(Kind kind, const ConvShape& s, std::span<const PostOp> after) {
    constexpr size_t most_shapes = 1024;
    const Key key = key_of(kind, s, after);
    const auto at = primitives_.find(key);
    if (at != primitives_.end()) return at->second.get();
    if (primitives_.size() >= most_shapes) primitives_.clear();
    return primitives_.emplace(key, make(kind, s, after)).first->second.get();
  }

  dnnl::stream& stream() { return stream_; }

 private:
  std::unique_ptr<Primitive> make(Kind kind, const ConvShape& s, std::span<const PostOp> after) {
    Description d;
    if (!describe(s, d)) return nullptr;
    try {
      return kind == Kind::forward ? build_forward(d, wants_direct(s), after) : build_backward(kind, d);
    } catch (const dnnl::error& error) {
      if (error.status == dnnl_unimplemented || error.status == dnnl_invalid_arguments) return nullptr;
      throw;
    }
  }

  std::unique_ptr<Primitive> build_backward(Kind kind, const Description& d) {
    const auto direct = dnnl::algorithm::convolution_direct;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto forward = forward_descriptor(engine_, attributes, dnnl::prop_kind::forward_training, false, d.x, d.w,
                                            d.y, d.strides, d.dilations, d.pads, d.end_pads);
    if (kind == Kind::input_gradient) {
      const auto backward = backward_descriptor<dnnl::convolution_backward_data>(
          engine_, attributes, forward, direct, d.x, d.w, d.y, d.strides, d.dilations, d.pads, d.end_pads);
      return finish(kind, d, backward.weights_desc(), backward.scratchpad_desc(),
                    dnnl::convolution_backward_data(backward));
    }
    const auto backward = backward_descriptor<dnnl::convolution_backward_weights>(
        engine_, attributes, forward, direct, d.x, d.w, d.y, d.strides, d.dilations, d.pads, d.end_pads);
    return finish(kind, d, backward.diff_weights_desc(), backward.scratchpad_desc(),
                  dnnl::convolution_backward_weights(backward));
  }

  // Null where oneDNN would do what follows by plain loops.
  std::unique_ptr<Primitive> build_forward(const Description& d, bool direct, std::span<const PostOp> after) {
    OnednnPostOps chain(after, d.y, 1, engine_);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_post_ops(chain.operations());
    const auto forward = forward_descriptor(engine_, attributes, dnnl::prop_kind::forward_inference, direct, d.x, d.w,
                                            d.y, d.strides, d.dilations, d.pads, d.end_pads);
    if (!after.empty() && is_reference(forward.impl_info_str())) return nullptr;
    auto p =
        finish(Kind::forward, d, forward.weights_desc(), forward.scratchpad_desc(), dnnl::convolution_forward(forward));
    if (!after.empty()) p->after = std::move(chain);
    return p;
  }

  std::unique_ptr<Primitive> finish(Kind kind, const Description& d, const memory::desc& weights,
                                    const memory::desc& scratchpad, dnnl::primitive run) {
    auto p = std::make_unique<Primitive>();
    p->run = std::move(run);
    p->x = memory(d.x, engine_, nullptr);
    p->y = memory(d.y, engine_, nullptr);
    p->w = memory(weights, engine_, nullptr);
    p->w_plain = memory(d.w_plain, engine_, nullptr);
    p->scratchpad = memory(scratchpad, engine_, nullptr);
    p->scratchpad_bytes = scratchpad.get_size();
    p->reorders = weights != d.w_plain;
    if (!p->reorders) return p;
    p->weight_bytes = weights.get_size();
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const bool back = kind == Kind::weight_gradient;
    const dnnl::reorder::primitive_desc reorder(engine_, back ? weights : d.w_plain, engine_,
                                                back ? d.w_plain : weights, attributes);
    p->reorder = dnnl::reorder(reorder);
    p->reorder_scratchpad = memory(reorder.scratchpad_desc(), engine_, nullptr);
    p->scratchpad_bytes = std::max(p->scratchpad_bytes, reorder.scratchpad_desc().get_size());
    return p;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, std::unique_ptr<Primitive>> primitives_;
};

Library& library() {
  thread_local Library of_thread;
  return of_thread;
}

void set_data(memory& of, const void* data) { of.set_data_handle(const_cast<void*>(data)); }

void reorder_weights(Primitive& p, bool back, dnnl::stream& stream) {
  if (!p.reorders) return;
  p.reorder.execute(stream, {{DNNL_ARG_FROM, back ? p.w : p.w_plain},
                             {DNNL_ARG_TO, back ? p.w_plain : p.w},
                             {DNNL_ARG_SCRATCHPAD, p.reorder_scratchpad}});
}

void execute(Kind kind, Primitive& p, std::span<const PostOp> after, dnnl::stream& stream) {
  if (kind == Kind::forward) {
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, p.x}, {DNNL_ARG_WEIGHTS, p.w}, {DNNL_ARG_DST, p.y}, {DNNL_ARG_SCRATCHPAD, p.scratchpad}};
    if (p.after) p.after->bind(after, arguments);
    p.run.execute(stream, arguments);
  } else if (kind == Kind::input_gradient) {
    p.run.execute(stream, {{DNNL_ARG_DIFF_SRC, p.x},
                           {DNNL_ARG_WEIGHTS, p.w},
                           {DNNL_ARG_DIFF_DST, p.y},
                           {DNNL_ARG_SCRATCHPAD, p.scratchpad}});
  } else {
    p.run.execute(stream, {{DNNL_ARG_SRC, p.x},
                           {DNNL_ARG_DIFF_WEIGHTS, p.w},
                           {DNNL_ARG_DIFF_DST, p.y},
                           {DNNL_ARG_SCRATCHPAD, p.scratchpad}});
  }
}

bool run(Kind kind, const ConvShape& s, const float* x, const float* w, const float* y,
         std::span<const PostOp> after = {}) {
  if (!onednn_ready()) return false;
  share_team_size();
  try {
    Primitive* p = library().find(kind, s, after);
    if (p == nullptr) return false;
    dnnl::stream& stream = library().stream();
    set_data(p->x, x);
    set_data(p->y, y);
    set_data(p->w_plain, w);
    set_data(p->w, p->reorders ? workspace(Slot::onednn_weights, p->weight_bytes) : w);
    void* scratchpad = workspace(Slot::onednn_scratchpad, p->scratchpad_bytes);
    set_data(p->scratchpad, scratchpad);
    if (p->reorders) set_data(p->reorder_scratchpad, scratchpad);
    if (kind != Kind::weight_gradient) reorder_weights(*p, false, stream);
    execute(kind, *p, after, stream);
    if (kind == Kind::weight_gradient) reorder_weights(*p, true, stream);
    stream.wait();
    return true;
  } catch (const dnnl::error& error) {
    const bool memory_ends = error.status == dnnl_out_of_memory;
    throw Error(memory_ends ? ErrorCode::out_of_memory : ErrorCode::internal,
                std::string("expected oneDNN to run a convolution, got its status ") + dnnl_status2str(error.status));
  }
}

}  // namespace

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}
bool onednn_enabled() { return enabled.load(std::memory_order_relaxed) && !refused.load(std::memory_order_relaxed); }
void set_onednn_enabled(bool on) { enabled.store(on, std::memory_order_relaxed); }

bool onednn_follow(Isa isa) {
  Beginning& state = beginning();
  const std::lock_guard lock(state.mutex);
  const bool same = isa == state.isa || (isa >= Isa::avx512 && state.isa >= Isa::avx512);
  if (state.begun && !same && !refused) return false;
  state.isa = isa;
  return true;
}

bool onednn_ready() {
  static std::once_flag once;
  if (onednn_enabled()) std::call_once(once, begin);
  return onednn_enabled();
}

bool onednn_conv(const ConvShape& s, const float* x, const float* w, float* y, std::span<const PostOp> after) {
  return run(Kind::forward, s, x, w, y, after);
}
bool onednn_conv_input_gradient(const ConvShape& s, const float* w, const float* y_bar, float* x_bar) {
  return run(Kind::input_gradient, s, x_bar, w, y_bar);
}
bool onednn_conv_weight_gradient(const ConvShape& s, const float* x, const float* y_bar, float* w_bar) {
  return run(Kind::weight_gradient, s, x, w_bar, y_bar);
}

}  // namespace palimpsest::cpu
