#include <grist/backends/device.hpp>

#include <grist/core/view.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace grist {
namespace {

/// The value behind "key" and `separator` in a file of such lines; empty where there is none.
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

namespace fs = std::filesystem;

/// A number in a file of a control group; `otherwise` where there is no limit.
std::uint64_t number_in(const fs::path& file, std::uint64_t otherwise) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  return in >> value ? value : otherwise;
}

/// Lowers the facts to what a control group (version 2) and the groups above it grant.
void apply_limits(DeviceFacts& facts) {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::/")) continue;
    const fs::path root = "/sys/fs/cgroup";
    for (fs::path group = (root / line.substr(4)).lexically_normal();; group = group.parent_path()) {
      const std::uint64_t limit = number_in(group / "memory.max", facts.memory);
      if (limit < facts.memory) {
        // Cached file pages count as used, but are given up for those who ask.
        const auto cached = value_in(group / "memory.stat", "inactive_file", ' ');
        const std::uint64_t held = number_in(group / "memory.current", 0);
        const std::uint64_t used = held - std::min<std::uint64_t>(held, cached.empty() ? 0 : std::stoull(cached));
        facts.memory = limit;
        facts.available = std::min(facts.available, limit - std::min(limit, used));
      }
      if (group == root || group == group.root_path()) return;
    }
  }
}

}  // namespace

DeviceFacts device_facts() {
  DeviceFacts facts;
  facts.name = value_in("/proc/cpuinfo", "model name", ':');
  if (facts.name.empty()) facts.name = "unknown processor";
  facts.threads = HostExec().concurrency();
  facts.memory = kibibytes("MemTotal");
  facts.available = kibibytes("MemAvailable");
  apply_limits(facts);
  return facts;
}

}  // namespace grist
