// Growing and sealing a store; realloc moves pages rather than bytes where blocks are large.
#include "binding/row_store.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/finite.h"

namespace palimpsest {

namespace {

[[noreturn]] void refuse_memory(const std::string& bytes) {
  throw Error(ErrorCode::out_of_memory, "expected " + bytes + " bytes for rows, got none of them");
}

}  // namespace

RowStore::RowStore(RowType type, int64_t width, int64_t expected_rows) : type_(type), width_(width) {
  if (width < 1 || expected_rows < 0) throw Error(ErrorCode::invalid_argument, "expected rows of one value or more");
  if (static_cast<double>(width) * static_cast<double>(expected_rows) > 1e15) refuse_memory("over 1e15");
  if (expected_rows > 0) reserve(static_cast<size_t>(expected_rows) * row_bytes());
}

RowStore::~RowStore() { std::free(data_); }

void RowStore::reserve(size_t bytes) {
  if (bytes <= capacity_) return;
  void* grown = std::realloc(data_, bytes);
  if (grown == nullptr) refuse_memory(std::to_string(bytes));
  data_ = static_cast<std::byte*>(grown);
  capacity_ = bytes;
}

void RowStore::append(const void* values, int64_t count) {
  if (sealed_) throw Error(ErrorCode::invalid_argument, "expected rows before seal(), got some after it");
  if (count <= 0) return;
  const size_t start = static_cast<size_t>(values_) * value_bytes();
  const size_t added = static_cast<size_t>(count) * value_bytes();
  if (start + added > capacity_) reserve(std::max(start + added, capacity_ + capacity_ / 2));
  if (type_ == RowType::u8) {
    std::memcpy(data_ + start, values, added);
  } else {
    const float* from = static_cast<const float*>(values);
    const int64_t finite = copy_finite(from, count, reinterpret_cast<float*>(data_ + start));
    if (finite < count) {
      throw Error(ErrorCode::invalid_argument, "expected finite inputs, got " + std::to_string(from[finite]) +
                                                   " in row " + std::to_string((values_ + finite) / width_));
    }
  }
  values_ += count;
}

void RowStore::seal() {
  if (values_ % width_ != 0) {
    throw Error(ErrorCode::shape, "expected whole rows of " + std::to_string(width_) + " values, got " +
                                      std::to_string(values_) + " values");
  }
  sealed_ = true;
  const size_t used = static_cast<size_t>(values_) * value_bytes();
  if (used == 0 || used == capacity_) return;
  if (void* shrunk = std::realloc(data_, used)) {
    data_ = static_cast<std::byte*>(shrunk);
    capacity_ = used;
  }
}

}  // namespace palimpsest
