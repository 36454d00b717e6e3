// The products as graphs: forward, cotangent of the loss, linearisation and transposition put together.
#include "curvature/products.h"

#include "core/error.h"
#include "graph/derivative.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

class ProductBuilder {
 public:
  ProductBuilder(const Network& network, const ProductOptions& options)
      : network_(network),
        options_(options),
        made_(network.instantiate({options.batch, options.training, options.taps})) {
    const auto& entries = network.layout().entries();
    if (!options.parameters.empty() && options.parameters.size() != entries.size()) {
      throw Error(ErrorCode::invalid_argument,
                  "expected a choice for each of " + std::to_string(entries.size()) + " parameters");
    }
    for (size_t i = 0; i < entries.size(); ++i) {
      const bool wanted = options.parameters.empty() || options.parameters[i];
      wanted_.push_back(wanted ? made_.parameters[i] : none);
    }
  }

  ProgramDescription run() {
    switch (options_.quantity) {
      case Quantity::evaluate: row(made_.logits); break;
      case Quantity::jvp: row(or_zero(tangents()[logits()])); break;
      case Quantity::evaluate_jvp:
        row(made_.logits);
        row(or_zero(tangents()[logits()]));
        break;
      case Quantity::vjp: pull(input(input_cotangent, made_.graph.dims(made_.logits))); break;
      case Quantity::loss:
        row(made_.logits);
        row(weighted_loss());
        break;
      case Quantity::gradient:
        pull(loss_cotangent(made_.logits));
        row(made_.logits);
        row(weighted_loss());
        break;
      case Quantity::ggn_product: ggn_product(); break;
      case Quantity::hessian_product: hessian_product(); break;
      case Quantity::gradient_squares: gradient_squares(input(input_cotangent, graph().dims(made_.logits))); break;
      case Quantity::fisher_empirical: gradient_squares(loss_cotangent(made_.logits)); break;
      case Quantity::fisher_class: gradient_squares(class_cotangent()); break;
      case Quantity::linear_gradient: linear_gradient(); break;
      case Quantity::channel_statistics: channel_statistics(); break;
      case Quantity::linearization: linearization(); break;
    }
    for (const auto& s : made_.statistics) {  // batch statistics follow as rows, for the running averages
      row(s.mean);
      row(s.rstd);
    }
    ProgramDescription description{std::move(made_.graph), std::move(outputs_), false};
    description.holdable = options_.quantity == Quantity::jvp || options_.quantity == Quantity::evaluate_jvp ||
                           options_.quantity == Quantity::ggn_product || options_.quantity == Quantity::linear_gradient;
    description.holdable = description.holdable && options_.holdable;
    if (options_.quantity == Quantity::linearization) {
      description.holdable = true;
      description.late_inputs = 1u << input_cotangent | 1u << input_weight | 1u << input_target;
    }
    return description;
  }

 private:
  Graph& graph() { return made_.graph; }
  size_t logits() const { return static_cast<size_t>(made_.logits); }

  void row(ValueId id, LinearizedOutput group = {}) { outputs_.push_back({id, -1, static_cast<uint32_t>(group)}); }

  void sums(const std::vector<ValueId>& values, LinearizedOutput group = {}) {
    for (size_t i = 0; i < values.size(); ++i) {
      const bool wanted = wanted_[i] != none;
      if (wanted) outputs_.push_back({values[i], static_cast<int32_t>(i), static_cast<uint32_t>(group)});
    }
  }

  ValueId input(InputSlot slot, Dims dims) { return graph().add_input(slot, std::move(dims)); }
  ValueId weight() {
    if (weight_ == none) weight_ = input(input_weight, {options_.batch, 1});
    return weight_;
  }
  ValueId target() {
    if (target_ == none) target_ = input(input_target, graph().dims(made_.logits));
    return target_;
  }

  ValueId or_zero(ValueId id) {
    if (id != none) return id;
    Attributes zeros;
    zeros.alpha = 0;
    zeros.dims = graph().dims(made_.logits);
    return graph().append(Op::ConstantOfShape, {}, zeros);
  }

  std::vector<ValueId> tangents() {
    std::vector<std::pair<ValueId, ValueId>> seeds;
    for (size_t i = 0; i < wanted_.size(); ++i) {
      if (wanted_[i] == none) continue;
      seeds.emplace_back(wanted_[i], graph().add_tangent(static_cast<int32_t>(i), graph().dims(wanted_[i])));
    }
    return linearise(graph(), seeds);
  }

  std::vector<ValueId> gradients(ValueId cotangent) {
    const std::pair<ValueId, ValueId> seed = {made_.logits, cotangent};
    return transpose(graph(), {&seed, 1}, wanted_);
  }

  void pull(ValueId cotangent) { sums(gradients(cotangent)); }

  ValueId softmax(ValueId z) {
    Attributes attributes;
    attributes.axis = 1;
    return graph().append(Op::Softmax, {z}, attributes);
  }

  // weight d loss / d logits: softmax(f) - t, or f - t
  ValueId loss_cotangent(ValueId z) {
    const ValueId prediction = options_.loss == Loss::cross_entropy ? softmax(z) : z;
    return graph().mul(graph().append(Op::Sub, {prediction, target()}), weight());
  }

  ValueId weighted_loss() {
    Attributes over_classes;
    over_classes.axes = {1};
    if (options_.loss == Loss::cross_entropy) {
      Attributes axis;
      axis.axis = 1;
      over_classes.alpha = -1;
      const ValueId log_p = graph().append(Op::LogSoftmax, {made_.logits}, axis);
      return graph().mul(graph().append(Op::ReduceSum, {graph().mul(target(), log_p)}, over_classes), weight());
    }
    over_classes.alpha = 0.5;
    const ValueId r = graph().append(Op::Sub, {made_.logits, target()});
    return graph().mul(graph().append(Op::ReduceSum, {graph().mul(r, r)}, over_classes), weight());
  }

  // J^T (weight H_loss) J v; H of cross-entropy is diag p - p p^T, of squared error the identity
  void ggn_product() {
    ValueId jv = tangents()[logits()];
    if (jv != none && options_.loss == Loss::cross_entropy) jv = cross_entropy_hessian(jv);
    pull(graph().mul(or_zero(jv), weight()));
  }

  // p (u - sum_k p_k u_k)
  ValueId cross_entropy_hessian(ValueId u) {
    const ValueId p = softmax(made_.logits);
    Attributes over_classes;
    over_classes.axes = {1};
    const ValueId inner = graph().append(Op::ReduceSum, {graph().mul(p, u)}, over_classes);
    return graph().mul(p, graph().append(Op::Sub, {u, inner}));
  }

  // The parts of J v, J^T u and what products do between them, each to be asked for alone.
  void linearization() {
    if (options_.training)
      throw Error(ErrorCode::unsupported, "a linearization needs batch normalisation in evaluation mode");
    const ValueId u = input(input_cotangent, graph().dims(made_.logits));
    row(or_zero(tangents()[logits()]), LinearizedOutput::jvp);
    row(graph().mul(cross_entropy_hessian(u), weight()), LinearizedOutput::cross_entropy);
    row(graph().mul(u, weight()), LinearizedOutput::squared_error);
    row(graph().append(Op::Sub, {graph().add(made_.logits, u), target()}), LinearizedOutput::residual);
    sums(gradients(u), LinearizedOutput::vjp);
  }

  // Forward over reverse: the linearised gradient graph. Parameters that are not chosen stay fixed.
  void hessian_product() {
    if (options_.training)
      throw Error(ErrorCode::unsupported, "Hessian products need batch normalisation in evaluation mode");
    const std::vector<ValueId> bars = gradients(loss_cotangent(made_.logits));
    const std::vector<ValueId> moved = tangents();
    std::vector<ValueId> products;
    for (ValueId bar : bars) products.push_back(bar == none ? none : moved[static_cast<size_t>(bar)]);
    sums(products);
  }

  // weight sqrt(p_c) (p - e_c) for the class c that target marks: squared, p_c (d log p_c)^2.
  ValueId class_cotangent() {
    const ValueId p = softmax(made_.logits);
    Attributes over_classes;
    over_classes.axes = {1};
    const ValueId marked = graph().append(Op::ReduceSum, {graph().mul(p, target())}, over_classes);
    return graph().mul(loss_cotangent(made_.logits), graph().append(Op::Sqrt, {marked}));
  }

  void gradient_squares(ValueId cotangent) {
    if (options_.training)
      throw Error(ErrorCode::unsupported, "per-example quantities need batch normalisation in evaluation mode");
    if (options_.batch < 2)
      throw Error(ErrorCode::invalid_argument, "expected a batch of 2 or more for per-example squares");
    const std::vector<ValueId> squares = square_gradients(graph(), made_.logits, cotangent, wanted_);
    for (size_t i = 0; i < squares.size(); ++i) {
      if (wanted_[i] != none && squares[i] == none) {
        throw Error(ErrorCode::unsupported, "parameter '" + network_.layout().entries()[i].name +
                                                "' has no quick rule for per-example squares");
      }
    }
    sums(squares);
  }

  // The tangent model's gradient: J^T (weight (f + J v - target)).
  void linear_gradient() {
    const ValueId output = graph().add(made_.logits, tangents()[logits()]);
    const ValueId residual = graph().append(Op::Sub, {output, target()});
    pull(graph().mul(residual, weight()));
    row(output);
    row(residual);
  }

  void channel_statistics() {
    if (options_.taps.empty()) throw Error(ErrorCode::invalid_argument, "expected one tap or more, got none");
    const ValueId labels = input(input_cotangent, graph().dims(made_.logits));
    for (int32_t tap : options_.taps) {
      const bool known = tap >= 0 && static_cast<size_t>(tap) < made_.values.size();
      const ValueId x = known ? made_.values[static_cast<size_t>(tap)] : none;
      if (x == none || graph().value(x).batch != BatchAxis{0, 1, 1}) {
        throw Error(ErrorCode::invalid_argument,
                    "expected taps that are values of each example, got " + std::to_string(tap));
      }
      row(graph().append(Op::ChannelStatistics, {x, labels}));
    }
  }

  const Network& network_;
  const ProductOptions& options_;
  InstantiatedGraph made_;
  std::vector<ValueId> wanted_;
  std::vector<GraphOutput> outputs_;
  ValueId weight_ = none, target_ = none;
};

}  // namespace

ProgramDescription product_graph(const Network& network, const ProductOptions& options) {
  return ProductBuilder(network, options).run();
}

std::vector<int32_t> parameters_without_quick_squares(const Network& network) {
  InstantiatedGraph made = network.instantiate({2, false});
  const ValueId cotangent = made.graph.add_input(input_cotangent, made.graph.dims(made.logits));
  const std::vector<ValueId> squares = square_gradients(made.graph, made.logits, cotangent, made.parameters);
  std::vector<int32_t> slow;
  for (size_t i = 0; i < squares.size(); ++i) {
    if (squares[i] == none) slow.push_back(static_cast<int32_t>(i));
  }
  return slow;
}

}  // namespace palimpsest
