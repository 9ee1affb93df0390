// Every status of the runtime is looked at.
#pragma once

#include <grist/core/errors.hpp>

#include <hip/hip_runtime.h>

namespace grist::hip {

/// Throws InternalError with the call and what the runtime says.
inline void check(hipError_t status, const char* call) {
  if (status != hipSuccess) throw InternalError("{}: {}", call, hipGetErrorString(status));
}

}  // namespace grist::hip
