// Checks of rows of a store; copying and gathering them is the native thread's.
#include "binding/gather_call.h"

#include <limits>
#include <string>
#include <utility>

#include "binding/arguments.h"
#include "binding/rows_handle.h"

namespace palimpsest {

namespace {

std::vector<float> channel_values(const Napi::Value& value, const std::string& name, int64_t channels) {
  const TypedView view = typed_view(value, name, "a Float32Array");
  const int64_t count = static_cast<int64_t>(view.length);
  if (count != 1 && count != channels)
    refuse("one value or one for each of " + std::to_string(channels) + " channels", name, value);
  std::vector<float> values(view.length);
  copy_floats(value, name, count, DType::f32, values.data());
  return values;
}

void read_spec(const Napi::Object& from, StagedGather& gather) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const Napi::Value scale = from.Get("scale"), shift = from.Get("shift");
  gather.channels = whole_number(from.Get("channels"), "gather.channels", 1, most);
  gather.height = whole_number(from.Get("height"), "gather.height", 1, most);
  gather.width = whole_number(from.Get("width"), "gather.width", 1, most);
  gather.pad = whole_number(from.Get("pad"), "gather.pad", 0, 1 << 20);
  gather.scale = channel_values(scale, "gather.scale", gather.channels);
  gather.shift = channel_values(shift, "gather.shift", gather.channels);
}

void expect_width(const RowStore& store, int64_t row_size) {
  if (store.sealed() && store.width() == row_size) return;
  throw Error(ErrorCode::shape, "expected sealed rows of " + std::to_string(row_size) + " values for 'inputs', got " +
                                    std::to_string(store.width()));
}

void stage_range(const Napi::Value& store_value, const Napi::Value& first, int64_t row_size, Staging& staging) {
  const std::shared_ptr<RowStore>& store = RowsHandle::from(store_value, "inputs.store").held();
  expect_width(*store, row_size);
  if (store->type() != RowType::f32) refuse("rows of float32", "inputs.store", store_value);
  staging.range.first = whole_number(first, "inputs.first", 0, store->size() - staging.rows);
  staging.range.store = store;
}

void stage_gather(const Napi::Object& from, int64_t row_size, int64_t batch, Staging& staging) {
  const Napi::Value store_value = from.Get("store"), spec = from.Get("gather"), indices = from.Get("indices"),
                    flips = from.Get("flips"), crops = from.Get("crops");
  const std::shared_ptr<RowStore>& store = RowsHandle::from(store_value, "inputs.store").held();
  StagedGather& gather = staging.gather;
  read_spec(object(spec, "inputs.gather"), gather);
  expect_width(*store, row_size);
  // Each size is at most 2^31, so that two of them multiply without overflow, and a third after the division.
  const bool fits = gather.channels <= row_size && row_size % gather.channels == 0 &&
                    gather.height * gather.width == row_size / gather.channels;
  if (!fits) {
    throw Error(ErrorCode::shape, "expected channels, height and width of " + std::to_string(row_size) +
                                      " values for 'inputs', got " + std::to_string(gather.channels) + " x " +
                                      std::to_string(gather.height) + " x " + std::to_string(gather.width));
  }
  const std::vector<int32_t> rows = copy_integers(indices, "inputs.indices", staging.rows);
  const bool flipped = !flips.IsUndefined(), cropped = !crops.IsUndefined();
  const std::vector<uint8_t> flip = flipped ? copy_bytes(flips, "inputs.flips", staging.rows) : std::vector<uint8_t>();
  const std::vector<int32_t> crop =
      cropped ? copy_integers(crops, "inputs.crops", 2 * staging.rows) : std::vector<int32_t>();
  const int32_t centre = static_cast<int32_t>(gather.pad);
  gather.rows.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t dy = cropped ? crop[2 * i] : centre, dx = cropped ? crop[2 * i + 1] : centre;
    if (rows[i] < 0 || rows[i] >= store->size() || dy < 0 || dy > 2 * centre || dx < 0 || dx > 2 * centre) {
      throw Error(ErrorCode::invalid_argument, "expected rows below " + std::to_string(store->size()) +
                                                   " and crops up to " + std::to_string(2 * centre) + ", got row " +
                                                   std::to_string(rows[i]) + ", crop " + std::to_string(dy) + ", " +
                                                   std::to_string(dx));
    }
    gather.rows.push_back({rows[i], dy, dx, flipped && flip[i] != 0});
  }
  gather.rows.resize(static_cast<size_t>(batch), gather.rows.front());
  gather.store = store;
}

}  // namespace

void stage_store_rows(const Napi::Value& value, int64_t row_size, int64_t batch, Staging& staging) {
  const Napi::Object from = value.As<Napi::Object>();
  const Napi::Value first = from.Get("first");
  if (first.IsUndefined()) return stage_gather(from, row_size, batch, staging);
  stage_range(from.Get("store"), first, row_size, staging);
}

}  // namespace palimpsest
