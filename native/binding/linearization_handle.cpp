// createLinearization, and Linearization's properties and calls.
#include "binding/linearization_handle.h"

#include <algorithm>
#include <utility>

#include "binding/program_call.h"
#include "binding/task.h"

namespace palimpsest {

namespace {

constexpr int64_t most_slots = 1 << 20;

Napi::Value number(Napi::Env env, size_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

// (network, options): as createProgram, of the quantity 'linearization'.
Napi::Value create_linearization(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const std::shared_ptr<PlacedNetwork> placed = NetworkHandle::from(info[0], "network").held();
    const ProgramRequest request = read_program_request(info[1], *placed->layout);
    if (request.options.quantity != Quantity::linearization) {
      refuse("'linearization'", "quantity", info[1].As<Napi::Object>().Get("quantity"));
    }
    return start_task(
               env, placed->queue,
               [placed, request] {
                 return placed->queue.share(
                     std::make_unique<DeviceLinearization>(placed, request.options, request.dtype, request.precision));
               },
               [](Napi::Env of, std::shared_ptr<DeviceLinearization>& made) -> Napi::Value {
                 return Environment::of(of).linearization_class().New(
                     {Napi::External<std::shared_ptr<DeviceLinearization>>::New(of, &made)});
               })
        .promise;
  });
}

Napi::Value rows_of(Napi::Env env, const DeviceLinearization& linearization, const Staging& staging) {
  const Napi::Array list = Napi::Array::New(env);
  for (const std::vector<std::byte>& rows : staging.outputs) {
    list.Set(list.Length(),
             float_array(env, linearization.dtype(), rows.data(), rows.size() / size_of(linearization.dtype())));
  }
  return list;
}

}  // namespace

void LinearizationHandle::init(Napi::Env env, Napi::Object exports) {
  const Napi::Function made = define(env, {
                                              getter_named<&LinearizationHandle::batch>("batch"),
                                              getter_named<&LinearizationHandle::slot_bytes>("slotBytes"),
                                              getter_named<&LinearizationHandle::shared_bytes>("sharedBytes"),
                                              getter_named<&LinearizationHandle::bytes>("bytes"),
                                              method_named<&LinearizationHandle::hold_batch>("hold"),
                                              method_named<&LinearizationHandle::release>("release"),
                                              method_named<&LinearizationHandle::jvp>("jvp"),
                                              method_named<&LinearizationHandle::vjp>("vjp"),
                                              method_named<&LinearizationHandle::ggn_product>("ggnProduct"),
                                              method_named<&LinearizationHandle::linear_gradient>("linearGradient"),
                                          });
  Environment::of(env).linearization_class() = Napi::Persistent(made);
  exports.Set("createLinearization", Napi::Function::New(env, create_linearization, "createLinearization"));
}

LinearizationHandle::LinearizationHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal()) refuse("createLinearization", "new Linearization", info[0]);
    auto staged = std::make_shared<StagedLinearization>();
    staged->linearization = *info[0].As<Napi::External<std::shared_ptr<DeviceLinearization>>>().Data();
    const auto bytes = static_cast<int64_t>(staged->linearization->shared_bytes());
    hold(info.Env(), std::move(staged), bytes);
  });
}

int64_t LinearizationHandle::total_bytes() const {
  const DeviceLinearization& linearization = *held()->linearization;
  return static_cast<int64_t>(linearization.shared_bytes() + rows_.size() * linearization.slot_bytes());
}

Napi::Value LinearizationHandle::batch(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->linearization->options().batch));
}

Napi::Value LinearizationHandle::slot_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), held()->linearization->slot_bytes());
}

Napi::Value LinearizationHandle::shared_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), held()->linearization->shared_bytes());
}

Napi::Value LinearizationHandle::bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), static_cast<size_t>(total_bytes()));
}

// (slot, { rows, inputs, parameters })
Napi::Value LinearizationHandle::hold_batch(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceLinearization> linearization = held()->linearization;
  const auto slot = static_cast<int32_t>(whole_number(info[0], "slot", 0, most_slots));
  const std::shared_ptr<Staging> staging = held()->pool->take();
  const std::shared_ptr<DeviceVector> parameters = read_batch(info[1], *linearization, *staging);
  const Started started = start_task(info.Env(), linearization->queue(), [linearization, staging, slot, parameters] {
    linearization->hold(slot, *staging, parameters);
  });
  rows_[slot] = staging->rows;
  account(info.Env(), total_bytes());
  return started.promise;
}

// (slot)
Napi::Value LinearizationHandle::release(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceLinearization> linearization = held()->linearization;
  const auto slot = static_cast<int32_t>(whole_number(info[0], "slot", 0, most_slots));
  const Started started =
      start_task(info.Env(), linearization->queue(), [linearization, slot] { linearization->release(slot); });
  rows_.erase(slot);
  account(info.Env(), total_bytes());
  return started.promise;
}

// What each product reads of a call.
struct LinearizationHandle::Reads {
  bool tangents = false, cotangents = false, targets = false, loss = false, weight = false, sums = false;
};

Napi::Value LinearizationHandle::start(const Napi::CallbackInfo& info, Product product, const Reads& reads) {
  const std::shared_ptr<DeviceLinearization> linearization = held()->linearization;
  const std::shared_ptr<Staging> staging = held()->pool->take();
  staging->outputs.clear();
  std::vector<VectorHandle*> written;
  auto call = std::make_shared<LinearizedCall>(read_call(info[0], *linearization, reads, written));
  const Started started = start_task(
      info.Env(), linearization->queue(),
      [linearization, staging, product, call] { (linearization.get()->*product)(*call, *staging); },
      [linearization, staging](Napi::Env env, Nothing&) { return rows_of(env, *linearization, *staging); });
  for (VectorHandle* sums : written) sums->written_by(started.ticket);
  return started.promise;
}

// Every property is read before any array is copied: a getter may take an array's memory away.
LinearizedCall LinearizationHandle::read_call(const Napi::Value& value, const DeviceLinearization& linearization,
                                              const Reads& reads, std::vector<VectorHandle*>& written) const {
  const Napi::Object from = object(value, "call");
  const Napi::Value slot = from.Get("slot"), tangents = from.Get("tangents"), cotangents = from.Get("cotangents"),
                    targets = from.Get("targets"), loss = from.Get("loss"), weight = from.Get("weight"),
                    sums = from.Get("sums"), accumulate = from.Get("accumulate");
  LinearizedCall call;
  call.slot = static_cast<int32_t>(whole_number(slot, "slot", 0, most_slots));
  const auto held_rows = rows_.find(call.slot);
  if (held_rows == rows_.end()) refuse("a slot that holds a batch", "slot", slot);
  const int64_t rows = held_rows->second;
  const auto vectors = [&](const Napi::Value& list, const char* argument) {
    std::vector<std::shared_ptr<DeviceVector>> found;
    const Napi::Array all = array(list, argument);
    for (uint32_t i = 0; i < all.Length(); ++i) found.push_back(vector_of_call(all.Get(i), argument, linearization));
    return found;
  };
  if (reads.tangents) call.tangents = vectors(tangents, "tangents");
  if (reads.targets && call.tangents.size() != 1) refuse("one vector", "tangents", tangents);
  if (reads.loss) call.loss = loss_named(loss);
  if (reads.weight) call.weight = finite_number(weight, "weight");
  if (!accumulate.IsUndefined()) call.accumulate = boolean(accumulate, "accumulate");
  size_t wanted = call.tangents.size();
  if (reads.cotangents) {
    const Napi::Array all = array(cotangents, "cotangents");
    wanted = all.Length();
    call.cotangents.resize(wanted);
    for (uint32_t i = 0; i < wanted; ++i) {
      copy_rows(all.Get(i), "cotangents", input_cotangent, linearization, rows, call.cotangents[i]);
    }
  }
  if (reads.targets) copy_rows(targets, "targets", input_target, linearization, rows, call.targets);
  if (reads.sums) {
    call.sums = vectors(sums, "sums");
    if (call.sums.size() != wanted) refuse(std::to_string(wanted) + " vectors", "sums", sums);
    for (const auto& sum : call.sums) {
      const bool read = std::find(call.tangents.begin(), call.tangents.end(), sum) != call.tangents.end();
      if (read) refuse("vectors of their own", "sums", sums);
    }
    const Napi::Array all = sums.As<Napi::Array>();
    for (uint32_t i = 0; i < wanted; ++i) written.push_back(&VectorHandle::from(all.Get(i), "sums"));
  }
  return call;
}

// ({ slot, tangents }): [rows, K] each
Napi::Value LinearizationHandle::jvp(const Napi::CallbackInfo& info) {
  Reads reads;
  reads.tangents = true;
  return start(info, &DeviceLinearization::jvp, reads);
}

// ({ slot, cotangents, sums, accumulate? })
Napi::Value LinearizationHandle::vjp(const Napi::CallbackInfo& info) {
  Reads reads;
  reads.cotangents = reads.sums = true;
  return start(info, &DeviceLinearization::vjp, reads);
}

// ({ slot, loss, weight, tangents, sums, accumulate? })
Napi::Value LinearizationHandle::ggn_product(const Napi::CallbackInfo& info) {
  Reads reads;
  reads.tangents = reads.loss = reads.weight = reads.sums = true;
  return start(info, &DeviceLinearization::ggn_product, reads);
}

// ({ slot, targets, weight, tangents: [w], sums: [gradient], accumulate? }): the residual [rows, K]
Napi::Value LinearizationHandle::linear_gradient(const Napi::CallbackInfo& info) {
  Reads reads;
  reads.tangents = reads.targets = reads.weight = reads.sums = true;
  return start(info, &DeviceLinearization::linear_gradient, reads);
}

}  // namespace palimpsest
