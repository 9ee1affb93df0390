// What the device of this process is.
#include <grist/backends/cuda/check.hpp>
#include <grist/backends/device.hpp>
#include <grist/core/view.hpp>

#include <array>

namespace grist {

using cuda::check;

void require_device() {
  int count = 0;
  const auto status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0)
    throw UsageError("this grist runs on CUDA devices, and none here can be used: {}",
                     status != cudaSuccess ? cudaGetErrorString(status) : "the driver shows none");
}

DeviceFacts device_facts() {
  const int device = Exec().cuda_device();
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::array<char, 32> bus{};
  check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId");
  std::size_t available = 0, memory = 0;
  check(cudaMemGetInfo(&available, &memory), "cudaMemGetInfo");
  return {.name = properties.name,
          .address = bus.data(),
          .identity = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes),
          .threads = HostExec().concurrency(),
          .memory = memory,
          .available = available};
}

}  // namespace grist
