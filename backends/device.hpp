// What the machine is.
#pragma once

#include <cstdint>
#include <string>

namespace grist {

struct DeviceFacts {
  std::string name;             // "AMD EPYC 9654 96-Core Processor"
  int threads = 1;              // that Kokkos uses in this process
  std::uint64_t memory = 0;     // bytes that this process may use, limits of its control group included
  std::uint64_t available = 0;  // bytes free of that now
};
DeviceFacts device_facts();

}  // namespace grist
