// createProgram, plannedBytes, and Program's properties and calls.
#include "binding/program_handle.h"

#include <utility>
#include <vector>

#include "binding/program_call.h"
#include "binding/task.h"

namespace palimpsest {

namespace {

Napi::Value number(Napi::Env env, double value) { return Napi::Number::New(env, value); }

Napi::Value create_program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const std::shared_ptr<PlacedNetwork> placed = NetworkHandle::from(info[0], "network").held();
    const ProgramRequest request = read_program_request(info[1], *placed->layout);
    return start_task(
               env, placed->queue,
               [placed, request] {
                 return placed->queue.share(
                     std::make_unique<DeviceProgram>(placed, request.options, request.dtype, request.precision));
               },
               [](Napi::Env of, std::shared_ptr<DeviceProgram>& program) -> Napi::Value {
                 return Environment::of(of).program_class().New(
                     {Napi::External<std::shared_ptr<DeviceProgram>>::New(of, &program)});
               })
        .promise;
  });
}

Napi::Value planned_bytes_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const std::shared_ptr<PlacedNetwork> placed = NetworkHandle::from(info[0], "network").held();
    const ProgramRequest request = read_program_request(info[1], *placed->layout);
    return start_task(
               env, placed->queue,
               [placed, request] {
                 return planned_bytes(product_graph(placed->network, request.options), placed->network, request.dtype);
               },
               [](Napi::Env of, size_t bytes) { return number(of, static_cast<double>(bytes)); })
        .promise;
  });
}

Napi::Value outputs_of(Napi::Env env, const DeviceProgram& program, const Staging& staging) {
  const Napi::Array list = Napi::Array::New(env);
  if (!staging.wants_outputs) return list;
  for (const std::vector<std::byte>& output : staging.outputs) {
    list.Set(list.Length(), float_array(env, program.dtype(), output.data(), output.size() / size_of(program.dtype())));
  }
  return list;
}

}  // namespace

void ProgramHandle::init(Napi::Env env, Napi::Object exports) {
  const Napi::Function made = define(env, {
                                              getter_named<&ProgramHandle::batch>("batch"),
                                              getter_named<&ProgramHandle::dtype>("dtype"),
                                              getter_named<&ProgramHandle::quantity>("quantity"),
                                              getter_named<&ProgramHandle::output_shapes>("outputShapes"),
                                              getter_named<&ProgramHandle::arena_bytes>("arenaBytes"),
                                              getter_named<&ProgramHandle::buffer_bytes>("bufferBytes"),
                                              getter_named<&ProgramHandle::constant_bytes>("constantBytes"),
                                              getter_named<&ProgramHandle::flops>("flops"),
                                              getter_named<&ProgramHandle::bytes>("bytes"),
                                              getter_named<&ProgramHandle::steps>("steps"),
                                              method_named<&ProgramHandle::run>("run"),
                                              method_named<&ProgramHandle::hold_batch>("hold"),
                                              method_named<&ProgramHandle::apply>("apply"),
                                          });
  Environment::of(env).program_class() = Napi::Persistent(made);
  exports.Set("createProgram", Napi::Function::New(env, create_program, "createProgram"));
  exports.Set("plannedBytes", Napi::Function::New(env, planned_bytes_of, "plannedBytes"));
}

ProgramHandle::ProgramHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal()) refuse("createProgram", "new Program", info[0]);
    auto staged = std::make_shared<StagedProgram>();
    staged->program = *info[0].As<Napi::External<std::shared_ptr<DeviceProgram>>>().Data();
    const Program& program = staged->program->program();
    const size_t bytes = program.arena_bytes() + program.constant_bytes() + staged->program->buffer_bytes();
    hold(info.Env(), std::move(staged), static_cast<int64_t>(bytes));
  });
}

Napi::Value ProgramHandle::batch(const Napi::CallbackInfo& info) {
  return number(info.Env(), static_cast<double>(held()->program->options().batch));
}

Napi::Value ProgramHandle::dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), float_type_name(held()->program->dtype()));
}

Napi::Value ProgramHandle::quantity(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), quantity_name(held()->program->options().quantity));
}

Napi::Value ProgramHandle::output_shapes(const Napi::CallbackInfo& info) {
  const Napi::Array shapes = Napi::Array::New(info.Env());
  for (const ProgramOutput& output : held()->program->signature().outputs) {
    shapes.Set(shapes.Length(), shape_array(info.Env(), output.dims));
  }
  return shapes;
}

Napi::Value ProgramHandle::arena_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), static_cast<double>(held()->program->program().arena_bytes()));
}

Napi::Value ProgramHandle::buffer_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), static_cast<double>(held()->program->buffer_bytes()));
}

Napi::Value ProgramHandle::constant_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), static_cast<double>(held()->program->program().constant_bytes()));
}

Napi::Value ProgramHandle::flops(const Napi::CallbackInfo& info) {
  return number(info.Env(), held()->program->program().flops());
}

Napi::Value ProgramHandle::bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), held()->program->program().bytes());
}

Napi::Value ProgramHandle::steps(const Napi::CallbackInfo& info) {
  return number(info.Env(), held()->program->program().step_count());
}

Napi::Value ProgramHandle::start(const Napi::CallbackInfo& info, StepMethod method, bool inputs, bool results) {
  const std::shared_ptr<DeviceProgram> program = held()->program;
  const std::shared_ptr<Staging> staging = held()->pool->take();
  const ProgramCall call = read_program_call(info[0], *program, inputs, results, *staging);
  const Started started = start_task(
      info.Env(), program->queue(),
      [program, staging, method, vectors = call.vectors] { (program.get()->*method)(*staging, vectors); },
      [program, staging](Napi::Env env, Nothing&) { return outputs_of(env, *program, *staging); });
  if (call.sums != nullptr) call.sums->written_by(started.ticket);
  return started.promise;
}

Napi::Value ProgramHandle::run(const Napi::CallbackInfo& info) { return start(info, &DeviceProgram::run, true, true); }

Napi::Value ProgramHandle::hold_batch(const Napi::CallbackInfo& info) {
  return start(info, &DeviceProgram::hold, true, false);
}

Napi::Value ProgramHandle::apply(const Napi::CallbackInfo& info) {
  return start(info, &DeviceProgram::apply, false, true);
}

}  // namespace palimpsest
