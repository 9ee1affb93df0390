// MPI's answers as exceptions.
#pragma once

#include <grist/core/errors.hpp>

#include <mpi.h>

#include <string>

namespace grist {

/// Throws InternalError naming the call where MPI reports an error.
inline void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw InternalError("{} failed: {}", call, std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace grist
