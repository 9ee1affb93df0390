// What the machine is, and which of its devices is whose.
#pragma once

#include <cstdint>
#include <string>

namespace grist {

/// The device that this process' kernels run on; where that is the host, the host.
struct DeviceFacts {
  std::string name;             // "NVIDIA H100 80GB HBM3", "AMD EPYC 9654 96-Core Processor"
  std::string address;          // on the node's bus, "0000:17:00.0"; empty for the host
  std::string identity;         // bytes that no other device has, nor another part of a divided one; empty for the host
  int threads = 1;              // that Kokkos uses on the host in this process
  std::uint64_t memory = 0;     // bytes that this process may use, limits of its control group included
  std::uint64_t available = 0;  // bytes free of that now
};
DeviceFacts device_facts();

/// To be called before Kokkos is started or asked. Throws UsageError where kernels run on devices and the driver shows
/// none: Kokkos would end the process.
void require_device();

/// Bytes of host memory that this process holds now, and the most that it ever held, mapped files included; 0 where the
/// system does not tell.
struct ProcessMemory {
  std::uint64_t now = 0, most = 0;
};
ProcessMemory process_memory();

/// The device of the `rank_on_node`-th process of a node, of `devices` that it sees: one each, in order, from the first
/// again where there are more processes. A launcher that shows each process a device of its own has its way.
constexpr int device_of(int rank_on_node, int devices) { return rank_on_node % devices; }

/// A number, not negative, that is equal for processes of a node that share this process' memory.
int memory_hash(const DeviceFacts& facts);

}  // namespace grist
