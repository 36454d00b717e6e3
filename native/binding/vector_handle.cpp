// Vector's constructor, reads, writes and arithmetic.
#include "binding/vector_handle.h"

#include <cstring>
#include <utility>

#include "binding/network_handle.h"
#include "binding/vector_steps.h"

namespace palimpsest {

namespace {

// Allocates and fills a new vector; who uses it later hears of a failure.
class CreateStep : public QueuedStep {
 public:
  CreateStep(std::shared_ptr<DeviceVector> vector, std::vector<StagedRange> initial)
      : vector_(std::move(vector)), initial_(std::move(initial)) {}
  void run() noexcept override { vector_->create(initial_); }
  void finish(std::unique_ptr<QueuedStep>) noexcept override {}

 private:
  std::shared_ptr<DeviceVector> vector_;
  std::vector<StagedRange> initial_;
};

bool has_tag(const Napi::Value& value, const napi_type_tag& tag) {
  bool tagged = false;
  if (value.IsObject()) napi_check_object_type_tag(value.Env(), value, &tag, &tagged);
  return tagged;
}

std::unique_ptr<DeviceVector> empty_like(const Napi::Value& like, DType dtype) {
  if (has_tag(like, NetworkHandle::tag)) {
    const PlacedNetwork& placed = *NetworkHandle::from(like, "like").held();
    return std::make_unique<DeviceVector>(placed.layout, dtype, placed.queue);
  }
  if (!has_tag(like, VectorHandle::tag)) refuse("a native Network or Vector", "like", like);
  const DeviceVector& other = *VectorHandle::from(like, "like").held();
  return std::make_unique<DeviceVector>(other.layout(), dtype, other.queue());
}

}  // namespace

void VectorHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(name, define(env, {
                                    getter_named<&VectorHandle::device>("device"),
                                    getter_named<&VectorHandle::dtype>("dtype"),
                                    getter_named<&VectorHandle::layout>("layout"),
                                    getter_named<&VectorHandle::bytes>("bytes"),
                                    method_named<&VectorHandle::get>("get"),
                                    method_named<&VectorHandle::read>("read"),
                                    method_named<&VectorHandle::set>("set"),
                                    method_named<&VectorHandle::write>("write"),
                                    method_named<&VectorHandle::fill>("fill"),
                                    method_named<&VectorHandle::copy_from>("copyFrom"),
                                    method_named<&VectorHandle::dot>("dot"),
                                    method_named<&VectorHandle::axpy>("axpy"),
                                    method_named<&VectorHandle::scale>("scale"),
                                    method_named<&VectorHandle::add_product>("addProduct"),
                                    method_named<&VectorHandle::sgd_step>("sgdStep"),
                                }));
}

VectorHandle::VectorHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    std::unique_ptr<DeviceVector> made = empty_like(info[0], float_type(info[1], "dtype"));
    StepQueue& queue = made->queue();
    const int64_t bytes = static_cast<int64_t>(made->bytes());
    hold(info.Env(), queue.share(std::move(made)), 0);
    auto step = std::make_unique<CreateStep>(held(), initial_values(info[2]));
    last_write_ = Environment::of(info.Env()).post(queue, std::move(step));
    account(info.Env(), bytes);  // last: what the constructor throws after it, no finaliser gives back
  });
}

std::vector<StagedRange> VectorHandle::initial_values(const Napi::Value& values) const {
  std::vector<StagedRange> staged;
  if (values.IsUndefined()) return staged;
  const Napi::Object given = object(values, "values");
  const Napi::Array names = given.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value key = names[i];
    const ParameterEntry& parameter = entry(key);
    staged.push_back(stage_range(given.Get(key), parameter, held()->dtype()));
  }
  return staged;
}

const ParameterEntry& VectorHandle::entry(const Napi::Value& value) const {
  const ParameterLayout& layout = *held()->layout();
  const int found = layout.find(string(value, "name"));
  if (found < 0) refuse("the name of a parameter", "name", value);
  return layout.entries()[static_cast<size_t>(found)];
}

std::shared_ptr<DeviceVector> VectorHandle::operand(const Napi::Value& value, const std::string& argument,
                                                    bool typed) const {
  const std::shared_ptr<DeviceVector>& other = VectorHandle::from(value, argument).held();
  const DeviceVector& self = *held();
  expect_device(*other, argument, self.queue());
  if (!same_layout(*other->layout(), *self.layout())) {
    throw Error(ErrorCode::invalid_argument,
                "expected a vector with the same parameters for '" + argument + "', got one with others");
  }
  if (typed && other->dtype() != self.dtype()) {
    throw Error(ErrorCode::invalid_argument, std::string("expected a ") + float_type_name(self.dtype()) +
                                                 " vector for '" + argument + "', got " +
                                                 float_type_name(other->dtype()));
  }
  return other;
}

Napi::Value VectorHandle::device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), held()->queue().device());
}

Napi::Value VectorHandle::dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), float_type_name(held()->dtype()));
}

Napi::Value VectorHandle::layout(const Napi::CallbackInfo& info) { return layout_array(info.Env(), *held()->layout()); }

Napi::Value VectorHandle::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->bytes()));
}

Napi::Value VectorHandle::get(const Napi::CallbackInfo& info) {
  const DeviceVector& vector = *held();
  const ParameterEntry& parameter = entry(info[0]);
  vector.queue().wait(last_write_);
  const Tensor values = vector.range(parameter.offset, parameter.size);
  const size_t count = static_cast<size_t>(parameter.size), bytes = count * size_of(vector.dtype());
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), bytes);
  if (bytes > 0) vector.queue().backend().copy_out(buffer.Data(), values.data, bytes);
  if (vector.dtype() == DType::f64) return Napi::Float64Array::New(info.Env(), count, buffer, 0);
  return Napi::Float32Array::New(info.Env(), count, buffer, 0);
}

Napi::Value VectorHandle::read(const Napi::CallbackInfo& info) {
  return start_task(
             info.Env(), held()->queue(),
             [vector = held()] {
               std::vector<std::byte> values(vector->bytes());
               vector->queue().backend().copy_out(values.data(), vector->data(), values.size());
               return values;
             },
             [dtype = held()->dtype()](Napi::Env env, const std::vector<std::byte>& values) {
               return float_array(env, dtype, values.data(), values.size() / size_of(dtype));
             })
      .promise;
}

Napi::Value VectorHandle::set(const Napi::CallbackInfo& info) {
  const ParameterEntry& parameter = entry(info[0]);
  std::vector<StagedRange> staged(1);
  staged[0] = stage_range(info[1], parameter, held()->dtype());
  return start_write(info.Env(), [vector = held(), staged = std::move(staged)] { vector->write(staged[0]); });
}

Napi::Value VectorHandle::write(const Napi::CallbackInfo& info) {
  return start_write(info.Env(), [vector = held(), staged = stage_all(info[0], *held()->layout(), held()->dtype())] {
    for (const StagedRange& range : staged) vector->write(range);
  });
}

Napi::Value VectorHandle::fill(const Napi::CallbackInfo& info) {
  return start_write(info.Env(), [vector = held(), value = finite_number(info[0], "value")] {
    for (const ParameterEntry& parameter : vector->layout()->entries()) {
      vector->queue().backend().fill(vector->range(parameter.offset, parameter.size), value);
    }
  });
}

Napi::Value VectorHandle::copy_from(const Napi::CallbackInfo& info) {
  return start_write(info.Env(),
                     [y = held(), x = operand(info[0], "x")] { y->queue().backend().copy(x->whole(), y->whole()); });
}

Napi::Value VectorHandle::dot(const Napi::CallbackInfo& info) {
  int64_t offset = 0, count = held()->layout()->length();
  if (!info[1].IsUndefined()) {
    const ParameterEntry& parameter = entry(info[1]);
    offset = parameter.offset;
    count = parameter.size;
  }
  return start_task(
             info.Env(), held()->queue(),
             [y = held(), x = operand(info[0], "x"), offset, count] {
               return y->queue().backend().dot(x->range(offset, count), y->range(offset, count));
             },
             [](Napi::Env env, double value) { return Napi::Number::New(env, value); })
      .promise;
}

Napi::Value VectorHandle::axpy(const Napi::CallbackInfo& info) {
  const double alpha = finite_number(info[0], "alpha");
  return start_write(info.Env(), [alpha, y = held(), x = operand(info[1], "x")] {
    y->queue().backend().axpy(alpha, x->whole(), y->whole());
  });
}

Napi::Value VectorHandle::scale(const Napi::CallbackInfo& info) {
  return start_write(info.Env(), [y = held(), alpha = finite_number(info[0], "alpha")] {
    y->queue().backend().scale(alpha, y->whole());
  });
}

Napi::Value VectorHandle::add_product(const Napi::CallbackInfo& info) {
  const double alpha = finite_number(info[0], "alpha");
  return start_write(info.Env(), [alpha, y = held(), a = operand(info[1], "a", true), b = operand(info[2], "b", true)] {
    palimpsest::add_product(alpha, *a, *b, *y);
  });
}

Napi::Value VectorHandle::sgd_step(const Napi::CallbackInfo& info) {
  const SgdStep step = read_sgd_step(info[0]);
  const std::shared_ptr<DeviceVector> gradient = operand(info[1], "gradient", true);
  VectorHandle& velocity = VectorHandle::from(info[2], "velocity");
  const Napi::Value promise =
      start_write(info.Env(), [step, gradient, w = held(), v = operand(info[2], "velocity", true)] {
        w->queue().backend().sgd_step(step, gradient->whole(), v->whole(), w->whole());
      });
  velocity.written_by(last_write_);
  return promise;
}

}  // namespace palimpsest
