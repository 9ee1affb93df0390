#include <grist/comm/gpu_aware.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

namespace grist {

bool mpi_takes_memory_of(std::string_view execution_space, const SymbolLookup& lookup) {
  // By name at run time: which of them exist depends on the MPI, and on its version.
  constexpr std::pair<std::string_view, const char*> questions[] = {
      {"Cuda", "MPIX_Query_cuda_support"}, {"HIP", "MPIX_Query_hip_support"},
      {"HIP", "MPIX_Query_rocm_support"},  {"SYCL", "MPIX_Query_ze_support"}};
  for (const auto& [space, name] : questions) {
    if (space != execution_space) continue;
    if (void* const function = lookup(name)) return reinterpret_cast<int (*)()>(function)() != 0;
  }
  const char* const cray = std::getenv("MPICH_GPU_SUPPORT_ENABLED");
  return cray != nullptr && std::string_view(cray) == "1";
}

bool gpu_aware_mpi() {
  const char* const value = std::getenv("GRIST_GPU_AWARE_MPI");
  const std::string_view wanted = value == nullptr ? "" : value;
  if (wanted == "on" || wanted == "off") return wanted == "on";
  if (!wanted.empty()) throw UsageError("GRIST_GPU_AWARE_MPI is '{}', but must be 'on' or 'off'", wanted);
  return host_reaches_memory ||
         mpi_takes_memory_of(Exec::name(), [](const char* name) { return dlsym(RTLD_DEFAULT, name); });
}

}  // namespace grist
