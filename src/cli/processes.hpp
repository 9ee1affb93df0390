// The ranks of a program that owns its processes. What differs with and without MPI stands in mpi/ and single/, under
// equal file names; CMake picks the folder.
#pragma once

#include <grist/comm/handle.hpp>

#include <string>

namespace grist::cli {

/// Starts MPI (FUNNELED) and ends it; without MPI there is nothing to start. Throws InternalError.
class Processes {
public:
  Processes();
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  /// While there is one of these.
  static CommHandle world();
  static int rank();
  static int size();
};

/// Ends all ranks, with this exit code.
[[noreturn]] void abort_all(int code);

/// The MPI library that the program was built with, in one line; empty without MPI.
std::string mpi_library();

}  // namespace grist::cli
