#include <grist/backends/device.hpp>

#include <grist/core/philox.hpp>

#include <fstream>
#include <string>

namespace grist {

ProcessMemory process_memory() {
  ProcessMemory memory;
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);)
    for (const auto& [key, bytes] : {std::pair("VmRSS:", &memory.now), std::pair("VmHWM:", &memory.most)})
      if (line.starts_with(key)) *bytes = std::stoull(line.substr(6)) * 1024;
  return memory;
}

int memory_hash(const DeviceFacts& facts) { return static_cast<int>(hash_name(facts.identity) >> 33); }

}  // namespace grist
