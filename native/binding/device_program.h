// DeviceProgram: a planned program with the device buffers of its inputs and plain outputs, and what it reads.
#pragma once

#include <memory>
#include <vector>

#include "binding/device_vector.h"
#include "binding/network_handle.h"
#include "binding/staging.h"
#include "curvature/products.h"
#include "graph/program.h"

namespace palimpsest {

// A batch-sized input of the graph; the first axis counts rows.
struct ProgramInput {
  bool read = false;
  Dims dims;
  int64_t row_size = 0;  // values in a row
};

struct ProgramOutput {
  Dims dims;
  bool rows = false;  // the first axis counts rows; otherwise a value of the whole batch
  int64_t count = 0;
};

// What a program's graph reads and yields, known before it is planned.
struct ProgramSignature {
  ProgramInput inputs[input_slots];
  std::vector<ProgramOutput> outputs;
  bool reads_tangents = false, writes_sums = false;

  explicit ProgramSignature(const ProgramDescription& description);
};

struct VectorsOfCall {
  std::shared_ptr<DeviceVector> parameters, tangents, sums;
  bool accumulate = false;
};

class DeviceProgram {
 public:
  // On the queue's thread.
  DeviceProgram(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype, Precision precision);
  ~DeviceProgram();
  DeviceProgram(const DeviceProgram&) = delete;
  DeviceProgram& operator=(const DeviceProgram&) = delete;

  StepQueue& queue() const { return placed_->queue; }
  const ParameterLayout& layout() const { return *placed_->layout; }
  const ProductOptions& options() const { return options_; }
  DType dtype() const { return dtype_; }
  const ProgramSignature& signature() const { return signature_; }
  const Program& program() const { return *program_; }
  Program& program() { return *program_; }
  size_t buffer_bytes() const { return buffer_bytes_; }

  // Steps, on the queue's thread. Plain outputs are left in `staging` where it wants them.
  void run(Staging& staging, const VectorsOfCall& vectors);
  void hold(Staging& staging, const VectorsOfCall& vectors);
  void apply(Staging& staging, const VectorsOfCall& vectors);

  // For a rehearsal: inputs with values of the usual size, and where everything lies.
  void fill_inputs();
  Bindings bindings(const VectorsOfCall& vectors) const;

 protected:
  void take_input(InputSlot slot, Staging& staging, void* target);
  void note_first_run();
  void* input(InputSlot slot) const { return inputs_[slot]; }
  void* output(size_t index) const { return outputs_[index]; }
  Program& planned() { return *program_; }

 private:
  DeviceProgram(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype,
                ProgramDescription description);
  void* allocate(int64_t count);
  void take_inputs(Staging& staging);
  void take_range(Staging& staging, void* target);
  void give_outputs(Staging& staging);

  std::shared_ptr<PlacedNetwork> placed_;
  ProductOptions options_;
  DType dtype_;
  ProgramSignature signature_;
  std::unique_ptr<Program> program_;
  std::vector<void*> buffers_;  // all that was allocated
  void* inputs_[input_slots] = {};
  std::vector<void*> outputs_;
  size_t buffer_bytes_ = 0;
  std::shared_ptr<DeviceVector> anchor_;  // the parameters of the batch that is held; null where none is
  int64_t held_rows_ = 0;
  bool ran_ = false;
};

}  // namespace palimpsest
