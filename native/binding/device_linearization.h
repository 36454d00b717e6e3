// DeviceLinearization: batches of a network that are linearised once and applied to often, each kept in a slot.
#pragma once

#include <memory>
#include <vector>

#include "binding/device_program.h"

namespace palimpsest {

// What apply reads besides the batch that a slot keeps.
struct LinearizedCall {
  int32_t slot = 0;
  std::vector<std::shared_ptr<DeviceVector>> tangents, sums;
  std::vector<std::vector<std::byte>> cotangents;  // [batch, K] each, zeros in the padded tail
  std::vector<std::byte> targets;                  // [batch, K]
  Loss loss = Loss::cross_entropy;
  double weight = 1;  // of every row
  bool accumulate = false;
};

class DeviceLinearization final : public DeviceProgram {
 public:
  // On the queue's thread, like every step. `options` name a linearization.
  DeviceLinearization(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype,
                      Precision precision)
      : DeviceProgram(std::move(placed), options, dtype, precision) {}

  // Device memory of one slot, and of what all of them share.
  size_t slot_bytes() const;
  size_t shared_bytes() const;

  // Keeps a batch in a slot, in place of what was there. The parameters must stay as they are.
  void hold(int32_t slot, Staging& staging, std::shared_ptr<DeviceVector> parameters);
  void release(int32_t slot);

  // J v for each tangent: outputs [rows, K].
  void jvp(const LinearizedCall& call, Staging& staging);
  // sums (+)= J^T u for each cotangent.
  void vjp(const LinearizedCall& call, Staging& staging);
  // sums (+)= J^T (weight H_loss) J v for each tangent.
  void ggn_product(const LinearizedCall& call, Staging& staging);
  // sums (+)= J^T (weight (f + J v - targets)) for the one tangent; output: the residual [rows, K].
  void linear_gradient(const LinearizedCall& call, Staging& staging);

 private:
  struct Slot {
    std::shared_ptr<Program::Held> held;  // null where nothing is kept
    std::shared_ptr<void> inputs;         // where the slot keeps its own
    std::shared_ptr<DeviceVector> parameters;
    int64_t rows = 0;
    bool ready = false;
  };

  const Slot& slot_of(const LinearizedCall& call) const;
  void apply(const Slot& slot, LinearizedOutput output, const void* cotangent, const DeviceVector* tangent,
             const LinearizedCall& call, DeviceVector* sums = nullptr);
  void set_weights(const Slot& slot, double weight);
  void give(const Slot& slot, LinearizedOutput output, std::vector<std::byte>& to);

  std::vector<Slot> slots_;
  double weight_ = 0;  // what the device's weights are, and of how many rows
  int64_t weighted_rows_ = -1;
};

}  // namespace palimpsest
