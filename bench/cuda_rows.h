// Timing by device events, what the GPU gives at most, and the rows that are printed.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/library.h"

namespace palimpsest::bench {

// --- Timing.
// ----------------------------------------------------------------------------------------------------------

struct Event {
  cudaEvent_t event = nullptr;
  Event() { cuda::check(cudaEventCreate(&event), "making an event"); }
  Event(const Event&) = delete;
  ~Event() { cudaEventDestroy(event); }
};

struct Times {
  double median = 0, least = 0, most = 0;  // milliseconds of one run
};

// Groups of runs of about 5 ms each between two events, so that the time to start a kernel hides behind the last one.
inline Times times_of(cuda::Device& device, const std::function<void()>& run) {
  const Event begin, end;
  const auto group = [&](int runs) {
    cuda::check(cudaEventRecord(begin.event, device.stream()), "an event");
    for (int i = 0; i < runs; ++i) run();
    cuda::check(cudaEventRecord(end.event, device.stream()), "an event");
    cuda::check(cudaEventSynchronize(end.event), "waiting for an event");
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, begin.event, end.event), "an event's time");
    return static_cast<double>(milliseconds) / runs;
  };
  group(3);
  const int runs = std::clamp(static_cast<int>(5 / std::max(1e-3, group(1))), 1, 200);
  std::vector<double> samples;
  for (int i = 0; i < 11; ++i) samples.push_back(group(runs));
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 2], samples.front(), samples.back()};
}

// --- What the machine gives at most, measured.
// --------------------------------------------------------------------------

template <class T>
__global__ void multiply_add_kernel(int steps, T factor, T* to) {
  T sums[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) sums[i] = T(threadIdx.x + i);
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int i = 0; i < 16; ++i) sums[i] = fma(sums[i], factor, T(1));
  }
  T sum = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) sum += sums[i];
  to[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

struct Peaks {
  double bytes = 0;                          // copied a second, read and written
  double float_flops = 0, double_flops = 0;  // of the ordinary units
};

template <class T>
double multiply_add_rate(cuda::Device& device) {
  const int blocks = device.properties().multiprocessors * 8, threads = 256, steps = 4096;
  auto* to = static_cast<T*>(device.memory().allocate(sizeof(T) * static_cast<size_t>(blocks) * threads));
  const Times times = times_of(device, [&] {
    cuda::launch(device, "multiplying and adding", multiply_add_kernel<T>, dim3(blocks), dim3(threads), 0, steps,
                 T(0.999), to);
  });
  device.memory().release(to);
  return 2.0 * 16 * steps * blocks * threads / times.median * 1e3;
}

inline Peaks measure_peaks(cuda::Device& device) {
  const size_t bytes = size_t{1} << 30;
  void *from = device.memory().allocate(bytes), *to = device.memory().allocate(bytes);
  cuda::check(cudaMemsetAsync(from, 1, bytes, device.stream()), "filling");
  const Times times = times_of(device, [&] {
    cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device.stream()), "copying");
  });
  device.memory().release(from), device.memory().release(to);
  return {2.0 * static_cast<double>(bytes) / times.median * 1e3, multiply_add_rate<float>(device),
          multiply_add_rate<double>(device)};
}

// --- Rows.
// --------------------------------------------------------------------------------------------------------------

class Values {
 public:
  Values(cuda::Device& device, DType dtype, const Dims& dims, Layout layout = Layout::row_major) : device_(device) {
    const auto count = static_cast<size_t>(element_count(dims));
    tensor_ = dense_tensor(device.memory().allocate(count * size_of(dtype)), dtype, dims, layout);
    std::vector<double> wide(dtype == DType::f64 ? count : 0);
    std::vector<float> narrow(dtype == DType::f32 ? count : 0);
    for (size_t i = 0; i < count; ++i) {
      const double value = static_cast<double>(i * 7919 % 1009) / 1009 - 0.5;
      if (dtype == DType::f32) narrow[i] = static_cast<float>(value);
      if (dtype == DType::f64) wide[i] = value;
    }
    if (dtype == DType::f32) device.copy_in(tensor_.data, narrow.data(), count * sizeof(float));
    if (dtype == DType::f64) device.copy_in(tensor_.data, wide.data(), count * sizeof(double));
    if (dtype == DType::i32) {
      cuda::check(cudaMemsetAsync(tensor_.data, 0, count * sizeof(int32_t), device.stream()), "filling");
    }
  }
  Values(const Values&) = delete;
  ~Values() { device_.memory().release(tensor_.data); }
  operator const Tensor&() const { return tensor_; }

 private:
  cuda::Device& device_;
  Tensor tensor_;
};

struct Bench {
  cuda::Device& device;
  Peaks peaks;
  std::string only;
  std::FILE* json = nullptr;

  const char* suffix(DType dtype) const {
    if (dtype == DType::f64) return " f64";
    return device.precision() == Precision::tf32 ? " tf32" : " f32";
  }

  void print(const std::string& name, const char* way, const Times& times, double amount, double peak, const char* unit,
             double library) const {
    const double rate = amount / times.median * 1e3;
    std::printf("%-70s %-8s %9.4f ms  %9.1f %-8s %5.1f %% of peak", name.c_str(), way, times.median, rate / 1e9, unit,
                100 * rate / peak);
    if (library > 0) std::printf("  %6.1f %% of the library", 100 * library / times.median);
    std::printf("  [%.4f, %.4f]\n", times.least, times.most);
  }
  void record(const std::string& name, const char* way, const std::string& fields, const Times& times,
              double amount) const {
    if (json == nullptr) return;
    std::fprintf(json, "{\"name\": \"%s\", \"way\": \"%s\", %s, \"milliseconds\": %.6f, \"amount\": %.0f}\n",
                 name.c_str(), way, fields.c_str(), times.median, amount);
    std::fflush(json);
  }

  // A product in FLOPs: our own kernel, and the library where it takes part in the call.
  void product(const std::string& base, DType dtype, const std::string& fields, double flops, bool libraries,
               const std::function<void()>& run) const {
    const std::string name = base + suffix(dtype);
    if (name.find(only) == std::string::npos) return;
    const double peak = dtype == DType::f64 ? peaks.double_flops : peaks.float_flops;
    const std::string all = fields + ", \"dtype\": \"" + (suffix(dtype) + 1) + "\"";
    double library = 0;
    if (libraries) {
      const Times times = times_of(device, run);
      print(name, "library", times, flops, peak, "GFLOP/s", 0);
      record(name, "library", all, times, flops);
      library = times.median;
    }
    const bool before = cuda::use_libraries(false);
    const Times times = times_of(device, run);
    cuda::use_libraries(before);
    print(name, "own", times, flops, peak, "GFLOP/s", library);
    record(name, "own", all, times, flops);
  }
  // A pass over memory in bytes.
  void pass(const std::string& base, DType dtype, double bytes, const std::function<void()>& run) const {
    const std::string name = base + suffix(dtype);
    if (name.find(only) == std::string::npos) return;
    const Times times = times_of(device, run);
    print(name, "own", times, bytes, peaks.bytes, "GB/s", 0);
    record(name, "own", std::string("\"kind\": \"pass\", \"dtype\": \"") + (suffix(dtype) + 1) + "\"", times, bytes);
  }
};

}  // namespace palimpsest::bench
