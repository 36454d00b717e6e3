// Weight gradient and per-example squares of a convolution, of linear layers too: sums over positions, in parts that
// are added up in order.
#include <string>

#include "core/error.h"
#include "cuda/add_parts.h"
#include "cuda/conv.h"
#include "cuda/cudnn.h"
#include "cuda/depthwise.h"
#include "cuda/gemm.h"
#include "cuda/pointwise.h"
#include "cuda/weight_sums.h"

namespace palimpsest::cuda {
namespace {

constexpr int turned_rows = 64, turned_columns = 32, turning_threads = 256;

// sums [parts][groups][taps, in][out] -> w [groups][out][in, taps], the parts added in order. A block has 64 rows
// (in, tap) and 32 columns out of a group.
template <class T>
__global__ void add_weight_parts_kernel(int parts, int out, int in, int taps, const T* sums, T* w) {
  struct Turned {
    T values[turned_columns][turned_rows + 1];
  };
  Turned& turned = block_shared<Turned>();
  const int rows = in * taps, first_row = static_cast<int>(blockIdx.x) * turned_rows;
  const int first_out = static_cast<int>(blockIdx.y) * turned_columns, thread = static_cast<int>(threadIdx.x);
  const int64_t group = blockIdx.z, of_group = static_cast<int64_t>(rows) * out, of_part = of_group * gridDim.z;
  const int o = first_out + thread % turned_columns;
  for (int r = thread / turned_columns; r < turned_rows; r += turning_threads / turned_columns) {
    const int row = first_row + r;
    if (row >= rows || o >= out) continue;
    const int channel = row / taps, tap = row % taps;
    const T* from = sums + group * of_group + (static_cast<int64_t>(tap) * in + channel) * out + o;
    T sum = from[0];
    for (int part = 1; part < parts; ++part) sum += from[part * of_part];
    turned.values[thread % turned_columns][r] = sum;
  }
  __syncthreads();
  const int row = first_row + thread % turned_rows;
  for (int c = thread / turned_rows; c < turned_columns; c += turning_threads / turned_rows) {
    if (row >= rows || first_out + c >= out) continue;
    w[group * of_group + static_cast<int64_t>(first_out + c) * rows + row] = turned.values[c][thread % turned_rows];
  }
}

template <bool Squares, class T>
void conv_sums(Device& device, const ConvShape& s, const T* x, const T* y_bar, T* w) {
  if (s.groups > most_groups) {
    throw Error(ErrorCode::unsupported, "expected at most " + std::to_string(most_groups) +
                                            " groups of a convolution on a CUDA device, got " +
                                            std::to_string(s.groups));
  }
  const TapConv conv = forward_taps(s);
  const int64_t image = s.oh * s.ow, depth = conv.depth();
  const int64_t positions = Squares ? image : s.n * image;  // of a sum
  const PatchesOfGroup<T> a{conv, x, static_cast<int>(positions), is_aligned<T>(x, {conv.in, s.c})};
  const ColumnsOfGroup<T> b{y_bar, s.o, conv.out, static_cast<int>(positions),
                            is_aligned<T>(y_bar, {conv.out, s.o, Squares ? image * s.o : 0})};
  T* sums = nullptr;
  const int64_t parts = weight_sums<Squares, T>(device, {s.n, image}, s.groups, depth, conv.out, a, b, conv.x_image(),
                                                image * s.o, nullptr, &sums);
  const dim3 grid(grid_of(depth, turned_rows), grid_of(conv.out, turned_columns), static_cast<unsigned>(s.groups));
  launch(device, "adding the parts of a weight gradient", add_weight_parts_kernel<T>, grid, dim3(turning_threads), 0,
         static_cast<int>(parts), conv.out, conv.in, conv.taps(), sums, w);
}

template <class T>
void typed_weight_gradient(Device& device, const ConvShape& s, const T* x, const T* y_bar, T* w_bar) {
  if (s.o * s.c * s.kh * s.kw == 0) return;
  if (is_depthwise(s)) return depthwise_weight_gradient(device, s, false, x, y_bar, w_bar);
  if (pointwise_weight_gradient(device, s, x, y_bar, w_bar)) return;
  if (cudnn_conv_weight_gradient(device, s, x, y_bar, w_bar)) return;
  conv_sums<false>(device, s, x, y_bar, w_bar);
}

template <class T>
void typed_squares(Device& device, const ConvShape& shape, const T* x, const T* y_bar, T* s) {
  if (shape.o * shape.c * shape.kh * shape.kw == 0) return;
  if (is_depthwise(shape)) return depthwise_weight_gradient(device, shape, true, x, y_bar, s);
  conv_sums<true>(device, shape, x, y_bar, s);
}

template <class T>
void typed_linear_squares(Device& device, int64_t n, int64_t t, int64_t i, int64_t o, const T* x, const T* y_bar,
                          T* s) {
  if (i == 0 || o == 0) return;
  if (t == 1) {
    // One row an example: (x y)^2 = x^2 y^2, one product of squared factors.
    GemmShape g;
    g.m = i, g.n = o, g.k = n, g.trans_a = true;
    g.lda = i, g.ldb = o, g.ldc = o;
    return multiply_squares(device, g, x, y_bar, s);
  }
  const int rows = to_count(t, "tokens");
  const ColumnsOfGroup<T> a{x, i, to_count(i, "inputs"), rows, is_aligned<T>(x, {i, t * i})};
  const ColumnsOfGroup<T> b{y_bar, o, to_count(o, "outputs"), rows, is_aligned<T>(y_bar, {o, t * o})};
  T* sums = nullptr;
  const int64_t parts = weight_sums<true, T>(device, {n, t}, 1, i, o, a, b, t * i, t * o, s, &sums);
  if (parts > 1) add_parts<T>(device, parts, 1, i, o, T(1), T(0), {0, o}, sums, s);
}

}  // namespace

void conv_weight_gradient(Device& device, const ConvShape& s, const Tensor& x, const Tensor& y_bar,
                          const Tensor& w_bar) {
  if (x.dtype == DType::f32)
    typed_weight_gradient(device, s, x.as<const float>(), y_bar.as<const float>(), w_bar.as<float>());
  else typed_weight_gradient(device, s, x.as<const double>(), y_bar.as<const double>(), w_bar.as<double>());
}

void conv_grad_squares(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s) {
  if (x.dtype == DType::f32) typed_squares(device, shape, x.as<const float>(), y_bar.as<const float>(), s.as<float>());
  else typed_squares(device, shape, x.as<const double>(), y_bar.as<const double>(), s.as<double>());
}

void linear_grad_squares(Device& device, int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x,
                         const Tensor& y_bar, const Tensor& s) {
  if (x.dtype == DType::f32)
    typed_linear_squares(device, n, t, i, o, x.as<const float>(), y_bar.as<const float>(), s.as<float>());
  else typed_linear_squares(device, n, t, i, o, x.as<const double>(), y_bar.as<const double>(), s.as<double>());
}

}  // namespace palimpsest::cuda
