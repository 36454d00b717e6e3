// Runs plans step by step in memory that is poisoned wherever nothing should live.
#include "plan_runner.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "check.h"
#include "graph/run_step.h"

namespace palimpsest::check {

namespace {

int32_t root_of(const Plan& plan, int32_t buffer) { return plan.buffers[static_cast<size_t>(buffer)].root; }

const Buffer& at(const Plan& plan, int32_t buffer) { return plan.buffers[static_cast<size_t>(buffer)]; }

bool overlap_in_time(const Lifetime& a, const Lifetime& b, bool holdable) {
  const bool by_order = a.first <= b.last && b.first <= a.last;
  if (!holdable) return by_order;
  // What hold leaves behind is there during every step of either kind; the rest of hold is dead in apply.
  const auto stays = [](const Lifetime& l) { return !l.tangent && (l.crosses || l.output); };
  if (stays(a) || stays(b)) return true;
  return a.tangent == b.tangent && by_order;
}

}  // namespace

std::vector<Lifetime> lifetimes(const Plan& plan) {
  std::map<int32_t, Lifetime> found;
  const auto of = [&](int32_t buffer) -> Lifetime* {
    const int32_t root = root_of(plan, buffer);
    if (at(plan, root).storage != Storage::arena) return nullptr;
    Lifetime& life = found[root];
    life.root = root;
    return &life;
  };
  const auto count = static_cast<int32_t>(plan.steps.size());
  for (int32_t i = 0; i < count; ++i) {
    const Step& step = plan.steps[static_cast<size_t>(i)];
    for (size_t k = 0; k < step.inputs.size(); ++k) {
      // An epilogue's first input is what the step itself makes.
      if (step.epilogue > 0 && k == static_cast<size_t>(step.epilogue)) continue;
      if (Lifetime* life = of(step.inputs[k])) {
        check(life->first >= 0, __FILE__, __LINE__,
              "step " + std::to_string(i) + " reads what nothing wrote before it");
        life->last = i;
        life->crosses = life->crosses || (step.tangent && !life->tangent);
        check(step.tangent || !life->tangent, __FILE__, __LINE__, "a primal step reads what a tangent step wrote");
      }
    }
    for (int32_t b : step.outputs) {
      if (Lifetime* life = of(b)) {
        if (life->first < 0) life->first = i, life->tangent = step.tangent;
        life->last = i;
      }
    }
  }
  for (int32_t b : plan.outputs) {
    if (b < 0) continue;
    if (Lifetime* life = of(b)) life->last = count, life->output = true;
  }
  std::vector<Lifetime> lives;
  for (const auto& [root, life] : found) lives.push_back(life);
  return lives;
}

std::string memory_fault(const Plan& plan, bool holdable) {
  const std::vector<Lifetime> lives = lifetimes(plan);
  for (size_t i = 0; i < lives.size(); ++i) {
    const Buffer& a = at(plan, lives[i].root);
    const std::string name = "buffer " + std::to_string(lives[i].root);
    if (a.offset < 0 || a.offset + a.bytes > plan.arena_bytes) return name + " lies outside the arena";
    if (a.offset % 64 != 0) return name + " is not aligned";
    for (size_t j = 0; j < i; ++j) {
      const Buffer& b = at(plan, lives[j].root);
      const bool apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
      if (!apart && overlap_in_time(lives[i], lives[j], holdable)) {
        return name + " shares memory with buffer " + std::to_string(lives[j].root);
      }
    }
  }
  return "";
}

namespace {

class PoisonedRun {
 public:
  PoisonedRun(const ProgramDescription& description, const Plan& plan, const Network& network, const Point& point,
              DType dtype)
      : description_(description),
        plan_(plan),
        network_(network),
        bound_(network, point, dtype),
        dtype_(dtype),
        arena_(static_cast<size_t>(plan.arena_bytes) / sizeof(double) + 8, DType::f64) {
    for (const Values& values : point.constants) constants_.push_back(std::make_unique<DeviceValues>(values, dtype));
  }

  std::vector<Values> run() {
    const std::vector<Lifetime> lives = lifetimes(plan_);
    for (size_t i = 0; i < plan_.steps.size(); ++i) {
      for (const Lifetime& life : lives) {
        if (life.first == static_cast<int32_t>(i)) poison(life.root);
      }
      execute(plan_.steps[i]);
      for (const Lifetime& life : lives) {
        if (life.last == static_cast<int32_t>(i)) poison(life.root);
      }
    }
    std::vector<Values> outputs;
    for (int32_t b : plan_.outputs) outputs.push_back(b < 0 ? Values() : read(b));
    return outputs;
  }

 private:
  // All bits set: NaN, or an index of -1.
  void poison(int32_t root) {
    const std::vector<char> bytes(static_cast<size_t>(at(plan_, root).bytes), '\xff');
    tested_backend()->copy_in(address(root), bytes.data(), bytes.size());
  }

  char* parameter(const void* flat, int32_t index) const {
    const auto offset = static_cast<size_t>(network_.layout().entries().at(static_cast<size_t>(index)).offset);
    return static_cast<char*>(const_cast<void*>(flat)) + offset * size_of(dtype_);
  }

  char* address(int32_t buffer) const {
    const Buffer& b = at(plan_, root_of(plan_, buffer));
    switch (b.storage) {
      case Storage::input: return static_cast<char*>(const_cast<void*>(bound_.bindings.inputs[b.index]));
      case Storage::parameter: return parameter(bound_.bindings.parameters, b.index);
      case Storage::tangent: return parameter(bound_.bindings.tangents, b.index);
      case Storage::constant: return static_cast<char*>(constants_.at(static_cast<size_t>(b.index))->data());
      default: return static_cast<char*>(arena_.data()) + b.offset;
    }
  }

  void execute(const Step& step) {
    std::vector<Tensor> in = step.input_tensors, out = step.output_tensors;
    for (size_t i = 0; i < in.size(); ++i) in[i].data = address(step.inputs[i]);
    for (size_t i = 0; i < out.size(); ++i) out[i].data = address(step.outputs[i]);
    run_step(description_.graph, step, *tested_backend(), in, out);
  }

  Values read(int32_t buffer) const {
    const auto count = static_cast<size_t>(element_count(at(plan_, buffer).dims));
    Values values(count);
    if (dtype_ == DType::f64) {
      tested_backend()->copy_out(values.data(), address(buffer), count * sizeof(double));
    } else {
      std::vector<float> narrow(count);
      tested_backend()->copy_out(narrow.data(), address(buffer), count * sizeof(float));
      values.assign(narrow.begin(), narrow.end());
    }
    return values;
  }

  const ProgramDescription& description_;
  const Plan& plan_;
  const Network& network_;
  const Bound bound_;
  const DType dtype_;
  const DeviceValues arena_;
  std::vector<std::unique_ptr<DeviceValues>> constants_;
};

}  // namespace

std::vector<Values> run_plan(const ProgramDescription& description, const Plan& plan, const Network& network,
                             const Point& point, DType dtype) {
  return PoisonedRun(description, plan, network, point, dtype).run();
}

}  // namespace palimpsest::check
