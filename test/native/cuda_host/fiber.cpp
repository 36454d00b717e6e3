// Switching of stacks: by hand on x86-64, where a switch costs a few nanoseconds, by ucontext elsewhere.
#include "fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define PALIMPSEST_FIBERS_TOLD 1
#else
#define PALIMPSEST_FIBERS_TOLD 0
#endif

namespace cuda_host {

namespace {

constexpr size_t stack_bytes = PALIMPSEST_FIBERS_TOLD ? 512 * 1024 : 128 * 1024;

}  // namespace

struct Fiber::State {
  char* stack;
  void (*entry)(void*);
  void* argument;
#ifdef __x86_64__
  void *own = nullptr, *scheduler = nullptr;
#else
  ucontext_t own, scheduler;
#endif
  void* fake_stack = nullptr;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_bytes = 0;

  void entered() {
#if PALIMPSEST_FIBERS_TOLD
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_bytes);
#endif
  }
};

#ifdef __x86_64__
extern "C" void palimpsest_switch_stack(void** save, void* load);
asm(R"(
.text
.type palimpsest_switch_stack, @function
.globl palimpsest_switch_stack
palimpsest_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size palimpsest_switch_stack, .-palimpsest_switch_stack
)");
#endif

namespace {

void* starting = nullptr;  // the state of the fiber that is resumed for the first time

}  // namespace

Fiber::Fiber() : state_(new State) {
  void* stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  state_->stack = static_cast<char*>(stack);
}

Fiber::~Fiber() {
  munmap(state_->stack, stack_bytes);
  delete state_;
}

void Fiber::prepare(void (*entry)(void*), void* argument) {
  state_->entry = entry;
  state_->argument = argument;
  state_->fake_stack = nullptr;
#if PALIMPSEST_FIBERS_TOLD
  __asan_unpoison_memory_region(state_->stack, stack_bytes);  // what the last thread here left without unwinding
#endif
  static constexpr auto begin = [] {
    State* state = static_cast<State*>(starting);
    state->entered();
    state->entry(state->argument);
    std::abort();  // entries end with leave_for_good
  };
#ifdef __x86_64__
  void (*const first)() = begin;
  auto* top = reinterpret_cast<uint64_t*>(state_->stack + stack_bytes) - 1;
  *top = 0;                                    // where `first` would return to
  *--top = reinterpret_cast<uint64_t>(first);  // popped by ret: the stack is then as after a call
  for (int i = 0; i < 6; ++i) *--top = 0;      // the saved registers
  state_->own = top;
#else
  getcontext(&state_->own);
  state_->own.uc_stack.ss_sp = state_->stack;
  state_->own.uc_stack.ss_size = stack_bytes;
  state_->own.uc_link = nullptr;
  makecontext(&state_->own, static_cast<void (*)()>(begin), 0);
#endif
}

void Fiber::resume() {
  starting = state_;
#if PALIMPSEST_FIBERS_TOLD
  __sanitizer_start_switch_fiber(&state_->scheduler_fake_stack, state_->stack, stack_bytes);
#endif
#ifdef __x86_64__
  palimpsest_switch_stack(&state_->scheduler, state_->own);
#else
  swapcontext(&state_->scheduler, &state_->own);
#endif
#if PALIMPSEST_FIBERS_TOLD
  __sanitizer_finish_switch_fiber(state_->scheduler_fake_stack, nullptr, nullptr);
#endif
}

void Fiber::yield() {
#if PALIMPSEST_FIBERS_TOLD
  __sanitizer_start_switch_fiber(&state_->fake_stack, state_->scheduler_stack, state_->scheduler_bytes);
#endif
#ifdef __x86_64__
  palimpsest_switch_stack(&state_->own, state_->scheduler);
#else
  swapcontext(&state_->own, &state_->scheduler);
#endif
  state_->entered();
}

void Fiber::leave_for_good() {
#if PALIMPSEST_FIBERS_TOLD
  __sanitizer_start_switch_fiber(nullptr, state_->scheduler_stack, state_->scheduler_bytes);
#endif
#ifdef __x86_64__
  palimpsest_switch_stack(&state_->own, state_->scheduler);
#else
  setcontext(&state_->scheduler);
#endif
}

}  // namespace cuda_host
