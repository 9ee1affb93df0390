// Whether MPI takes the addresses of device memory.
#pragma once

#include <functional>
#include <string_view>

namespace grist {

/// Addresses of functions by name, or null: dlsym's question.
using SymbolLookup = std::function<void*(const char*)>;

/// Asks MPI (Open MPI's and MPICH's MPIX_Query_cuda_support and the like; Cray MPICH by MPICH_GPU_SUPPORT_ENABLED)
/// about the device of an execution space, "Cuda", "HIP" or "SYCL". False where MPI says nothing.
bool mpi_takes_memory_of(std::string_view execution_space, const SymbolLookup& lookup);

/// Whether collectives hand device memory to MPI. GRIST_GPU_AWARE_MPI=on or =off decides; else MPI is asked. Where
/// kernels run in host memory, off makes copies all the same. Throws UsageError on another value.
bool gpu_aware_mpi();

}  // namespace grist
