// Every status of the runtime is looked at.
#pragma once

#include <grist/core/errors.hpp>

#include <cuda_runtime_api.h>

namespace grist::cuda {

/// Throws InternalError with the call and what the runtime says.
inline void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) throw InternalError("{}: {}", call, cudaGetErrorString(status));
}

}  // namespace grist::cuda
