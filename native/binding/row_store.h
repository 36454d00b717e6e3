// RowStore: rows of a dataset, or of a call's arrays, as they came, one after another in the process's memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace palimpsest {

enum class RowType : uint8_t { u8, f32 };

class RowStore {
 public:
  RowStore(RowType type, int64_t width, int64_t expected_rows);
  ~RowStore();
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  RowType type() const { return type_; }
  int64_t width() const { return width_; }  // values in a row
  size_t row_bytes() const { return static_cast<size_t>(width_) * value_bytes(); }
  int64_t size() const { return values_ / width_; }
  size_t bytes() const { return capacity_; }
  bool sealed() const { return sealed_; }

  // Values may come in pieces of any length. Throws ERR_INVALID_ARGUMENT for values that are not finite, before any of
  // them is kept.
  void append(const void* values, int64_t count);
  // Ends appending and gives back what was reserved in excess; throws ERR_SHAPE where a row is not whole.
  void seal();
  // Of a sealed store.
  const std::byte* row(int64_t index) const { return data_ + static_cast<size_t>(index) * row_bytes(); }
  const void* data() const { return data_; }

 private:
  size_t value_bytes() const { return type_ == RowType::u8 ? 1 : 4; }
  void reserve(size_t bytes);

  RowType type_;
  int64_t width_, values_ = 0;
  std::byte* data_ = nullptr;
  size_t capacity_ = 0;
  bool sealed_ = false;
};

}  // namespace palimpsest
