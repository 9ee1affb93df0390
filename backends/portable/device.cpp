#include <grist/backends/device.hpp>

#include <grist/backends/portable/control_group.hpp>
#include <grist/core/view.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace grist {
namespace {

/// The value after "key" and `separator` in a file of such lines; empty where there is none.
std::string value_in(const std::filesystem::path& file, std::string_view key, char separator) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    const auto end = line.find(separator);
    const auto first = end == std::string::npos ? end : line.find_first_not_of(" \t", end + 1);
    if (first != std::string::npos) return line.substr(first);
  }
  return {};
}

std::uint64_t kibibytes(std::string_view key) {
  const auto text = value_in("/proc/meminfo", key, ':');
  return text.empty() ? 0 : std::stoull(text) * 1024;
}

}  // namespace

void require_device() {}

DeviceFacts device_facts() {
  DeviceFacts facts;
  facts.name = value_in("/proc/cpuinfo", "model name", ':');
  if (facts.name.empty()) facts.name = "unknown processor";
  facts.threads = HostExec().concurrency();
  facts.memory = kibibytes("MemTotal");
  facts.available = kibibytes("MemAvailable");
  const auto limits = control_group_limits();
  facts.memory = std::min(facts.memory, limits.memory);
  facts.available = std::min(facts.available, limits.available);
  return facts;
}

}  // namespace grist
