// The pool of stagings, and the padding of a batch.
#include "binding/staging.h"

#include <cstring>

namespace palimpsest {

void repeat_first_row(std::vector<std::byte>& values, int64_t rows, int64_t batch) {
  const size_t bytes = values.size() / static_cast<size_t>(batch);
  for (int64_t i = rows; i < batch; ++i) {
    std::memcpy(values.data() + static_cast<size_t>(i) * bytes, values.data(), bytes);
  }
}

// What a caller with a few calls in flight uses again; one that queues a thousand gives the memory back.
constexpr size_t most_free = 4;

std::shared_ptr<Staging> StagingPool::take() {
  std::unique_ptr<Staging> staging;
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    if (!free_.empty()) {
      staging = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!staging) staging = std::make_unique<Staging>();
  return std::shared_ptr<Staging>(staging.release(), [pool = shared_from_this()](Staging* last) noexcept {
    std::unique_ptr<Staging> kept(last);  // ends after the lock where it is not kept
    kept->gather.store.reset();
    kept->range.store.reset();
    try {
      const std::lock_guard<std::mutex> hold(pool->mutex_);
      if (pool->free_.size() < most_free) pool->free_.push_back(std::move(kept));
    } catch (...) {
      // Without memory for the list it ends here.
    }
  });
}

}  // namespace palimpsest
