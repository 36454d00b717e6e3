// A shared library that is opened while the program runs, and where it was looked for.
#pragma once

#include <string>
#include <vector>

namespace palimpsest::cuda {

// What devices() says of a library: that and where it was found, or why it takes no part.
struct LibraryState {
  std::string name;     // "cuBLASLt"
  std::string path;     // as it was opened; empty where it was not
  std::string version;  // "13.1.1"; empty where it was not opened
  std::string reason;   // why our own kernels run in its place, with the cure; empty where the library runs
};

struct LibraryNames {
  const char* name;                   // "cuBLASLt"
  const char* variable;               // PALIMPSEST_CUBLAS: a file or a folder, or "none"
  std::vector<std::string> files;     // names to look for, the best first
  std::vector<std::string> packages;  // folders below Python's site-packages
  const char* cure;                   // "pip install nvidia-cublas"
};

class Library {
 public:
  // Opens the first that can be, in the order of library_places(). Throws nothing: state().reason tells.
  explicit Library(const LibraryNames& names);
  Library(const Library&) = delete;

  bool is_open() const { return handle_ != nullptr; }
  // Null where the library has no such function; then state().reason says so.
  void* function(const char* name);
  template <class F>
  void load(F& to, const char* name) {
    to = reinterpret_cast<F>(function(name));
  }
  // The library takes no part.
  void refuse(const std::string& reason);

  LibraryState& state() { return state_; }

 private:
  void* handle_ = nullptr;  // stays open until the process ends
  LibraryState state_;
  std::string cure_;
};

// cuBLASLt and cuDNN as they are in this process. Opens them on the first call.
std::vector<LibraryState> libraries();

// For tests and benchmarks: without, our own kernels run whatever was found. Returns what was before.
bool use_libraries(bool use);
bool libraries_used();

}  // namespace palimpsest::cuda
