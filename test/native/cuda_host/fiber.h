// Fibers: threads of a block that give way to each other on one thread of the process.
#pragma once

#include <cstddef>

namespace cuda_host {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Begins entry(argument) at the next resume; the entry must end with leave_for_good().
  void prepare(void (*entry)(void*), void* argument);
  void resume();          // from the scheduler, until the fiber yields
  void yield();           // from the fiber, back to the scheduler
  void leave_for_good();  // the same and does not return; its stack is then free

 private:
  struct State;
  State* state_;
};

}  // namespace cuda_host
