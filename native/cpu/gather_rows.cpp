// Gathers rows of a uint8 or float32 store: crop, flip, normalisation in one pass.
#include "cpu/gather_rows.h"

#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

template <typename T>
struct Channel {
  T scale, shift;
};

template <typename T>
Channel<T> channel_of(const GatherSpec& spec, int64_t c) {
  const auto at = [c](std::span<const float> values, T otherwise) {
    return static_cast<T>(values.empty() ? otherwise : values.size() == 1 ? values[0] : values[static_cast<size_t>(c)]);
  };
  return {at(spec.scale, 1), at(spec.shift, 0)};
}

// y[n, c, h, w] = inside(h + dy - pad, w' + dx - pad) ? store[...] scale[c] + shift[c] : 0, w' mirrored for a flip.
template <typename S, typename T>
void gather_image(const GatherSpec& spec, const GatherRow& row, const S* store, T* y, int64_t out_h, int64_t out_w,
                  int64_t channel_stride, int64_t row_stride, int64_t column_stride) {
  const S* image = store + row.index * spec.channels * spec.height * spec.width;
  for (int64_t c = 0; c < spec.channels; ++c) {
    const Channel<T> channel = channel_of<T>(spec, c);
    for (int64_t h = 0; h < out_h; ++h) {
      const int64_t from_h = h + row.dy - spec.pad;
      const bool row_inside = from_h >= 0 && from_h < spec.height;
      const S* line = image + (c * spec.height + (row_inside ? from_h : 0)) * spec.width;
      T* to = y + c * channel_stride + h * row_stride;
      for (int64_t w = 0; w < out_w; ++w) {
        const int64_t from_w = (row.flip ? out_w - 1 - w : w) + row.dx - spec.pad;
        const bool inside = row_inside && from_w >= 0 && from_w < spec.width;
        to[w * column_stride] = inside ? static_cast<T>(line[from_w]) * channel.scale + channel.shift : T(0);
      }
    }
  }
}

void check(const GatherSpec& spec, std::span<const GatherRow> rows, const Tensor& y) {
  const bool image = y.dims.size() == 4;
  if ((!image && y.dims.size() != 2) || y.dims[0] != static_cast<int64_t>(rows.size()) || y.dims[1] != spec.channels ||
      (!image && (spec.height != 1 || spec.width != 1))) {
    throw Error(ErrorCode::shape, "expected a batch [" + std::to_string(rows.size()) + ", " +
                                      std::to_string(spec.channels) + "] or with height and width, got " +
                                      to_string(y.dims));
  }
  for (const auto values : {spec.scale, spec.shift}) {
    if (values.size() > 1 && static_cast<int64_t>(values.size()) != spec.channels) {
      throw Error(ErrorCode::shape, "expected one value or " + std::to_string(spec.channels) +
                                        " to normalise channels with, got " + std::to_string(values.size()));
    }
  }
  for (const GatherRow& row : rows) {
    if (row.index < 0) {
      throw Error(ErrorCode::invalid_argument, "expected a row of 0 or more, got " + std::to_string(row.index));
    }
  }
}

}  // namespace

void gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store, bool store_is_u8,
                 const Tensor& y) {
  check(spec, rows, y);
  const bool image = y.dims.size() == 4;
  const int64_t out_h = image ? y.dims[2] : 1, out_w = image ? y.dims[3] : 1;
  with_float("gather_rows", y.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(static_cast<int64_t>(rows.size()), static_cast<double>(element_count(y.dims)),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t n = begin; n < end; ++n) {
                     T* to = y.as<T>() + n * y.strides[0];
                     const auto gather = [&](const auto* from) {
                       gather_image(spec, rows[static_cast<size_t>(n)], from, to, out_h, out_w, y.strides[1],
                                    image ? y.strides[2] : 0, image ? y.strides[3] : 0);
                     };
                     store_is_u8 ? gather(static_cast<const uint8_t*>(store))
                                 : gather(static_cast<const float*>(store));
                   }
                 });
  });
}

}  // namespace palimpsest::cpu
