// The products: which graph computes each quantity, for one batch. Scales are in the row weights (1/n for means).
#pragma once

#include <vector>

#include "graph/program.h"

namespace palimpsest {

enum class Quantity : uint8_t {
  evaluate,          // rows: logits [B, K]
  jvp,               // rows: J v [B, K]                                   reads tangents
  evaluate_jvp,      // rows: logits, J v                                   reads tangents
  vjp,               // sums: J^T u                                         reads the cotangent input
  loss,              // rows: logits, per-example loss times weight [B, 1]  reads target, weight
  gradient,          // sums: J^T (weight loss'(f)); rows: as loss
  ggn_product,       // sums: J^T (weight H_loss) J v                       reads tangents, weight (target too)
  hessian_product,   // sums: d/dt gradient(p + t v)                        reads tangents, target, weight
  gradient_squares,  // sums: sum_b (J_b^T u_b)^2, u the cotangent input: per-example squares (quick rule, else refused)
  fisher_empirical,  // sums: sum_b (weight_b J_b^T (p_b - target_b))^2     reads target (one-hot), weight
  fisher_class,      // the same times p_b . target_b: one class's share of the exact Fisher diagonal
  linear_gradient,   // sums: J^T (weight (f + J v - target)), rows: f + J v, residual [B, K]: the tangent model's
                     // gradient
  channel_statistics,  // rows: sums [3, K, C] for each tap (channel_statistics of native/backend/backend.h); reads the
                       // cotangent input, one-hot labels
  linearization,       // what LinearizedOutput lists, a group each; reads tangents, cotangent, weight, target late
};

// Groups of a linearization's outputs; u is the cotangent input [B, K].
enum class LinearizedOutput : uint8_t {
  jvp,            // rows: J v
  cross_entropy,  // rows: weight H u, H = diag p - p p^T at the logits
  squared_error,  // rows: weight u
  residual,       // rows: f + u - target
  vjp,            // sums: J^T u
};
constexpr int32_t linearized_rows = 4;  // the first of them, in that order
constexpr uint32_t group_of(LinearizedOutput output) { return 1u << static_cast<uint8_t>(output); }

enum class Loss : uint8_t {
  cross_entropy,  // -sum_k target_k log softmax(f)_k
  squared_error,  // 1/2 |f - target|^2
};

struct ProductOptions {
  Quantity quantity = Quantity::evaluate;
  Loss loss = Loss::cross_entropy;
  int64_t batch = 1;
  bool training = false;
  bool holdable = false;         // jvp, ggn_product, linear_gradient: plan for hold and apply; linearization: always
  std::vector<bool> parameters;  // which parameters are differentiated; empty = all
  std::vector<int32_t> taps;     // channel_statistics: ids of the description's values [N, C, H, W] to measure
};

// Row outputs, in order: what the quantity lists; in training mode then the mean and rstd [C] of each batch
// normalisation, in the order of InstantiatedGraph::statistics.
//
// The graph of a quantity; throws ERR_UNSUPPORTED where it cannot be had.
ProgramDescription product_graph(const Network& network, const ProductOptions& options);

// Parameters whose per-example squares have no quick rule (several uses, tied, or a row without one): these need
// gradient_squares example by example (batch 1, vjp, squared).
std::vector<int32_t> parameters_without_quick_squares(const Network& network);

}  // namespace palimpsest
