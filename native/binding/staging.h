// Staging: what one call brings and takes, copied out of JavaScript before the call returns; used again by later calls.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "binding/row_store.h"
#include "ops/graph.h"

namespace palimpsest {

// Rows of a store that a batch gathers, instead of inputs that were given.
struct StagedGather {
  std::shared_ptr<RowStore> store;  // null where inputs were given
  int64_t channels = 0, height = 0, width = 0, pad = 0;
  std::vector<float> scale, shift;
  std::vector<GatherRow> rows;
};

// Rows of a float32 store as they are, from `first` on, instead of inputs that were given.
struct StagedRows {
  std::shared_ptr<RowStore> store;  // null where there are none
  int64_t first = 0;
};

struct Staging {
  int64_t rows = 0;                            // valid rows of the batch
  std::vector<std::byte> inputs[input_slots];  // in the program's type, padded to the batch
  StagedGather gather;
  StagedRows range;
  bool wants_outputs = true;
  std::vector<std::vector<std::byte>> outputs;
};

// Rows from `rows` to `batch` become copies of the first: values the network meets anyway, so that nothing overflows
// there. `values`: whole rows of `batch`.
void repeat_first_row(std::vector<std::byte>& values, int64_t rows, int64_t batch);

// Stagings of a program that no call uses; two or three in a steady loop.
class StagingPool : public std::enable_shared_from_this<StagingPool> {
 public:
  // Goes back to the pool with its last user, on whichever thread that is.
  std::shared_ptr<Staging> take();

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Staging>> free_;
};

}  // namespace palimpsest
