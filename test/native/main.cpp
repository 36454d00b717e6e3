// Runs the registered tests: palimpsest_tests [--list] [--only NAME] [--match TEXT] [--device NAME]; ends with
// "N passed, N failed". With --device only the tests that use a device count, and they use that one.
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
  std::string only, match;
  bool list = false;
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--list") == 0) list = true;
    else if (std::strcmp(argv[i], "--only") == 0 && more) only = argv[++i];
    else if (std::strcmp(argv[i], "--match") == 0 && more) match = argv[++i];
    else if (std::strcmp(argv[i], "--device") == 0 && more) test_on(argv[++i]);
    else
      return std::fprintf(stderr, "expected --list, --only, --match or --device with a value, got '%s'\n", argv[i]), 2;
  }
  for (int signal : {SIGSEGV, SIGFPE, SIGABRT, SIGILL}) std::signal(signal, on_crash);
  for (const Body& add : sweeps()) add();

  int passes = 0, failures = 0, skips = 0;
  std::set<std::string> names, said;
  for (const Test& test : tests()) {
    if (!names.insert(test.name).second) {
      std::printf("FAILED %s: two tests have this name\n", test.name.c_str());
      ++failures;
    }
    if ((!only.empty() && test.name != only) || test.name.find(match) == std::string::npos) continue;
    if (list) {
      std::printf("%s\n", test.name.c_str());
      continue;
    }
    run(test);
    if (tested_device() != "cpu" && !outcome.about_device && outcome.failures == 0) continue;
    // A device that is not there is said once.
    if (!outcome.skipped.empty() && said.insert(outcome.skipped).second) {
      std::printf("skipped %s%s: %s\n", running, outcome.about_device ? " and the others" : "",
                  outcome.skipped.c_str());
    }
    if (!outcome.mistrusted.empty()) std::printf("MISTRUSTED %s\n  %s\n", running, outcome.mistrusted.c_str());
    const bool bad = outcome.failures > 0 || !outcome.mistrusted.empty();
    const std::string where = tested_device() == "cpu" ? "" : " --device " + tested_device();
    if (bad) std::printf("  again: palimpsest_tests --only '%s'%s\n", running, where.c_str());
    ++(bad ? failures : outcome.skipped.empty() ? passes : skips);
  }
  if (list) return 0;
  if (passes + failures + skips == 0) return std::fprintf(stderr, "no test has that name\n"), 2;
  std::printf("%d passed, %d failed", passes, failures);
  if (skips > 0) std::printf(", %d skipped", skips);
  std::printf("\n");
  return failures == 0 ? 0 : 1;
}
