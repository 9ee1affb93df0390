// What the device of this process is.
#include <grist/backends/hip/check.hpp>
#include <grist/backends/device.hpp>
#include <grist/core/view.hpp>

#include <array>

namespace grist {

using hip::check;

void require_device() {
  int count = 0;
  const auto status = hipGetDeviceCount(&count);
  if (status != hipSuccess || count == 0)
    throw UsageError("this grist runs on HIP devices, and none here can be used: {}",
                     status != hipSuccess ? hipGetErrorString(status) : "the driver shows none");
}

DeviceFacts device_facts() {
  const int device = Exec().hip_device();
  hipDeviceProp_t properties;
  check(hipGetDeviceProperties(&properties, device), "hipGetDeviceProperties");
  std::array<char, 32> bus{};
  check(hipDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "hipDeviceGetPCIBusId");
  std::size_t available = 0, memory = 0;
  check(hipMemGetInfo(&available, &memory), "hipMemGetInfo");
  return {.name = properties.name,
          .address = bus.data(),
          .identity = std::string(properties.uuid.bytes, sizeof properties.uuid.bytes),
          .threads = HostExec().concurrency(),
          .memory = memory,
          .available = available};
}

}  // namespace grist
