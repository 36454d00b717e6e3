// LowRank's constructor and steps.
#include "binding/low_rank_handle.h"

#include "binding/task.h"
#include "binding/vector_handle.h"

namespace palimpsest {

namespace {

// The selection's places are those of one layout: in a vector of another they would lie elsewhere, or beyond its end.
VectorHandle& operand(const LowRankState& state, const Napi::Value& value, const std::string& argument) {
  VectorHandle& handle = VectorHandle::from(value, argument);
  const DeviceVector& vector = *handle.held();
  expect_device(vector, argument, state.queue);
  if (!same_layout(*vector.layout(), *state.layout)) {
    throw Error(ErrorCode::invalid_argument,
                "expected a vector with the same parameters for '" + argument + "', got one with others");
  }
  return handle;
}

// The backend where it multiplies what lies in the host's memory, as the rows do.
std::shared_ptr<Backend> host_products(const StepQueue& queue) {
  return queue.device() == "cpu" ? queue.shared_backend() : nullptr;
}

}  // namespace

void LowRankHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(name, define(env, {
                                    method_named<&LowRankHandle::append>("append"),
                                    method_named<&LowRankHandle::factor>("factor"),
                                    method_named<&LowRankHandle::apply_inverse>("applyInverse"),
                                }));
}

// (like: Vector, parameters: string[], rows, sampled)
LowRankHandle::LowRankHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<DeviceVector>& like = VectorHandle::from(info[0], "like").held();
    auto state = std::make_unique<LowRankState>(like->queue(), like->layout());
    state->selection = Selection(info[1], *like->layout());
    state->rows = whole_number(info[2], "rows", 1, 1 << 20);
    state->sampled = whole_number(info[3], "sampled", 1, state->rows);
    const int64_t bytes = state->rows * state->selection.size() * static_cast<int64_t>(sizeof(float));
    StepQueue& queue = like->queue();
    hold(info.Env(), queue.share(std::move(state)), bytes);
  });
}

// A row of J: the selected values of a vector.
Napi::Value LowRankHandle::append(const Napi::CallbackInfo& info) {
  return start_task(info.Env(), held()->queue,
                    [state = held(), row = operand(*held(), info[0], "row").held()] {
                      if (state->preconditioner)
                        throw Error(ErrorCode::internal, "expected rows before the first factor");
                      const size_t most = static_cast<size_t>(state->rows * state->selection.size());
                      if (state->jacobian.capacity() < most) state->jacobian.reserve(most);
                      if (state->jacobian.size() + static_cast<size_t>(state->selection.size()) > most) {
                        throw Error(ErrorCode::internal, "expected no more rows than were announced");
                      }
                      const std::vector<float> values = state->selection.gather<float>(*row);
                      state->jacobian.insert(state->jacobian.end(), values.begin(), values.end());
                    })
      .promise;
}

Napi::Value LowRankHandle::factor(const Napi::CallbackInfo& info) {
  const double theta = finite_number(info[0], "theta"), mu = finite_number(info[1], "mu");
  return start_task(info.Env(), held()->queue,
                    [state = held(), theta, mu] {
                      if (!state->preconditioner) {
                        state->preconditioner.emplace(std::move(state->jacobian), state->rows, state->selection.size(),
                                                      state->sampled, host_products(state->queue));
                      }
                      state->preconditioner->factor(theta, mu);
                    })
      .promise;
}

// (x, out): out = M^-1 x over the selected parameters.
Napi::Value LowRankHandle::apply_inverse(const Napi::CallbackInfo& info) {
  VectorHandle& target = operand(*held(), info[1], "out");
  const Started started = start_task(info.Env(), held()->queue,
                                     [state = held(), x = operand(*held(), info[0], "x").held(), out = target.held()] {
                                       if (!state->preconditioner)
                                         throw Error(ErrorCode::internal, "expected a factor before it is applied");
                                       if (x->dtype() == DType::f64) {
                                         std::vector<double> v = state->selection.gather<double>(*x);
                                         state->preconditioner->apply_inverse<double>(v, v);
                                         state->selection.scatter<double>(v, *out);
                                       } else {
                                         std::vector<float> v = state->selection.gather<float>(*x);
                                         state->preconditioner->apply_inverse<float>(v, v);
                                         state->selection.scatter<float>(v, *out);
                                       }
                                     });
  target.written_by(started.ticket);
  return started.promise;
}

}  // namespace palimpsest
