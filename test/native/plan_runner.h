// Runs plans step by step in memory that is poisoned wherever nothing should live: a planner's error becomes a NaN.
#pragma once

#include "graph/plan.h"
#include "graph_run.h"

namespace palimpsest::check {

// Lifetimes taken from the steps alone, not from what the planner noted.
struct Lifetime {
  int32_t root = -1, first = -1, last = -1;  // steps
  bool tangent = false;                      // written by a tangent step
  bool output = false, crosses = false;      // crosses: primal, and read by a tangent step
};
std::vector<Lifetime> lifetimes(const Plan& plan);

// What is wrong with the places of the buffers; empty where those that live at the same time (holdable: in any order of
// hold and apply) share no byte, all are aligned and lie inside the arena.
std::string memory_fault(const Plan& plan, bool holdable);

// The values of the plan's outputs (empty where zero), each step run once in order.
std::vector<Values> run_plan(const ProgramDescription& description, const Plan& plan, const Network& network,
                             const Point& point, DType dtype = DType::f64);

}  // namespace palimpsest::check
