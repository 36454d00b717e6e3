// Where a library is looked for, and how it is opened. The emulator of test/native has its own version of this file.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "cuda/library.h"

namespace palimpsest::cuda {

// Files named in a folder, if it has them.
inline void add_files(const std::filesystem::path& folder, const std::vector<std::string>& files,
                      std::vector<std::string>& to) {
  std::error_code none;
  for (const std::string& file : files) {
    if (std::filesystem::exists(folder / file, none)) to.push_back((folder / file).string());
  }
}

inline std::filesystem::path variable_path(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Python's site-packages: of the active environment, of the user, of the system.
inline std::vector<std::filesystem::path> site_packages() {
  namespace fs = std::filesystem;
  std::vector<fs::path> roots, folders;
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (!variable_path(variable).empty()) roots.push_back(variable_path(variable) / "lib");
  }
  if (!variable_path("HOME").empty()) roots.push_back(variable_path("HOME") / ".local/lib");
  for (const char* root : {"/usr/local/lib", "/usr/lib"}) roots.emplace_back(root);
  std::error_code none;
  for (const fs::path& root : roots) {
    std::vector<fs::path> versions;
    for (auto entry = fs::directory_iterator(root, none); !none && entry != fs::directory_iterator();
         entry.increment(none)) {
      if (entry->path().filename().string().rfind("python3", 0) == 0) versions.push_back(entry->path());
    }
    // The newest Python first, the same order every time.
    std::sort(versions.begin(), versions.end(), [](const fs::path& a, const fs::path& b) {
      const std::string x = a.string(), y = b.string();
      return x.size() != y.size() ? x.size() > y.size() : x > y;
    });
    for (const fs::path& version : versions) {
      for (const char* name : {"site-packages", "dist-packages"}) folders.push_back(version / name);
    }
  }
  return folders;
}

// What to try to open in turn where the variable is not set: the loader's own path, the toolkit, Python's packages.
inline std::vector<std::string> library_places(const LibraryNames& names) {
  std::vector<std::string> places = names.files;
  std::vector<std::filesystem::path> toolkits;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (!variable_path(variable).empty()) toolkits.push_back(variable_path(variable));
  }
  toolkits.emplace_back("/usr/local/cuda");
  for (const auto& toolkit : toolkits) {
    for (const char* folder : {"lib64", "lib"}) add_files(toolkit / folder, names.files, places);
  }
  for (const auto& packages : site_packages()) {
    for (const std::string& package : names.packages) add_files(packages / package, names.files, places);
  }
  return places;
}

// Null, and why, where it cannot be opened.
inline void* open_library(const std::string& place, std::string& failure) {
  void* handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  const char* said = dlerror();
  failure = said == nullptr ? place : said;
  return nullptr;
}

inline void* library_function(void* handle, const char* name) { return dlsym(handle, name); }

}  // namespace palimpsest::cuda
