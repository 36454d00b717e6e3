// Opens a shared library while the program runs.
#include "cuda/library.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>

#include "cuda/cublas.h"
#include "cuda/cudnn.h"
#include "cuda/library_places.h"

namespace palimpsest::cuda {
namespace {

std::atomic<bool> used{true};

// What the variable names: a file, or those of a folder.
std::vector<std::string> named_places(const LibraryNames& names, const std::string& value) {
  std::error_code none;
  if (!std::filesystem::is_directory(value, none)) return {value};
  std::vector<std::string> places;
  for (const std::string& file : names.files) places.push_back((std::filesystem::path(value) / file).string());
  return places;
}

}  // namespace

Library::Library(const LibraryNames& names) : state_{names.name, "", "", ""}, cure_(names.cure) {
  const char* value = std::getenv(names.variable);
  if (value != nullptr && std::string(value) == "none") {
    state_.reason = std::string(names.variable) + " is 'none'";
    return;
  }
  const bool named = value != nullptr && *value != 0;
  std::string failure;
  for (const std::string& place : named ? named_places(names, value) : library_places(names)) {
    std::string said;
    handle_ = open_library(place, said);
    if (handle_ != nullptr) {
      state_.path = place;
      return;
    }
    // What a place that exists has to say counts more than the many that do not.
    if (failure.empty() || place.find('/') != std::string::npos) failure = said;
  }
  state_.reason = named ? std::string(names.variable) + ": " + failure
                        : (failure.empty() ? std::string("it was not looked for") : "not found (" + failure + ")") +
                              "; " + cure_ + ", or set " + names.variable + " to its file";
}

void* Library::function(const char* name) {
  if (handle_ == nullptr) return nullptr;
  void* found = library_function(handle_, name);
  if (found == nullptr) refuse(std::string("it has no function ") + name);
  return found;
}

void Library::refuse(const std::string& reason) {
  handle_ = nullptr;
  if (state_.reason.empty()) state_.reason = reason + "; " + cure_;
}

std::vector<LibraryState> libraries() { return {cublas_state(), cudnn_state()}; }

bool use_libraries(bool use) { return used.exchange(use); }
bool libraries_used() { return used; }

}  // namespace palimpsest::cuda
