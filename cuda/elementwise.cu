// Runs elementwise programs: every thread takes sixteen bytes of each operand through all steps. What a step makes for
// the next one stays in machine registers, what lives longer in slots of shared memory.
#include "cuda/elementwise.h"

#include <algorithm>
#include <cstring>

#include "backend/checks.h"
#include "cuda/elementwise_program.h"
#include "cuda/functions.h"
#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/strided.h"
#include "cuda/upload.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

constexpr int threads = 128;

// A kernel's parameter: the program, and where the operands lie. Axes innermost first, in groups of the kernel's width.
template <class T, int most_steps, int most_operands>
struct Parameters {
  int32_t steps = 0, axes = 1;
  int64_t items = 0;
  int64_t dims[most_axes] = {};
  Divisor divisors[most_axes];
  DeviceStep step[most_steps];
  T alpha[most_steps], beta[most_steps];
  T* data[most_operands];
  int64_t strides[most_operands][most_axes];
  bool wide[most_operands];  // a group is sixteen bytes in a row, at a multiple of sixteen
};

template <class T, int width>
struct Registers {
  Wide<T, width>* slots;
  Wide<T, width> last;

  __device__ __forceinline__ Wide<T, width> read(uint16_t slot) const {
    return slot == last_result ? last : slots[slot * threads];
  }
};

// d = body(i) for every element of a group
template <class T, int width, class Body>
__device__ __forceinline__ Wide<T, width> each(Body body) {
  Wide<T, width> d;
#pragma unroll
  for (int i = 0; i < width; ++i) d.at[i] = body(i);
  return d;
}

// What is worth a few instructions; the rest is called.
template <class T, int width>
__device__ __forceinline__ Wide<T, width> apply_unary(const DeviceStep& step, T alpha, T beta, const Wide<T, width>& a,
                                                      const Wide<T, width>& b) {
  const int order = step.order;
  const auto piecewise = [&](auto value, auto slope) {
    return each<T, width>([&](int i) {
      const T x = a.at[i];
      return order == 0 ? value(x) : order == 1 ? slope(x, b.at[i]) : T(0);
    });
  };
  switch (step.unary) {
    case Unary::identity: return piecewise([](T x) { return x; }, [](T, T y) { return y; });
    case Unary::affine: return piecewise([&](T x) { return alpha * x + beta; }, [&](T, T y) { return alpha * y; });
    case Unary::relu:  // NaN passes
      return piecewise([](T x) { return x <= 0 ? T(0) : x; }, [](T x, T y) { return x <= 0 ? T(0) : y; });
    case Unary::leaky_relu:
      return piecewise([&](T x) { return x > 0 ? x : alpha * x; }, [&](T x, T y) { return x > 0 ? y : alpha * y; });
    case Unary::hard_sigmoid: {
      const auto line = [&](T x) { return alpha * x + beta; };
      return piecewise([&](T x) { return line(x) <= 0   ? T(0)
                                         : line(x) >= 1 ? T(1)
                                                        : line(x); },
                       [&](T x, T y) { return line(x) <= 0 || line(x) >= 1 ? T(0) : alpha * y; });
    }
    case Unary::clip:
      return piecewise(
          [&](T x) {
            const T low = x < alpha ? alpha : x;
            return low > beta ? beta : low;
          },
          [&](T x, T y) { return x >= alpha && x <= beta ? y : T(0); });
    case Unary::abs:
      return piecewise([](T x) { return ::fabs(x); }, [](T x, T y) { return x > 0 ? y : x < 0 ? -y : T(0); });
    case Unary::hard_swish:
      return each<T, width>([&](int i) {
        const T x = a.at[i], sixth = T(1) / T(6);
        if (order == 0) return x <= -3 ? T(0) : x >= 3 ? x : x * (x + 3) * sixth;
        if (order == 1) return x <= -3 ? T(0) : x >= 3 ? b.at[i] : (x * (2 * sixth) + T(0.5)) * b.at[i];
        return x > -3 && x < 3 ? (2 * sixth) * b.at[i] : T(0);
      });
    default: {
      const Function<T> function{alpha, beta};
      return each<T, width>([&](int i) {
        const T x = a.at[i];
        return order == 0   ? function.value(step.unary, x)
               : order == 1 ? function.first(step.unary, x, b.at[i])
                            : function.second(step.unary, x, b.at[i]);
      });
    }
  }
}

template <class T, int width>
__device__ __forceinline__ Wide<T, width> compute(const DeviceStep& step, T alpha, T beta,
                                                  const Registers<T, width>& registers) {
  const Wide<T, width> a = registers.read(step.a), b = registers.read(step.b);
  switch (step.code) {
    case Code::unary: return apply_unary<T, width>(step, alpha, beta, a, b);
    case Code::add: return each<T, width>([&](int i) { return a.at[i] + b.at[i]; });
    case Code::sub: return each<T, width>([&](int i) { return a.at[i] - b.at[i]; });
    case Code::mul: return each<T, width>([&](int i) { return a.at[i] * b.at[i]; });
    case Code::div: return each<T, width>([&](int i) { return a.at[i] / b.at[i]; });
    case Code::mul_add: {
      const Wide<T, width> c = registers.read(step.c);
      return each<T, width>([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
    }
    case Code::where: {
      const Wide<T, width> c = registers.read(step.c);
      return each<T, width>([&](int i) { return a.at[i] != 0 ? b.at[i] : c.at[i]; });
    }
    case Code::greater: return each<T, width>([&](int i) { return a.at[i] > b.at[i] ? T(1) : T(0); });
    case Code::greater_or_equal: return each<T, width>([&](int i) { return a.at[i] >= b.at[i] ? T(1) : T(0); });
    default: return each<T, width>([&](int i) { return a.at[i] == b.at[i] ? T(1) : T(0); });
  }
}

template <class T, int width>
__device__ __forceinline__ Wide<T, width> load_group(const T* x, int64_t stride, bool wide) {
  if (wide) return *reinterpret_cast<const Wide<T, width>*>(x);
  if (stride == 0) {
    const T value = *x;
    return each<T, width>([&](int) { return value; });
  }
  return each<T, width>([&](int i) { return x[i * stride]; });
}

template <class T, int width>
__device__ __forceinline__ void store_group(T* y, int64_t stride, bool wide, const Wide<T, width>& value) {
  if (wide) {
    *reinterpret_cast<Wide<T, width>*>(y) = value;
    return;
  }
#pragma unroll
  for (int i = 0; i < width; ++i) y[i * stride] = value.at[i];
}

template <class T, int width, class P>
__device__ __forceinline__ void run_program(const P& p) {
  Registers<T, width> registers{dynamic_shared<Wide<T, width>>() + threadIdx.x, {}};
  for (int64_t item = first_item(); item < p.items; item += item_stride()) {
    int64_t at[most_axes] = {};
    int64_t rest = item;
#pragma unroll
    for (int axis = 0; axis < most_axes; ++axis) {
      if (axis >= p.axes) break;
      const int64_t next = axis + 1 >= p.axes ? 0
                           : p.items <= 0x7fffffff
                               ? static_cast<int64_t>(p.divisors[axis].divide(static_cast<int32_t>(rest)))
                               : rest / p.dims[axis];
      at[axis] = rest - next * p.dims[axis];
      rest = next;
    }
    const auto offset = [&](int operand) {
      int64_t sum = at[0] * width * p.strides[operand][0];
#pragma unroll
      for (int axis = 1; axis < most_axes; ++axis) {
        if (axis < p.axes) sum += at[axis] * p.strides[operand][axis];
      }
      return sum;
    };
    for (int s = 0; s < p.steps; ++s) {
      const DeviceStep step = p.step[s];
      const int operand = step.operand;
      if (step.kind == StepKind::store) {
        store_group<T, width>(p.data[operand] + offset(operand), p.strides[operand][0], p.wide[operand],
                              registers.read(step.a));
        continue;
      }
      registers.last = step.kind == StepKind::load ? load_group<T, width>(p.data[operand] + offset(operand),
                                                                          p.strides[operand][0], p.wide[operand])
                                                   : compute<T, width>(step, p.alpha[s], p.beta[s], registers);
      if (step.slot != last_result) registers.slots[step.slot * threads] = registers.last;
    }
  }
}

template <class T, int width, class P>
__global__ void __launch_bounds__(threads) program_kernel(const __grid_constant__ P p) {
  run_program<T, width>(p);
}

template <class T, int width, class P>
__global__ void __launch_bounds__(threads) long_program_kernel(const P* p) {
  run_program<T, width>(*p);
}

template <class T>
using Short = Parameters<T, 32, 16>;
template <class T>
using Long = Parameters<T, 1024, 256>;
static_assert(sizeof(Short<double>) <= 4096);

void check(const ElementwiseProgram& program, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const auto refuse = [](const std::string& expected, int64_t got) {
    throw Error(ErrorCode::internal, "expected " + expected + " in an elementwise program, got " + std::to_string(got));
  };
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
  for (const auto list : {inputs, outputs}) {
    for (const Tensor& tensor : list) {
      expect_type("elementwise", outputs[0].dtype, tensor);
      expect_dims("elementwise", outputs[0].dims, tensor);
    }
  }
}

template <class P, class T>
void fill_parameters(P& p, const CompiledProgram& program, const StridedAxes& loop, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs, int width) {
  p.steps = static_cast<int32_t>(program.steps.size());
  p.axes = loop.axes();
  p.items = loop.count / width;
  for (int axis = 0; axis < p.axes; ++axis) {
    const size_t at = static_cast<size_t>(axis);
    p.dims[axis] = axis == 0 ? loop.dims[at] / width : loop.dims[at];
    p.divisors[axis] = Divisor(p.items <= 0x7fffffff ? p.dims[axis] : 1);
  }
  for (size_t s = 0; s < program.steps.size(); ++s) {
    p.step[s] = program.steps[s];
    p.alpha[s] = static_cast<T>(program.constants[s].alpha);
    p.beta[s] = static_cast<T>(program.constants[s].beta);
  }
  for (size_t i = 0; i < loop.strides.size(); ++i) {
    const Tensor& tensor = i < outputs.size() ? outputs[i] : inputs[i - outputs.size()];
    p.data[i] = tensor.as<T>();
    p.wide[i] = width > 1 && loop.strides[i][0] == 1 && is_wide(tensor.data);
    for (int axis = 0; axis < p.axes; ++axis) {
      p.strides[i][axis] = loop.strides[i][static_cast<size_t>(axis)];
      if (axis > 0 && p.strides[i][axis] % width != 0) p.wide[i] = false;
    }
  }
}

template <class T, int width>
void run(Device& device, const CompiledProgram& program, const StridedAxes& loop, std::span<const Tensor> inputs,
         std::span<const Tensor> outputs) {
  const size_t shared = static_cast<size_t>(program.slots) * threads * sizeof(Wide<T, width>);
  const dim3 grid(grid_of(loop.count / width, threads, most_blocks));
  if (program.steps.size() <= std::size(Short<T>().step) && loop.strides.size() <= std::size(Short<T>().data)) {
    Short<T> p{};
    fill_parameters<Short<T>, T>(p, program, loop, inputs, outputs, width);
    launch(device, "an elementwise program", program_kernel<T, width, Short<T>>, grid, dim3(threads), shared, p);
    return;
  }
  const Piece piece = device.upload().take(sizeof(Long<T>));
  Long<T>* p = new (piece.host) Long<T>();
  fill_parameters<Long<T>, T>(*p, program, loop, inputs, outputs, width);
  device.upload().send(piece);
  launch(device, "a long elementwise program", long_program_kernel<T, width, Long<T>>, grid, dim3(threads), shared,
         static_cast<const Long<T>*>(piece.device));
  device.upload().done(piece);
}

// The first elements of a loop of one axis, and the tensors (operands from `first` on) that begin `skipped` later.
StridedAxes part_of(StridedAxes loop, int64_t count) {
  loop.count = loop.dims[0] = count;
  return loop;
}

template <class T>
std::vector<Tensor> beyond(const StridedAxes& loop, int64_t skipped, size_t first, std::span<const Tensor> tensors) {
  std::vector<Tensor> moved(tensors.begin(), tensors.end());
  for (size_t i = 0; i < moved.size(); ++i) moved[i].data = moved[i].as<T>() + skipped * loop.strides[first + i][0];
  return moved;
}

}  // namespace

void elementwise(Device& device, const ElementwiseProgram& program, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) {
  check(program, inputs, outputs);
  std::vector<const Dims*> strides;
  for (const auto list : {outputs, inputs}) {
    for (const Tensor& tensor : list) strides.push_back(&tensor.strides);
  }
  const StridedAxes loop = strided_axes(outputs[0].dims, strides);
  if (loop.count == 0) return;
  const CompiledProgram compiled = compile(program, outputs.size());
  if (compiled.steps.size() > std::size(Long<float>().step) || strides.size() > std::size(Long<float>().data)) {
    throw Error(ErrorCode::unsupported,
                "expected an elementwise program of at most 1024 loads, stores and steps on "
                "256 operands, got " +
                    std::to_string(compiled.steps.size()) + " on " + std::to_string(strides.size()));
  }
  with_float("elementwise", outputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int width = wide_count<T>;
    // A group lies within a run of the innermost axis; with too many slots for it elements go one by one.
    const size_t wide_bytes = static_cast<size_t>(compiled.slots) * threads * 16;
    const bool wide = wide_bytes <= device.properties().shared_bytes_per_block;
    if (wide && loop.dims[0] % width == 0) return run<T, width>(device, compiled, loop, inputs, outputs);
    if (wide && loop.axes() == 1 && loop.count > 64 * width) {
      const int64_t rest = loop.count % width;
      run<T, width>(device, compiled, part_of(loop, loop.count - rest), inputs, outputs);
      return run<T, 1>(device, compiled, part_of(loop, rest),
                       beyond<T>(loop, loop.count - rest, outputs.size(), inputs),
                       beyond<T>(loop, loop.count - rest, 0, outputs));
    }
    const size_t bytes = static_cast<size_t>(compiled.slots) * threads * sizeof(T);
    if (bytes > device.properties().shared_bytes_per_block) {
      throw Error(ErrorCode::unsupported,
                  "expected an elementwise program of fewer values at once on this device, got " +
                      std::to_string(compiled.slots));
    }
    run<T, 1>(device, compiled, loop, inputs, outputs);
  });
}

}  // namespace palimpsest::cuda
