// Runs the registered tests: palimpsest_tests [--list] [--only NAME] [--match TEXT] [--device NAME] [--part I/N]
// [--slowest N]; ends with "N passed, N failed". With --device only the tests that use a device count, and they use
// that one. --part takes every N-th test from the I-th on; --slowest tells which took longest.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <set>
#include <vector>

#include "check.h"
#include "tested_device.h"

namespace palimpsest::check {
namespace {

struct Test {
  std::string name;
  Body body;
};

struct Outcome {
  int checks = 0, failures = 0;
  bool about_device = false;
  std::string mistrusted, skipped;
};

// Function-local, because registrations run before main in no known order of files.
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
std::vector<Body>& sweeps() {
  static std::vector<Body> all;
  return all;
}

Outcome outcome;
char running[256] = "";
constexpr int most_messages = 5;

void run(const Test& test) {
  outcome = {};
  std::snprintf(running, sizeof running, "%s", test.name.c_str());
  try {
    test.body();
  } catch (const Error& error) {
    failed(nullptr, 0, std::string("threw ") + error_code_name(error.code()) + ": " + error.what());
  } catch (const Unavailable& unavailable) {
    skip(unavailable.reason);
  } catch (const std::exception& error) {
    failed(nullptr, 0, std::string("threw ") + error.what());
  }
  if (outcome.skipped.empty() && outcome.failures == 0 && outcome.checks == 0) mistrust("made no check");
}

struct Options {
  std::string only, match;
  bool list = false;
  size_t part = 1, parts = 1, slowest = 0;

  // False where it does not know the argument.
  bool take(const std::string& name, const char* value) {
    if (name == "--only") return only = value, true;
    if (name == "--match") return match = value, true;
    if (name == "--device") return test_on(value), true;
    if (name == "--slowest") return std::sscanf(value, "%zu", &slowest) == 1;
    return name == "--part" && std::sscanf(value, "%zu/%zu", &part, &parts) == 2 && part >= 1 && part <= parts;
  }
};

struct Counts {
  int passes = 0, failures = 0, skips = 0;
};

// Says what came of the test that ran, and counts it.
void report(Counts& counts) {
  static std::set<std::string> said;
  if (tested_device() != "cpu" && !outcome.about_device && outcome.failures == 0) return;
  // A device that is not there is said once.
  if (!outcome.skipped.empty() && said.insert(outcome.skipped).second) {
    std::printf("skipped %s%s: %s\n", running, outcome.about_device ? " and the others" : "", outcome.skipped.c_str());
  }
  if (!outcome.mistrusted.empty()) std::printf("MISTRUSTED %s\n  %s\n", running, outcome.mistrusted.c_str());
  const bool bad = outcome.failures > 0 || !outcome.mistrusted.empty();
  const std::string where = tested_device() == "cpu" ? "" : " --device " + tested_device();
  if (bad) std::printf("  again: palimpsest_tests --only '%s'%s\n", running, where.c_str());
  ++(bad ? counts.failures : outcome.skipped.empty() ? counts.passes : counts.skips);
}

// Names must differ, so that each can be run again.
int repeated_names() {
  std::set<std::string> names;
  int repeated = 0;
  for (const Test& test : tests()) {
    if (names.insert(test.name).second) continue;
    std::printf("FAILED %s: two tests have this name\n", test.name.c_str());
    ++repeated;
  }
  return repeated;
}

void on_crash(int signal) {
  std::fprintf(stderr, "\ncrashed with signal %d\n  again: palimpsest_tests --only '%s'\n", signal, running);
  std::_Exit(2);
}

}  // namespace

void add_test(std::string name, Body body) { tests().push_back({std::move(name), std::move(body)}); }
void add_sweep(Body add) { sweeps().push_back(std::move(add)); }
void passed() { ++outcome.checks; }
void mistrust(const std::string& reason) { outcome.mistrusted = reason; }
void skip(const std::string& reason) { outcome.skipped = reason; }
void about_the_device() { outcome.about_device = true; }

void failed(const char* file, int line, const std::string& what) {
  if (outcome.failures++ == 0) std::printf("FAILED %s\n", running);
  if (outcome.failures > most_messages) return;
  if (file) std::printf("  %s:%d: %s\n", file, line, what.c_str());
  else std::printf("  %s\n", what.c_str());
}

}  // namespace palimpsest::check

int main(int argc, char** argv) {
  using namespace palimpsest::check;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was said before a crash stays said
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--list") == 0) options.list = true;
    else if (i + 1 < argc && options.take(argv[i], argv[i + 1])) ++i;
    else return std::fprintf(stderr, "expected the options of this file's first line, got '%s'\n", argv[i]), 2;
  }
  for (int signal : {SIGSEGV, SIGFPE, SIGABRT, SIGILL}) std::signal(signal, on_crash);
  for (const Body& add : sweeps()) add();

  Counts counts;
  counts.failures = repeated_names();
  std::vector<std::pair<double, std::string>> times;
  size_t turn = 0;
  for (const Test& test : tests()) {
    if ((!options.only.empty() && test.name != options.only) || test.name.find(options.match) == std::string::npos)
      continue;
    if (turn++ % options.parts + 1 != options.part) continue;
    if (options.list) {
      std::printf("%s\n", test.name.c_str());
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    run(test);
    times.emplace_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), test.name);
    report(counts);
  }
  if (options.list) return 0;
  if (counts.passes + counts.failures + counts.skips == 0) return std::fprintf(stderr, "no test has that name\n"), 2;
  std::sort(times.rbegin(), times.rend());
  for (size_t i = 0; i < std::min(options.slowest, times.size()); ++i) {
    std::printf("%8.3f s  %s\n", times[i].first, times[i].second.c_str());
  }
  std::printf("%d passed, %d failed", counts.passes, counts.failures);
  if (counts.skips > 0) std::printf(", %d skipped", counts.skips);
  std::printf("\n");
  return counts.failures == 0 ? 0 : 1;
}
