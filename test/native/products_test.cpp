// Products of tiny networks in float64 against dense Jacobians, central differences and loops over examples.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "laboratory.h"
#include "samples.h"
#include "tiny_networks.h"

namespace palimpsest::check {

namespace {

constexpr int64_t batch = 3;

Values unit(size_t size, size_t i) {
  Values e(size, 0.0);
  e[i] = 1;
  return e;
}

// J^T u of a Jacobian given by rows.
Values transposed_times(const Matrix& j, const Values& u) {
  Values out(j[0].size(), 0.0);
  for (size_t r = 0; r < j.size(); ++r) {
    for (size_t c = 0; c < out.size(); ++c) out[c] += j[r][c] * u[r];
  }
  return out;
}

Values times(const Matrix& j, const Values& v) {
  Values out;
  for (const Values& row : j) out.push_back(inner(row, v));
  return out;
}

// The Jacobian [N K, P], a row a logit, by vjps.
Matrix jacobian(const Laboratory& lab) {
  Matrix rows;
  const size_t outputs = static_cast<size_t>(lab.examples()) * lab.classes();
  for (size_t r = 0; r < outputs; ++r) {
    rows.push_back(lab.run(lab.options(Quantity::vjp), lab.with_cotangent(unit(outputs, r))).sums);
  }
  return rows;
}

Values softmax(const Laboratory& lab, const Values& logits) {
  Values p(logits.size());
  for (size_t b = 0; b < p.size(); b += lab.classes()) {
    double sum = 0;
    for (size_t k = 0; k < lab.classes(); ++k) sum += p[b + k] = std::exp(logits[b + k]);
    for (size_t k = 0; k < lab.classes(); ++k) p[b + k] /= sum;
  }
  return p;
}

// weight_b H_b (J v)_b
Values loss_hessian_times(const Laboratory& lab, const Values& logits, const Values& jv, Loss loss) {
  const Values p = softmax(lab, logits);
  Values out = jv;
  for (size_t b = 0; b < static_cast<size_t>(lab.examples()); ++b) {
    double mean = 0;
    for (size_t k = 0; k < lab.classes(); ++k) mean += p[b * lab.classes() + k] * jv[b * lab.classes() + k];
    for (size_t k = 0; k < lab.classes(); ++k) {
      const size_t i = b * lab.classes() + k;
      out[i] = lab.weight(b) * (loss == Loss::cross_entropy ? p[i] * (jv[i] - mean) : jv[i]);
    }
  }
  return out;
}

// weight_b d loss / d logits
Values loss_gradient(const Laboratory& lab, const Values& logits, Loss loss) {
  Values out = loss == Loss::cross_entropy ? softmax(lab, logits) : logits;
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t b = i / lab.classes();
    out[i] = lab.weight(b) * (out[i] - lab.target(b, i % lab.classes()));
  }
  return out;
}

Values weighted_losses(const Laboratory& lab, const Values& logits, Loss loss) {
  const Values p = softmax(lab, logits);
  Values out(static_cast<size_t>(lab.examples()), 0.0);
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t b = i / lab.classes();
    const double t = lab.target(b, i % lab.classes());
    out[b] +=
        lab.weight(b) * (loss == Loss::cross_entropy ? -t * std::log(p[i]) : 0.5 * (logits[i] - t) * (logits[i] - t));
  }
  return out;
}

constexpr Loss losses[] = {Loss::cross_entropy, Loss::squared_error};

// J by jvp columns = J by vjp rows = central differences.
void check_jacobian(const Laboratory& lab, const Matrix& j) {
  const auto evaluate = [&](const Point& at) { return lab.run(lab.options(Quantity::evaluate), at).rows[0]; };
  Values by_rows, by_columns, by_differences;
  for (size_t c = 0; c < lab.size(); ++c) {
    const Values e = unit(lab.size(), c);
    const Values column = lab.run(Quantity::jvp, e).rows[0], slope = lab.slope(e, evaluate);
    by_columns.insert(by_columns.end(), column.begin(), column.end());
    by_differences.insert(by_differences.end(), slope.begin(), slope.end());
    for (const Values& row : j) by_rows.push_back(row[c]);
  }
  CHECK(distance(by_columns, by_rows) <= 1e-12);
  CHECK(distance(by_columns, by_differences) <= 1e-7);
  const Values v = lab.direction(1);
  const Result both = lab.run(Quantity::evaluate_jvp, v);
  CHECK(both.rows.size() == 2 && both.rows[0] == evaluate(lab.point()));
  CHECK(distance(both.rows[1], times(j, v)) <= 1e-12);
  CHECK_CAN_FAIL(distance(both.rows[1], times(j, lab.direction(2))) <= 1e-2);
}

void check_ggn(const Laboratory& lab, const Matrix& j, Loss loss) {
  const Values logits = lab.run(Quantity::evaluate).rows[0];
  for (uint64_t seed = 1; seed < 4; ++seed) {
    const Values v = lab.direction(seed);
    const Values product = lab.run(Quantity::ggn_product, v, loss).sums;
    CHECK(distance(product, transposed_times(j, loss_hessian_times(lab, logits, times(j, v), loss))) <= 1e-12);
  }
}

void check_gradient(const Laboratory& lab, const Matrix& j, Loss loss) {
  const Values logits = lab.run(Quantity::evaluate).rows[0];
  const Result gradient = lab.run(Quantity::gradient, loss), only = lab.run(Quantity::loss, loss);
  CHECK(distance(gradient.sums, transposed_times(j, loss_gradient(lab, logits, loss))) <= 1e-12);
  CHECK(gradient.rows[0] == logits && only.rows[0] == logits);
  CHECK(distance(gradient.rows[1], weighted_losses(lab, logits, loss)) <= 1e-13);
  CHECK(distance(only.rows[1], gradient.rows[1]) <= 1e-14);
  check_telling(gradient.sums.data(), gradient.sums.size(), "gradient");
}

// Central differences of the gradient, symmetry, and a Hessian that is not the GGN.
void check_hessian(const Laboratory& lab, Loss loss) {
  const auto gradient = [&](const Point& at) { return lab.run(lab.options(Quantity::gradient, loss), at).sums; };
  const Values u = lab.direction(4), v = lab.direction(5);
  const Values hu = lab.run(Quantity::hessian_product, u, loss).sums,
               hv = lab.run(Quantity::hessian_product, v, loss).sums;
  CHECK(distance(hv, lab.slope(v, gradient, 1e-6)) <= 1e-7);
  CHECK_NEAR(inner(u, hv), inner(hu, v), 1e-12 * norm(u) * norm(hv));
  CHECK_CAN_FAIL(distance(hv, lab.run(Quantity::ggn_product, v, loss).sums) <= 1e-3);
}

void check_linear_gradient(const Laboratory& lab, const Matrix& j) {
  const Values v = lab.direction(6), logits = lab.run(Quantity::evaluate).rows[0];
  const Values output = moved(logits, 1, times(j, v));
  const Result result = lab.run(Quantity::linear_gradient, v);
  CHECK(distance(result.rows[0], output) <= 1e-12);
  CHECK(distance(result.rows[1], difference(output, lab.point().inputs[input_target], 1)) <= 1e-12);
  CHECK(distance(result.sums, transposed_times(j, loss_gradient(lab, output, Loss::squared_error))) <= 1e-12);
}

std::vector<size_t> slow_parameters(const Laboratory& lab) {
  std::vector<size_t> slow;
  for (int32_t i : parameters_without_quick_squares(lab.network())) slow.push_back(static_cast<size_t>(i));
  return slow;
}

// sum_b (J_b^T u_b)^2 of the parameters that have a quick rule, by a loop over the examples.
void check_squares(const Laboratory& lab, const Matrix& j, const TinyNetwork& tiny) {
  std::vector<std::string> names;
  ProductOptions options = lab.options(Quantity::gradient_squares);
  options.parameters.assign(lab.network().layout().entries().size(), true);
  for (size_t i : slow_parameters(lab)) {
    names.push_back(lab.network().layout().entries()[i].name);
    options.parameters[i] = false;
  }
  CHECK(names == tiny.slow);
  const Values& u = lab.point().inputs[input_cotangent];
  Values expected(lab.size(), 0.0);
  for (size_t b = 0; b < static_cast<size_t>(lab.examples()); ++b) {
    Values own(u.size(), 0.0);
    for (size_t i = b * lab.classes(); i < (b + 1) * lab.classes(); ++i) own[i] = u[i];
    const Values g = transposed_times(j, own);
    for (size_t c = 0; c < g.size(); ++c) expected[c] += g[c] * g[c];
  }
  const std::vector<Values> quick = lab.parts(lab.run(options, lab.point()).sums), dense = lab.parts(expected);
  for (size_t i = 0; i < dense.size(); ++i) {
    if (options.parameters[i]) CHECK(distance(quick[i], dense[i]) <= 1e-12);
    else CHECK(std::isnan(quick[i][0]));  // not chosen, not written
  }
  if (!tiny.slow.empty()) {
    CHECK_THROWS(ErrorCode::unsupported, lab.run(Quantity::gradient_squares));
  }
  options.batch = 1;
  CHECK_THROWS(ErrorCode::invalid_argument, product_graph(lab.network(), options));
}

// sum_b (weight_b J_b^T (p_b - t_b))^2, and for the exact diagonal the same times p_b . t_b summed over the classes t.
void check_fisher(Laboratory lab, const Matrix& j) {
  ProductOptions options = lab.options(Quantity::fisher_empirical);
  options.parameters.assign(lab.network().layout().entries().size(), true);
  for (size_t i : slow_parameters(lab)) options.parameters[i] = false;
  const Values p = softmax(lab, lab.run(Quantity::evaluate).rows[0]);
  const size_t classes = lab.classes();
  for (size_t marked = 0; marked < classes; ++marked) {
    Values &target = lab.point().inputs[input_target], empirical(lab.size(), 0.0), exact = empirical;
    target.assign(target.size(), 0.0);
    for (size_t b = 0; b < static_cast<size_t>(lab.examples()); ++b) {
      target[b * classes + (marked + b) % classes] = 1;
      Values u(target.size(), 0.0);
      for (size_t i = b * classes; i < (b + 1) * classes; ++i) u[i] = lab.weight(b) * (p[i] - target[i]);
      const Values g = transposed_times(j, u);
      for (size_t c = 0; c < g.size(); ++c) {
        empirical[c] += g[c] * g[c];
        exact[c] += p[b * classes + (marked + b) % classes] * g[c] * g[c];
      }
    }
    for (Quantity quantity : {Quantity::fisher_empirical, Quantity::fisher_class}) {
      options.quantity = quantity;
      const std::vector<Values> quick = lab.parts(lab.run(options, lab.point()).sums);
      const std::vector<Values> dense = lab.parts(quantity == Quantity::fisher_class ? exact : empirical);
      for (size_t i = 0; i < dense.size(); ++i) {
        if (options.parameters[i]) CHECK(distance(quick[i], dense[i]) <= 1e-12);
      }
    }
  }
}

// Only the parameters that were chosen move and are written.
void check_choice(const Laboratory& lab, const Matrix& j) {
  const size_t count = lab.network().layout().entries().size();
  ProductOptions options = lab.options(Quantity::ggn_product, Loss::squared_error);
  options.parameters.assign(count, false);
  for (size_t i = 0; i < count; i += 2) options.parameters[i] = true;
  std::vector<Values> v = lab.parts(lab.direction(7));
  const Point at = lab.along(lab.join(v));
  for (size_t i = 1; i < count; i += 2) v[i].assign(v[i].size(), 0.0);
  const Values jv = times(j, lab.join(v));
  const std::vector<Values> expected =
      lab.parts(transposed_times(j, loss_hessian_times(lab, jv, jv, Loss::squared_error)));
  const std::vector<Values> product = lab.parts(lab.run(options, at).sums);
  for (size_t i = 0; i < count; ++i) {
    if (options.parameters[i]) CHECK(distance(product[i], expected[i]) <= 1e-12);
    else CHECK(std::isnan(product[i][0]));
  }
  options.parameters.pop_back();
  CHECK_THROWS(ErrorCode::invalid_argument, product_graph(lab.network(), options));
}

void check_held(const Laboratory& lab) {
  const Point at = lab.along(lab.direction(8));
  for (Quantity quantity : {Quantity::jvp, Quantity::evaluate_jvp, Quantity::ggn_product, Quantity::linear_gradient}) {
    ProductOptions options = lab.options(quantity);
    const Result once = lab.run(options, at);
    options.holdable = true;
    const Result held = lab.run(options, at);
    CHECK(held.rows == once.rows);
    CHECK(held.rows.empty() || held.sums.empty() || !std::isnan(held.rows[0][0]));
    if (quantity == Quantity::ggn_product || quantity == Quantity::linear_gradient) CHECK(held.sums == once.sums);
  }
}

void check_float32(const Laboratory& lab) {
  const Point at = lab.along(lab.direction(9));
  for (Quantity quantity : {Quantity::evaluate, Quantity::jvp, Quantity::vjp, Quantity::gradient, Quantity::ggn_product,
                            Quantity::hessian_product, Quantity::linear_gradient}) {
    const Result narrow = lab.run(lab.options(quantity), at, DType::f32), wide = lab.run(lab.options(quantity), at);
    for (size_t i = 0; i < wide.rows.size(); ++i) CHECK(distance(narrow.rows[i], wide.rows[i]) <= 1e-4);
    if (quantity != Quantity::evaluate && quantity != Quantity::jvp) CHECK(distance(narrow.sums, wide.sums) <= 1e-4);
  }
}

}  // namespace

SWEEP(products) {
  static const std::vector<TinyNetwork> networks = tiny_networks();
  for (const TinyNetwork& tiny : networks) {
    add_test("products of " + tiny.name, [&tiny] {
      const Laboratory lab(tiny.description, tiny.name, batch);
      const Matrix j = jacobian(lab);
      check_jacobian(lab, j);
      for (Loss loss : losses) {
        check_ggn(lab, j, loss);
        check_gradient(lab, j, loss);
        check_hessian(lab, loss);
      }
      check_linear_gradient(lab, j);
      check_squares(lab, j, tiny);
      check_fisher(lab, j);
      check_choice(lab, j);
      check_held(lab);
      check_float32(lab);
    });
  }
}

namespace {

// Training mode couples the examples: every product against central differences of the whole batch.
void check_training(const TinyNetwork& tiny) {
  Laboratory lab(tiny.description, tiny.name + " trained", 5);
  const auto options = [&](Quantity quantity, Loss loss = Loss::cross_entropy) {
    ProductOptions o = lab.options(quantity, loss);
    o.training = true;
    return o;
  };
  const Values v = lab.direction(1);
  const auto evaluate = [&](const Point& at) { return lab.run(options(Quantity::evaluate), at).rows[0]; };
  const Values jv = lab.run(options(Quantity::jvp), lab.along(v)).rows[0];
  CHECK(distance(jv, lab.slope(v, evaluate)) <= 1e-7);
  CHECK_CAN_FAIL(distance(jv, lab.run(Quantity::jvp, v).rows[0]) <= 1e-2);  // evaluation mode is another function
  for (Loss loss : losses) {
    const auto total = [&](const Point& at) {
      double sum = 0;
      const Values each = lab.run(options(Quantity::loss, loss), at).rows[1];
      for (double value : each) sum += value;
      return Values{sum};
    };
    const Values gradient = lab.run(options(Quantity::gradient, loss), lab.point()).sums;
    Values slopes;
    for (size_t i = 0; i < lab.size(); ++i) slopes.push_back(lab.slope(unit(lab.size(), i), total)[0]);
    CHECK(distance(gradient, slopes) <= 1e-7);
    const Values bars = loss_hessian_times(lab, evaluate(lab.point()), jv, loss);
    const Values pulled = lab.run(options(Quantity::vjp), lab.with_cotangent(bars)).sums;
    CHECK(distance(lab.run(options(Quantity::ggn_product, loss), lab.along(v)).sums, pulled) <= 1e-12);
  }
  for (Quantity quantity :
       {Quantity::hessian_product, Quantity::gradient_squares, Quantity::fisher_empirical, Quantity::fisher_class}) {
    CHECK_THROWS(ErrorCode::unsupported, product_graph(lab.network(), options(quantity)));
  }
}

}  // namespace

TEST(products_in_training_mode) {
  for (const TinyNetwork& tiny : tiny_networks()) {
    if (tiny.name == "residual" || tiny.name == "convolutions") check_training(tiny);
  }
}

// y = (x - mean) scale / sqrt(var + epsilon) + bias with the stored statistics, or with the batch's (biased variance).
TEST(batch_normalization_by_hand) {
  NetworkMaker m({2});
  const Laboratory lab(m.finish(m.batch_norm(m.input(), "bn", 2), 2), "by hand", 4);
  const Values &x = lab.point().inputs[input_x], &scale = lab.point().parameters[0], &bias = lab.point().parameters[1];
  for (const bool training : {false, true}) {
    ProductOptions options = lab.options(Quantity::evaluate);
    options.training = training;
    Values expected = x;
    for (size_t c = 0; c < 2; ++c) {
      double mean = lab.network().constants()[0].data[c], variance = lab.network().constants()[1].data[c];
      if (training) {
        mean = (x[c] + x[2 + c] + x[4 + c] + x[6 + c]) / 4;
        variance = 0;
        for (size_t b = 0; b < 4; ++b) variance += (x[2 * b + c] - mean) * (x[2 * b + c] - mean) / 4;
      }
      for (size_t b = 0; b < 4; ++b) {
        expected[2 * b + c] = (x[2 * b + c] - mean) * scale[c] / std::sqrt(variance + 1e-3) + bias[c];
      }
    }
    CHECK(distance(lab.run(options, lab.point()).rows[0], expected) <= 1e-14);
  }
}

// After the quantity's rows come each normalisation's mean and 1 / sqrt(biased variance + epsilon).
TEST(training_mode_gives_statistics) {
  NetworkMaker m({2, 3, 4});
  const int32_t y = m.reshape(m.batch_norm(m.input(), "bn", 2), {-1, 24});
  const Laboratory lab(m.finish(m.linear(y, "head", 24, 2), 2), "statistics", 4);
  ProductOptions options = lab.options(Quantity::gradient);
  options.training = true;
  const Result result = lab.run(options, lab.point());
  CHECK(result.rows.size() == 4);
  const Values& x = lab.point().inputs[input_x];
  for (size_t c = 0; c < 2; ++c) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < x.size(); ++i) mean += i / 12 % 2 == c ? x[i] / 48 : 0;
    for (size_t i = 0; i < x.size(); ++i) variance += i / 12 % 2 == c ? (x[i] - mean) * (x[i] - mean) / 48 : 0;
    CHECK_NEAR(result.rows[2][c], mean, 1e-13);
    CHECK_NEAR(result.rows[3][c], 1 / std::sqrt(variance + 1e-3), 1e-12);
  }
  const InstantiatedGraph made = lab.network().instantiate({4, true});
  CHECK(made.statistics.size() == 1 && made.statistics[0].rows == 48 && made.statistics[0].epsilon == 1e-3);
  CHECK(lab.network().constants()[static_cast<size_t>(made.statistics[0].mean_constant)].name == "bn.mean");
  CHECK(lab.network().constants()[static_cast<size_t>(made.statistics[0].var_constant)].name == "bn.var");
}

// A row of weight zero, as in a padded tail, counts for nothing whatever it holds.
TEST(rows_of_weight_zero_count_for_nothing) {
  for (const TinyNetwork& tiny : tiny_networks()) {
    Laboratory lab(tiny.description, tiny.name, batch);
    lab.point().inputs[input_weight][2] = 0;
    Laboratory other = lab;
    const size_t row = other.point().inputs[input_x].size() / batch;
    for (size_t i = 2 * row; i < 3 * row; ++i) other.point().inputs[input_x][i] = 0.25;
    const Values v = lab.direction(3);
    for (Quantity quantity : {Quantity::gradient, Quantity::ggn_product, Quantity::hessian_product}) {
      CHECK(distance(other.run(quantity, v).sums, lab.run(quantity, v).sums) <= 1e-15);
    }
  }
}

}  // namespace palimpsest::check
