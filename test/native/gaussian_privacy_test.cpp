// The Gaussian (epsilon, delta) curve and its inverses against high-precision values and their own defining properties.
#include "unlearn/gaussian_privacy.h"

#include <cmath>
#include <limits>

#include "check.h"
#include "gaussian_privacy_values.h"

using namespace palimpsest;

TEST(gaussian_privacy_log_delta_agrees_with_420_digits) {
  double deepest = 0;
  int count = 0;
  for (const LogDeltaValue& value : log_delta_values) {
    const double error = std::fabs(log_delta(value.epsilon, value.distance) - value.log_delta);
    CHECK(error <= 1e-12 * std::fmax(1.0, std::fabs(value.log_delta)));
    CHECK(error <= log_delta_error(value.log_delta));
    deepest = std::fmin(deepest, value.log_delta);
    ++count;
  }
  CHECK(count > 300);
  CHECK(deepest < -1790);
}

TEST(gaussian_privacy_curve_is_continuous_and_monotone) {
  for (const double distance : {1e-6, 0.01, 0.4, 0.5, 0.6, 3.0, 30.0}) {
    double before = log_delta(0, distance);
    for (int i = 1; i <= 4000; ++i) {
      const double c = -0.5 * distance + 0.01 * i;
      const double now = log_delta(distance * (c + 0.5 * distance), distance);
      CHECK(now <= before);
      CHECK(before - now < 0.02 * (std::fabs(c) + 2));
      before = now;
    }
  }
  for (const double epsilon : {0.0, 0.1, 2.0, 50.0}) {
    for (double distance = 0.4; distance < 0.6; distance += 0.001) {
      CHECK(log_delta(epsilon, distance) < log_delta(epsilon, distance + 0.001));
    }
  }
}

TEST(gaussian_privacy_epsilon_is_the_root_rounded_up) {
  for (const EpsilonValue& value : epsilon_values) {
    const double epsilon = epsilon_of(value.distance, value.delta);
    CHECK(epsilon >= value.epsilon);
    // d ln delta / d epsilon is at least 1/D in size, so an error e of ln delta moves epsilon by at most e D.
    const double slack = 4.0 * log_delta_error(std::log(value.delta)) * value.distance * (1.0 + value.distance);
    CHECK(epsilon - value.epsilon <= slack + 1e-12 * value.epsilon);
    if (epsilon > 0) CHECK(delta_of(epsilon, value.distance) <= value.delta * (1 + 1e-11));
    if (epsilon > 0) CHECK(delta_of(epsilon * (1 - 1e-8), value.distance) > value.delta);
  }
}

TEST(gaussian_privacy_distance_is_the_root_rounded_down) {
  for (const double epsilon : {0.0, 1e-9, 0.1, 1.0, 4.0, 100.0, 1e4}) {
    for (const double delta : {0.9, 0.1, 1e-6, 1e-9, 1e-60, 1e-300}) {
      const double distance = distance_of(epsilon, delta);
      CHECK(distance > 0);
      CHECK(log_delta(epsilon, distance) <= std::log(delta));
      CHECK(log_delta(epsilon, distance * (1 + 1e-9)) > std::log(delta));
      CHECK(epsilon_of(distance, delta) <= epsilon * (1 + 1e-15));
      CHECK(epsilon_of(distance * (1 + 1e-8), delta) > epsilon);
    }
  }
}

TEST(gaussian_privacy_table_of_nats_epsilon_advantage) {
  const double forward[5][3] = {
      {1e-4, 0.049, 0.0056}, {1e-3, 0.168, 0.0178}, {0.01, 0.575, 0.0564}, {0.1, 1.99, 0.177}, {1, 7.29, 0.520}};
  const double half_unit[5][2] = {{5e-4, 5e-5}, {5e-4, 5e-5}, {5e-4, 5e-5}, {5e-3, 5e-4}, {5e-3, 5e-4}};
  for (int i = 0; i < 5; ++i) {
    CHECK_NEAR(epsilon_of(distance_of_nats(forward[i][0]), 1e-6), forward[i][1], half_unit[i][0]);
    CHECK_NEAR(advantage(forward[i][0]), forward[i][2], half_unit[i][1]);
  }
  const double inverse[5][4] = {{0.1, 1e-6, 0.0275, 0.00038},
                                {0.5, 1e-6, 0.124, 0.0077},
                                {1, 1e-6, 0.237, 0.0280},
                                {1, 1e-9, 0.182, 0.0166},
                                {4, 1e-6, 0.838, 0.351}};
  const double unit[5][2] = {{5e-5, 5e-6}, {5e-4, 5e-5}, {5e-4, 5e-5}, {5e-4, 5e-5}, {5e-4, 5e-4}};
  for (int i = 0; i < 5; ++i) {
    const double distance = distance_of(inverse[i][0], inverse[i][1]);
    CHECK_NEAR(distance, inverse[i][2], unit[i][0]);
    CHECK_NEAR(nats_of(distance), inverse[i][3], unit[i][1]);
  }
}

TEST(gaussian_privacy_rounds_towards_caution) {
  double value = 1.37e-20;
  for (int i = 0; i < 4000; ++i) {
    value *= 1.0123;
    const double distance = distance_of_nats(value);
    CHECK(nats_of(distance) <= value);
    CHECK(std::fma(distance, distance, -2 * nats_of(distance)) <= 0);
    CHECK(nats_of(std::nextafter(distance, 1e300)) >= value);
    CHECK(advantage(value) >= std::erf(0.5 * std::sqrt(value)));
    CHECK(advantage(value) <= 1);
  }
  // epsilon = 0 is the total variation, which is the advantage.
  for (const double nats : {1e-12, 1e-4, 0.01, 0.3, 2.0, 40.0}) {
    const double distance = distance_of_nats(nats);
    CHECK_NEAR(delta_of(0, distance) / advantage(nats), 1.0, 1e-12);
    CHECK(delta_of(0, distance) >= std::erf(distance / (2 * std::sqrt(2.0))) * (1 - 1e-15));
  }
  CHECK(nats_of(1e-200) > 0);
  CHECK(distance_of_nats(0) == 0);
  CHECK(nats_of(0) == 0);
  CHECK(advantage(0) == 0);
}

TEST(gaussian_privacy_ends_of_the_range) {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(log_delta(1, 0) == -infinity);
  CHECK(delta_of(0, 0) == 0);
  CHECK(epsilon_of(0, 1e-6) == 0);
  CHECK(log_delta(1e300, 1e-300) == -infinity);
  CHECK(delta_of(1000, 1) > 0);  // rounded up where it underflows
  CHECK(delta_of(1000, 1) < 1e-300);
  CHECK(delta_of(0, 200) == 1);
  CHECK(std::isfinite(log_delta(1e6, 0.5)));
  CHECK(epsilon_of(0.1, 0.2) == 0);  // above the total variation, so epsilon = 0 does
  CHECK(distance_of(0, 5e-324) >= 0);
  CHECK(delta_of(1e304, 1e153) == 1);  // epsilon / D is beyond 1e150, but below D / 2
  CHECK(epsilon_of(1e153, 1e-6) > 4e305);
  CHECK(distance_of(1e305, 1e-6) < 5e152);
}

TEST(gaussian_privacy_refuses_arguments_out_of_range) {
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {-1e-9, nan, infinity}) {
    CHECK_THROWS(ErrorCode::invalid_argument, log_delta(bad, 1));
    CHECK_THROWS(ErrorCode::invalid_argument, log_delta(1, bad));
    CHECK_THROWS(ErrorCode::invalid_argument, delta_of(bad, 1));
    CHECK_THROWS(ErrorCode::invalid_argument, epsilon_of(bad, 1e-6));
    CHECK_THROWS(ErrorCode::invalid_argument, distance_of(bad, 1e-6));
    CHECK_THROWS(ErrorCode::invalid_argument, nats_of(bad));
    CHECK_THROWS(ErrorCode::invalid_argument, distance_of_nats(bad));
    CHECK_THROWS(ErrorCode::invalid_argument, advantage(bad));
  }
  for (const double bad : {0.0, 1.0, -0.1, 1.5, nan}) {
    CHECK_THROWS(ErrorCode::invalid_argument, epsilon_of(1, bad));
    CHECK_THROWS(ErrorCode::invalid_argument, distance_of(1, bad));
  }
}
