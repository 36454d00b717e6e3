// Gathers rows of a uint8 or float32 store: the rows alone travel to the device, where crop, flip and normalisation
// are one pass.
#include "cuda/gather_rows.h"

#include <cstring>

#include "backend/checks.h"
#include "cuda/launch.h"
#include "cuda/upload.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

// A row's crop and flip.
struct Placement {
  int32_t dy, dx, flip;
};

struct Batch {
  int64_t rows, channels, height, width, pad;  // of the store
  int64_t out_h, out_w;
  int64_t strides[4];  // of y: row, channel, height, width
};

// y[n, c, h, w] = inside(h + dy - pad, w' + dx - pad) ? store[...] scale[c] + shift[c] : 0, w' mirrored for a flip.
template <class S, class T>
__global__ void gather_rows_kernel(const Batch b, const float* scale, const float* shift, const Placement* placements,
                                   const S* store, T* y) {
  const int64_t count = b.rows * b.channels * b.out_h * b.out_w;
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const int64_t w = e % b.out_w, line = e / b.out_w, h = line % b.out_h, image = line / b.out_h;
    const int64_t c = image % b.channels, n = image / b.channels;
    const Placement row = placements[n];
    const int64_t from_h = h + row.dy - b.pad, from_w = (row.flip != 0 ? b.out_w - 1 - w : w) + row.dx - b.pad;
    const bool inside = from_h >= 0 && from_h < b.height && from_w >= 0 && from_w < b.width;
    T value = 0;
    if (inside) {
      value = static_cast<T>(store[(image * b.height + from_h) * b.width + from_w]) * static_cast<T>(scale[c]) +
              static_cast<T>(shift[c]);
    }
    y[n * b.strides[0] + c * b.strides[1] + h * b.strides[2] + w * b.strides[3]] = value;
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

float value_of(std::span<const float> values, int64_t channel, float otherwise) {
  return values.empty() ? otherwise : values.size() == 1 ? values[0] : values[static_cast<size_t>(channel)];
}

// What travels: scales, shifts, placements, rows, each part at a multiple of sixteen bytes.
struct Layout {
  size_t shift, placements, store, bytes;

  Layout(size_t channels, size_t rows, size_t row_bytes) {
    shift = whole(channels * sizeof(float));
    placements = shift + whole(channels * sizeof(float));
    store = placements + whole(rows * sizeof(Placement));
    bytes = store + rows * row_bytes;
  }
  static size_t whole(size_t bytes) { return (bytes + 15) / 16 * 16; }
};

// Some rows of a batch, as many as a piece of the upload takes.
template <class S, class T>
void gather_piece(Device& device, const GatherSpec& spec, std::span<const GatherRow> rows, const S* store, Batch batch,
                  T* y) {
  const size_t width = static_cast<size_t>(spec.channels * spec.height * spec.width), row_bytes = width * sizeof(S);
  const size_t channels = static_cast<size_t>(spec.channels);
  const Layout at(channels, rows.size(), row_bytes);
  const Piece piece = device.upload().take(at.bytes);
  char* host = static_cast<char*>(piece.host);
  for (size_t c = 0; c < channels; ++c) {
    reinterpret_cast<float*>(host)[c] = value_of(spec.scale, static_cast<int64_t>(c), 1);
    reinterpret_cast<float*>(host + at.shift)[c] = value_of(spec.shift, static_cast<int64_t>(c), 0);
  }
  for (size_t n = 0; n < rows.size(); ++n) {
    reinterpret_cast<Placement*>(host + at.placements)[n] = {rows[n].dy, rows[n].dx, rows[n].flip ? 1 : 0};
    std::memcpy(host + at.store + n * row_bytes, store + static_cast<size_t>(rows[n].index) * width, row_bytes);
  }
  device.upload().send(piece);
  batch.rows = static_cast<int64_t>(rows.size());
  const int64_t count = batch.rows * batch.channels * batch.out_h * batch.out_w;
  const char* uploaded = static_cast<const char*>(piece.device);
  launch(device, "gathering rows", gather_rows_kernel<S, T>, dim3(grid_of(count, threads_a_block, most_blocks)),
         dim3(threads_a_block), 0, batch, reinterpret_cast<const float*>(uploaded),
         reinterpret_cast<const float*>(uploaded + at.shift),
         reinterpret_cast<const Placement*>(uploaded + at.placements), reinterpret_cast<const S*>(uploaded + at.store),
         y);
  device.upload().done(piece);
}

}  // namespace

void gather_rows(Device& device, const GatherSpec& spec, std::span<const GatherRow> rows, const void* store,
                 bool store_is_u8, const Tensor& y) {
  check(spec, rows, y);
  if (element_count(y.dims) == 0) return;
  const bool image = y.dims.size() == 4;
  Batch batch{0,
              spec.channels,
              spec.height,
              spec.width,
              spec.pad,
              image ? y.dims[2] : 1,
              image ? y.dims[3] : 1,
              {y.strides[0], y.strides[1], image ? y.strides[2] : 0, image ? y.strides[3] : 0}};
  const auto gather = [&](const auto* from) {
    const size_t row_bytes = static_cast<size_t>(spec.channels * spec.height * spec.width) * sizeof(*from);
    const size_t most = std::max<size_t>(1, Upload::usual_bytes / std::max<size_t>(row_bytes, 1));
    with_float("gather_rows", y.dtype, [&](auto zero) {
      using T = decltype(zero);
      for (size_t first = 0; first < rows.size(); first += most) {
        gather_piece(device, spec, rows.subspan(first, std::min(most, rows.size() - first)), from, batch,
                     y.as<T>() + static_cast<int64_t>(first) * y.strides[0]);
      }
    });
  };
  store_is_u8 ? gather(static_cast<const uint8_t*>(store)) : gather(static_cast<const float*>(store));
}

}  // namespace palimpsest::cuda
