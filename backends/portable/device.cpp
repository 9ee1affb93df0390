#include <grist/backends/device.hpp>

#include <grist/core/view.hpp>

#include <algorithm>
#include <fstream>
#include <string_view>

namespace grist {
namespace {

/// The value behind "key" in a file of "key : value" lines; empty where there is none.
std::string value_in(const char* file, std::string_view key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto first = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (first != std::string::npos) return line.substr(first);
  }
  return {};
}

std::uint64_t kibibytes(std::string_view key) {
  const auto text = value_in("/proc/meminfo", key);
  return text.empty() ? 0 : std::stoull(text) * 1024;
}

/// A number in a file of the control group; `otherwise` where there is no limit.
std::uint64_t number_in(const char* file, std::uint64_t otherwise) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  return in >> value ? value : otherwise;
}

}  // namespace

DeviceFacts device_facts() {
  DeviceFacts facts;
  facts.name = value_in("/proc/cpuinfo", "model name");
  if (facts.name.empty()) facts.name = "unknown processor";
  facts.threads = HostExec().concurrency();
  facts.memory = kibibytes("MemTotal");
  facts.available = kibibytes("MemAvailable");
  const std::uint64_t limit = number_in("/sys/fs/cgroup/memory.max", facts.memory);
  if (limit < facts.memory) {
    const std::uint64_t used = number_in("/sys/fs/cgroup/memory.current", 0);
    facts.memory = limit;
    facts.available = std::min(facts.available, limit - std::min(limit, used));
  }
  return facts;
}

}  // namespace grist
