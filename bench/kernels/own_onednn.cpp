// oneDNN's own rate: its primitives in the layouts that it chooses for every operand, made once, with nothing
// reordered.
#include <unordered_map>

#include "cpu/threads.h"
#include "measure.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace palimpsest::bench {

namespace {

using dnnl::memory;
using tag = dnnl::memory::format_tag;
constexpr auto f32 = memory::data_type::f32;
constexpr auto direct = dnnl::algorithm::convolution_direct;

const dnnl::engine& engine() {
  static const dnnl::engine of_cpu(dnnl::engine::kind::cpu, 0);
  return of_cpu;
}

memory filled(const memory::desc& desc) {
  memory made(desc, engine());
  float* data = static_cast<float*>(made.get_data_handle());
  for (size_t i = 0; i < desc.get_size() / sizeof(float); ++i) data[i] = static_cast<float>(i % 13) / 13 - 0.5f;
  return made;
}

std::function<void()> runner(dnnl::primitive primitive, std::unordered_map<int, memory> arguments) {
  return
      [primitive = std::move(primitive), arguments = std::move(arguments), stream = dnnl::stream(engine())]() mutable {
        primitive.execute(stream, arguments);
        stream.wait();
      };
}

#if DNNL_VERSION_MAJOR >= 3
template <class Primitive, class... Given>
typename Primitive::primitive_desc described(const Given&... given) {
  return typename Primitive::primitive_desc(engine(), given...);
}
template <class Primitive, class Hint, class... Given>
typename Primitive::primitive_desc described_backward(const Hint& hint, const Given&... given) {
  return typename Primitive::primitive_desc(engine(), given..., hint);
}
#else
template <class Primitive, class... Given>
typename Primitive::primitive_desc described(const Given&... given) {
  return typename Primitive::primitive_desc({given...}, engine());
}
template <class Primitive, class Hint, class... Given>
typename Primitive::primitive_desc described_backward(const Hint& hint, const Given&... given) {
  return typename Primitive::primitive_desc({given...}, engine(), hint);
}
#endif

std::function<void()> conv_of(ConvPart part, const ConvShape& s) {
  const memory::dims strides{s.stride_h, s.stride_w}, dilations{s.dilation_h - 1, s.dilation_w - 1},
      pads{s.pad_top, s.pad_left};
  const auto end = [](int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
    return std::max<int64_t>(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size - pad);
  };
  const memory::dims ends{end(s.h, s.oh, s.kh, s.stride_h, s.dilation_h, s.pad_top),
                          end(s.w, s.ow, s.kw, s.stride_w, s.dilation_w, s.pad_left)};
  memory::dims weights{s.o, s.c, s.kh, s.kw};
  if (s.groups > 1) weights = {s.groups, s.o / s.groups, s.c / s.groups, s.kh, s.kw};
  const memory::desc x({s.n, s.c, s.h, s.w}, f32, tag::any), w(weights, f32, tag::any),
      y({s.n, s.o, s.oh, s.ow}, f32, tag::any);
  const auto forward = described<dnnl::convolution_forward>(dnnl::prop_kind::forward_training, direct, x, w, y, strides,
                                                            dilations, pads, ends);
  if (part == ConvPart::forward) {
    return runner(dnnl::convolution_forward(forward), {{DNNL_ARG_SRC, filled(forward.src_desc())},
                                                       {DNNL_ARG_WEIGHTS, filled(forward.weights_desc())},
                                                       {DNNL_ARG_DST, filled(forward.dst_desc())}});
  }
  if (part == ConvPart::input_gradient) {
    const auto back =
        described_backward<dnnl::convolution_backward_data>(forward, direct, x, w, y, strides, dilations, pads, ends);
    return runner(dnnl::convolution_backward_data(back), {{DNNL_ARG_DIFF_SRC, filled(back.diff_src_desc())},
                                                          {DNNL_ARG_WEIGHTS, filled(back.weights_desc())},
                                                          {DNNL_ARG_DIFF_DST, filled(back.diff_dst_desc())}});
  }
  const auto back =
      described_backward<dnnl::convolution_backward_weights>(forward, direct, x, w, y, strides, dilations, pads, ends);
  return runner(dnnl::convolution_backward_weights(back), {{DNNL_ARG_SRC, filled(back.src_desc())},
                                                           {DNNL_ARG_DIFF_WEIGHTS, filled(back.diff_weights_desc())},
                                                           {DNNL_ARG_DIFF_DST, filled(back.diff_dst_desc())}});
}

}  // namespace

std::function<void()> own_conv(ConvPart part, const ConvShape& s) {
  cpu::share_team_size();
  try {
    return conv_of(part, s);
  } catch (const dnnl::error&) {
    return {};  // no primitive of this kind
  }
}

std::function<void()> own_gemm(const GemmShape& s) {
  cpu::share_team_size();
  try {
    const memory::desc a({s.batch, s.m, s.k}, f32, tag::any), b({s.batch, s.k, s.n}, f32, tag::any),
        c({s.batch, s.m, s.n}, f32, tag::any);
    const auto made = described<dnnl::matmul>(a, b, c);
    return runner(dnnl::matmul(made), {{DNNL_ARG_SRC, filled(made.src_desc())},
                                       {DNNL_ARG_WEIGHTS, filled(made.weights_desc())},
                                       {DNNL_ARG_DST, filled(made.dst_desc())}});
  } catch (const dnnl::error&) {
    return {};
  }
}

}  // namespace palimpsest::bench
