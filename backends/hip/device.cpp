// What the device of this process is.
#include <grist/backends/device.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/view.hpp>

#include <hip/hip_runtime.h>

#include <array>

namespace grist {
namespace {

void check(hipError_t status, const char* call) {
  if (status != hipSuccess) throw InternalError("{}: {}", call, hipGetErrorString(status));
}

}  // namespace

DeviceFacts device_facts() {
  const int device = Exec().hip_device();
  hipDeviceProp_t properties;
  check(hipGetDeviceProperties(&properties, device), "hipGetDeviceProperties");
  std::array<char, 32> bus{};
  check(hipDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "hipDeviceGetPCIBusId");
  std::size_t available = 0, memory = 0;
  check(hipMemGetInfo(&available, &memory), "hipMemGetInfo");
  return {.name = properties.name, .address = bus.data(),
          .identity = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes), .threads = HostExec().concurrency(), .memory = memory,
          .available = available};
}

}  // namespace grist
