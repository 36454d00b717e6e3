// Refusals of products, convolutions, pooling and channel statistics.
#include "backend/checks.h"

namespace palimpsest::checks {

void check_gemm(const GemmShape& s) {
  const bool fits = s.batch >= 0 && s.m >= 0 && s.n >= 0 && s.k >= 0 && s.ldc >= s.n &&
                    s.lda >= (s.trans_a ? s.m : s.k) && s.ldb >= (s.trans_b ? s.k : s.n);
  if (fits) return;
  throw Error(ErrorCode::shape, "expected leading dimensions of whole rows for a matrix product of " +
                                    to_string({s.m, s.k, s.n}) + ", got " + to_string({s.lda, s.ldb, s.ldc}));
}

void check_window(const ConvShape& s) {
  const int64_t sizes[] = {s.n, s.c, s.h, s.w, s.o, s.oh, s.ow};
  const int64_t positive[] = {s.kh, s.kw, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w, s.groups};
  bool valid = s.pad_top >= 0 && s.pad_left >= 0;
  for (const int64_t size : sizes) valid &= size >= 0;
  for (const int64_t size : positive) valid &= size >= 1;
  if (valid && s.c % s.groups == 0 && s.o % s.groups == 0) return;
  throw Error(ErrorCode::shape,
              "expected a window of positive sizes, strides and dilations and channels in whole groups, got " +
                  to_string({s.n, s.c, s.h, s.w}) + " to " + to_string({s.n, s.o, s.oh, s.ow}) + " by " +
                  to_string({s.kh, s.kw}) + " in " + std::to_string(s.groups) + " groups");
}

void check_conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  check_window(s);
  expect_same_type("a convolution", x, w, y);
  expect_count("x", s.n * s.h * s.w * s.c, x);
  expect_count("w", s.o * (s.c / s.groups) * s.kh * s.kw, w);
  expect_count("y", s.n * s.oh * s.ow * s.o, y);
}

void check_pool(const ConvShape& s, const Tensor& x, const Tensor& y) {
  check_window(s);
  if (s.o != s.c)
    throw Error(ErrorCode::shape,
                "expected pooling to keep " + std::to_string(s.c) + " channels, got " + std::to_string(s.o));
  expect_type("pooling", x.dtype, y);
  expect_count("x", s.n * s.h * s.w * s.c, x);
  expect_count("y", s.n * s.oh * s.ow * s.c, y);
}

void check_pool_index(const ConvShape& s, const Tensor& index) {
  expect_type("the positions of pooling", DType::i32, index);
  expect_count("positions", s.n * s.oh * s.ow * s.c, index);
}

void check_channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) {
  expect_same_type("channel_statistics", x, labels, sums);
  if (x.dims.size() != 4 || labels.dims.size() != 2 || labels.dims[0] != x.dims[0]) {
    throw Error(ErrorCode::shape, "expected x [N, C, H, W] and labels [N, K] for channel_statistics, got " +
                                      to_string(x.dims) + " and " + to_string(labels.dims));
  }
  expect_dims("the sums of channel_statistics", {3, labels.dims[1], x.dims[1]}, sums);
  if (x.dims[2] * x.dims[3] == 0) {
    throw Error(ErrorCode::shape, "expected one position or more for channel_statistics, got " + to_string(x.dims));
  }
}

}  // namespace palimpsest::checks
