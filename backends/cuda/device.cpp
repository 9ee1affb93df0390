// What the device of this process is.
#include <grist/backends/device.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/view.hpp>

#include <cuda_runtime_api.h>

#include <array>

namespace grist {
namespace {

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) throw InternalError("{}: {}", call, cudaGetErrorString(status));
}

}  // namespace

DeviceFacts device_facts() {
  const int device = Exec().cuda_device();
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::array<char, 32> bus{};
  check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId");
  std::size_t available = 0, memory = 0;
  check(cudaMemGetInfo(&available, &memory), "cudaMemGetInfo");
  return {.name = properties.name, .address = bus.data(),
          .identity = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes), .threads = HostExec().concurrency(), .memory = memory,
          .available = available};
}

}  // namespace grist
