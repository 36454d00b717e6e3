// Elementwise programs: tiles that stay in the first-level cache, every instruction a loop over contiguous values.
// Contiguous inputs are read where they lie; broadcast and strided ones are laid out in a tile's buffer, once where the
// pattern repeats from tile to tile.
#include "cpu/elementwise.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/strided.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

constexpr int64_t most_tile = 1024;

static_assert(static_cast<int>(Unary::count_) == unary_count);
static_assert(static_cast<int>(Code::count_) == code_count);

int operand_count(const Instruction& step) {
  if (step.code == Code::unary) return step.order == 0 ? 1 : 2;
  return step.code == Code::mul_add || step.code == Code::where ? 3 : 2;
}

[[noreturn]] void refuse(const std::string& expected, int64_t got) {
  throw Error(ErrorCode::internal, "expected " + expected + " in an elementwise program, got " + std::to_string(got));
}

void check(const ElementwiseProgram& program, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  if (program.inputs != static_cast<int32_t>(inputs.size())) {
    refuse(std::to_string(program.inputs) + " inputs", static_cast<int64_t>(inputs.size()));
  }
  if (program.outputs.size() != outputs.size() || outputs.empty()) {
    refuse(std::to_string(program.outputs.size()) + " outputs and at least one", static_cast<int64_t>(outputs.size()));
  }
  int32_t defined = program.inputs;
  for (const Instruction& step : program.instructions) {
    const int32_t operands[] = {step.a, step.b, step.c};
    for (int i = 0; i < operand_count(step); ++i) {
      if (operands[i] < 0 || operands[i] >= defined) refuse("a register that is defined", operands[i]);
    }
    if (step.order > 2) refuse("an order of 0 to 2", step.order);
    if (step.code >= Code::count_) refuse("an instruction code", static_cast<int64_t>(step.code));
    if (step.unary >= Unary::count_) refuse("a function", static_cast<int64_t>(step.unary));
    ++defined;
  }
  for (const int32_t output : program.outputs) {
    if (output < 0 || output >= defined) refuse("an output register that is defined", output);
  }
  for (const Tensor& tensor : inputs) {
    expect_type("elementwise", outputs[0].dtype, tensor);
    expect_dims("elementwise", outputs[0].dims, tensor);
  }
  for (const Tensor& tensor : outputs) {
    expect_type("elementwise", outputs[0].dtype, tensor);
    expect_dims("elementwise", outputs[0].dims, tensor);
  }
}

// The cut of the loop's elements into tiles: whole runs of the inner axes where several fit, else pieces of a run.
struct Tiles {
  int64_t count, tile, run, pieces;  // pieces > 0: tiles a run

  explicit Tiles(const StridedLoop& loop) {
    run = 1;
    for (int axis = loop.axes - 1; axis >= 0 && run * loop.dims[axis] <= most_tile; --axis) run *= loop.dims[axis];
    pieces = 0;
    if (run > 1 || loop.count == 1) {
      tile = most_tile / run * run;
      count = (loop.count + tile - 1) / tile;
      total_ = loop.count;
      return;
    }
    run = loop.dims[loop.axes - 1];
    pieces = (run + most_tile - 1) / most_tile;
    tile = most_tile;
    count = loop.count / run * pieces;
    total_ = loop.count;
  }

  int64_t begin(int64_t index) const { return pieces ? index / pieces * run + index % pieces * tile : index * tile; }
  int64_t size(int64_t index) const {
    return pieces ? std::min(tile, run - index % pieces * tile) : std::min(tile, total_ - index * tile);
  }

 private:
  int64_t total_;
};

// How one operand's elements lie over the loop.
struct Operand {
  bool dense = false;      // element e is at offset e
  int64_t period = 0;      // elements after which the pattern repeats, over all outer axes
  int64_t contiguous = 0;  // runs of this many elements lie side by side
};

Operand describe(const StridedLoop& loop, int operand) {
  Operand result;
  int64_t extent = 1;
  result.contiguous = 1;
  bool growing = true;
  for (int axis = loop.axes - 1; axis >= 0; --axis) {
    if (growing && loop.stride(operand, axis) == extent) {
      result.contiguous *= loop.dims[axis];
    } else {
      growing = false;
    }
    extent *= loop.dims[axis];
  }
  result.dense = result.contiguous == loop.count;
  result.period = 1;
  int64_t inner = 1;
  for (int axis = loop.axes - 1; axis >= 0; --axis) {
    inner *= loop.dims[axis];
    if (loop.stride(operand, axis) != 0) result.period = inner;
  }
  return result;
}

// Visits elements [begin, begin + n) of an operand as runs along the innermost axis: visit(offset, stride, done,
// count).
template <class Visit>
void visit_runs(const StridedLoop& loop, int operand, int64_t begin, int64_t n, Visit visit) {
  const int inner = loop.axes - 1;
  std::array<int64_t, most_axes> at;
  int64_t offset = 0, rest = begin;
  for (int axis = inner; axis >= 0; --axis) {
    at[axis] = rest % loop.dims[axis];
    rest /= loop.dims[axis];
    offset += at[axis] * loop.stride(operand, axis);
  }
  for (int64_t done = 0; done < n;) {
    const int64_t count = std::min(loop.dims[inner] - at[inner], n - done);
    visit(offset, loop.stride(operand, inner), done, count);
    done += count;
    offset += count * loop.stride(operand, inner);
    at[inner] += count;
    for (int axis = inner; axis >= 0 && at[axis] == loop.dims[axis]; --axis) {
      offset -= loop.dims[axis] * loop.stride(operand, axis);
      at[axis] = 0;
      if (axis == 0) break;
      ++at[axis - 1];
      offset += loop.stride(operand, axis - 1);
    }
  }
}

template <typename T>
void gather_run(const T* x, int64_t stride, int64_t n, T* to) {
  if (stride == 1) {
    std::memcpy(to, x, static_cast<size_t>(n) * sizeof(T));
  } else if (stride == 0) {
    std::fill_n(to, n, x[0]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = x[i * stride];
  }
}

// A program ready to run: which memory each register takes.
template <typename T>
struct Plan {
  const ElementwiseProgram& program;
  std::span<const Tensor> inputs, outputs;
  StridedLoop loop;  // operands: outputs, then inputs
  Tiles tiles;
  std::vector<Operand> operands;
  std::vector<int> buffer;         // of each register: its tile buffer, -1 for none
  std::vector<int> direct_output;  // of each register: the output it is computed in, -1 for none
  int buffers = 0;

  const Operand& input(int i) const { return operands[outputs.size() + i]; }
};

bool overlaps(const Tensor& a, const Operand& a_shape, const Tensor& b) {
  // Any input that starts within a dense output may be that output; views elsewhere in it are not allowed anyway.
  return a_shape.dense && a.data == b.data;
}

// Register r may be computed in its output's memory: no later instruction reads an input that lies there.
template <typename T>
int direct_output_of(const Plan<T>& plan, int32_t reg) {
  const ElementwiseProgram& program = plan.program;
  for (size_t o = 0; o < plan.outputs.size(); ++o) {
    if (program.outputs[o] != reg || !plan.operands[o].dense) continue;
    bool safe = reg >= program.inputs;
    const auto reads_later = [&](int32_t input) {
      for (size_t s = reg - program.inputs + 1; s < program.instructions.size(); ++s) {
        const Instruction& step = program.instructions[s];
        const int32_t operands[] = {step.a, step.b, step.c};
        for (int i = 0; i < operand_count(step); ++i) {
          if (operands[i] == input) return true;
        }
      }
      for (const int32_t output : program.outputs) {
        if (output == input) return true;
      }
      return false;
    };
    for (int32_t input = 0; safe && input < program.inputs; ++input) {
      if (overlaps(plan.outputs[o], plan.operands[o], plan.inputs[input]) && reads_later(input)) safe = false;
    }
    if (safe) return static_cast<int>(o);
  }
  return -1;
}

template <typename T>
void assign_buffers(Plan<T>& plan) {
  const ElementwiseProgram& program = plan.program;
  const int32_t registers = program.inputs + static_cast<int32_t>(program.instructions.size());
  std::vector<int32_t> last_use(registers, -1);
  for (size_t s = 0; s < program.instructions.size(); ++s) {
    const Instruction& step = program.instructions[s];
    const int32_t operands[] = {step.a, step.b, step.c};
    for (int i = 0; i < operand_count(step); ++i) last_use[operands[i]] = static_cast<int32_t>(s);
  }
  for (const int32_t output : program.outputs) last_use[output] = static_cast<int32_t>(program.instructions.size());

  plan.buffer.assign(registers, -1);
  plan.direct_output.assign(registers, -1);
  // Inputs keep their buffers: a repeating pattern is laid out once.
  for (int32_t i = 0; i < program.inputs; ++i) {
    if (!plan.input(i).dense) plan.buffer[i] = plan.buffers++;
  }
  std::vector<int> free;
  for (size_t s = 0; s < program.instructions.size(); ++s) {
    const int32_t reg = program.inputs + static_cast<int32_t>(s);
    plan.direct_output[reg] = direct_output_of(plan, reg);
    if (plan.direct_output[reg] < 0) {
      if (free.empty()) free.push_back(plan.buffers++);
      plan.buffer[reg] = free.back();
      free.pop_back();
    }
    for (int32_t r = program.inputs; r <= reg; ++r) {
      const bool ends_here = last_use[r] == static_cast<int32_t>(s) || (r == reg && last_use[r] < 0);
      if (ends_here && plan.buffer[r] >= 0) free.push_back(plan.buffer[r]);
    }
  }
}

template <typename T>
class TileRunner {
 public:
  TileRunner(const Plan<T>& plan, T* memory)
      : plan_(plan),
        kernels_(typed_kernels<T>()),
        memory_(memory),
        registers_(plan.buffer.size(), nullptr),
        laid_out_(plan.inputs.size(), {-1, 0}) {}

  void run(int64_t begin, int64_t n) {
    const ElementwiseProgram& program = plan_.program;
    for (int32_t i = 0; i < program.inputs; ++i) registers_[i] = input(i, begin, n);
    for (size_t s = 0; s < program.instructions.size(); ++s) {
      const Instruction& step = program.instructions[s];
      const size_t reg = program.inputs + s;
      T* to = plan_.direct_output[reg] >= 0 ? plan_.outputs[plan_.direct_output[reg]].template as<T>() + begin
                                            : memory_ + plan_.buffer[reg] * most_tile;
      const MapKernel<T> kernel = step.code == Code::unary ? kernels_.unary[static_cast<int>(step.unary)][step.order]
                                                           : kernels_.binary[static_cast<int>(step.code)];
      const int operands = operand_count(step);
      kernel(registers_[step.a], operands > 1 ? registers_[step.b] : nullptr,
             operands > 2 ? registers_[step.c] : nullptr, to, n, static_cast<T>(step.alpha), static_cast<T>(step.beta));
      registers_[reg] = to;
    }
    for (size_t o = 0; o < plan_.outputs.size(); ++o) output(o, begin, n);
  }

 private:
  struct LaidOut {
    int64_t begin, n;
  };

  const T* input(int32_t i, int64_t begin, int64_t n) {
    const Operand& operand = plan_.input(i);
    const T* x = plan_.inputs[i].template as<const T>();
    if (operand.dense) return x + begin;
    const int index = static_cast<int>(plan_.outputs.size()) + i;
    if (operand.contiguous > 1 && begin % operand.contiguous + n <= operand.contiguous) {
      const T* at = nullptr;
      visit_runs(plan_.loop, index, begin, 1, [&](int64_t offset, int64_t, int64_t, int64_t) { at = x + offset; });
      return at;
    }
    T* to = memory_ + plan_.buffer[i] * most_tile;
    LaidOut& last = laid_out_[i];
    if (last.begin >= 0 && last.begin % operand.period == begin % operand.period && n <= last.n) return to;
    visit_runs(plan_.loop, index, begin, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
      gather_run(x + offset, stride, count, to + done);
    });
    last = {begin, n};
    return to;
  }

  void output(size_t o, int64_t begin, int64_t n) {
    const int32_t reg = plan_.program.outputs[o];
    if (plan_.direct_output[reg] == static_cast<int>(o)) return;
    T* y = plan_.outputs[o].template as<T>();
    const T* from = registers_[reg];
    visit_runs(plan_.loop, static_cast<int>(o), begin, n,
               [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
                 if (stride == 1) {
                   std::memmove(y + offset, from + done, static_cast<size_t>(count) * sizeof(T));
                 } else {
                   for (int64_t j = 0; j < count; ++j) y[offset + j * stride] = from[done + j];
                 }
               });
  }

  const Plan<T>& plan_;
  const TypedKernels<T>& kernels_;
  T* memory_;
  std::vector<const T*> registers_;
  std::vector<LaidOut> laid_out_;
};

template <typename T>
void run(const ElementwiseProgram& program, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  std::vector<const Dims*> strides;
  for (const Tensor& tensor : outputs) strides.push_back(&tensor.strides);
  for (const Tensor& tensor : inputs) strides.push_back(&tensor.strides);
  StridedLoop loop = strided_loop(outputs[0].dims, strides);
  if (loop.count == 0) return;
  const Tiles tiles(loop);
  Plan<T> plan{program, inputs, outputs, std::move(loop), tiles, {}, {}, {}};
  for (int i = 0; i < plan.loop.operands; ++i) plan.operands.push_back(describe(plan.loop, i));
  assign_buffers(plan);
  const int64_t share = static_cast<int64_t>(plan.buffers) * most_tile;
  T* memory = workspace<T>(Slot::elementwise, thread_count() * share);
  const double work = static_cast<double>(plan.loop.count) * (1 + static_cast<double>(program.instructions.size())) / 4;
  parallel_for(plan.tiles.count, work, [&](int64_t begin, int64_t end, int thread) {
    TileRunner<T> runner(plan, memory + thread * share);
    for (int64_t tile = begin; tile < end; ++tile) runner.run(plan.tiles.begin(tile), plan.tiles.size(tile));
  });
}

}  // namespace

void elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  check(program, inputs, outputs);
  with_float("elementwise", outputs[0].dtype, [&](auto zero) { run<decltype(zero)>(program, inputs, outputs); });
}

}  // namespace palimpsest::cpu
