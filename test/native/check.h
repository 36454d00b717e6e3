// A small test harness: named tests, checks, and distrust of tests that could not have failed.
//
// TEST(name) { ... } is one test; SWEEP(name) { add_test(..., ...); } adds one a table entry before the run starts.
// A failed check is printed and counted and the test goes on. A test that made no check, or that mistrust() was told
// of, counts as failed: `check_telling` wants data that are not mostly zeros, `CHECK_CAN_FAIL` a comparison that
// refuses a perturbed value.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <sstream>
#include <string>

#include "core/error.h"

namespace palimpsest::check {

using Body = std::function<void()>;

void add_test(std::string name, Body body);
void add_sweep(Body add);  // `add` calls add_test for every row of a table
void passed();             // one check was made and held
void failed(const char* file, int line, const std::string& what);
void mistrust(const std::string& reason);  // the running test would pass whatever the code did
void skip(const std::string& reason);      // what the running test needs is not on this machine
// Thrown by a test that needs what is not there: the same.
struct Unavailable {
  std::string reason;
};
void about_the_device();  // the running test uses the device that the run is about; with --device only such tests count

struct Registration {
  Registration(const char* name, Body body) { add_test(name, std::move(body)); }
  explicit Registration(Body add) { add_sweep(std::move(add)); }
};

inline void check(bool held, const char* file, int line, const std::string& what) {
  if (held) passed();
  else failed(file, line, what);
}

template <typename A, typename B>
void check_near(A actual, B expected, double tolerance, const char* file, int line, const char* what) {
  const double difference = std::abs(static_cast<double>(actual) - static_cast<double>(expected));
  if (difference <= tolerance) return passed();  // false for NaN
  std::ostringstream text;
  text.precision(10);
  text << what << ": got " << actual << ", expected " << expected << " within " << tolerance;
  failed(file, line, text.str());
}

// ||actual - expected|| / max(||expected||, floor), in double; NaN where either holds one.
template <typename A, typename B>
double relative_error(const A* actual, const B* expected, std::size_t count, double floor = 1e-300) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    difference += (a - e) * (a - e);
    norm += e * e;
  }
  return std::sqrt(difference) / std::fmax(std::sqrt(norm), floor);
}

// Mistrusts the running test where more than half of the values that it compares are zero.
template <typename A>
void check_telling(const A* values, std::size_t count, const std::string& what) {
  std::size_t zeros = 0;
  for (std::size_t i = 0; i < count; ++i) zeros += values[i] == A(0);
  if (2 * zeros > count || count == 0) {
    mistrust(what + ": " + std::to_string(zeros) + " of " + std::to_string(count) + " values are zero");
  }
}

template <typename F>
void check_throws(ErrorCode code, const F& run, const char* file, int line, const char* what) {
  std::string came = "nothing thrown";
  try {
    run();
  } catch (const Error& error) {
    if (error.code() == code) return passed();
    came = std::string(error_code_name(error.code())) + " (" + error.what() + ")";
  }
  failed(file, line, std::string(what) + ": expected " + error_code_name(code) + ", got " + came);
}

}  // namespace palimpsest::check

#define CHECK(...) ::palimpsest::check::check((__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)
#define CHECK_NEAR(actual, expected, tolerance) \
  ::palimpsest::check::check_near(actual, expected, tolerance, __FILE__, __LINE__, #actual)
#define CHECK_THROWS(code, ...)      \
  ::palimpsest::check::check_throws( \
      code, [&] { __VA_ARGS__; }, __FILE__, __LINE__, #__VA_ARGS__)
// The condition compares perturbed data: where it still holds, the comparison sees nothing and the test is mistrusted.
#define CHECK_CAN_FAIL(...) \
  ((__VA_ARGS__) ? ::palimpsest::check::mistrust("still holds when perturbed: " #__VA_ARGS__) : (void)0)

#define TEST(name)                                                                       \
  static void test_##name();                                                             \
  static const ::palimpsest::check::Registration registered_##name(#name, &test_##name); \
  static void test_##name()
#define SWEEP(name)                                                                                           \
  static void sweep_##name();                                                                                 \
  static const ::palimpsest::check::Registration registered_##name{::palimpsest::check::Body(&sweep_##name)}; \
  static void sweep_##name()
