#include <grist/backends/portable/control_group.hpp>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

namespace grist {
namespace {

namespace fs = std::filesystem;

/// The first number in a file; `otherwise` where there is no such file or it says "max".
std::int64_t number_in(const fs::path& file, std::int64_t otherwise) {
  std::ifstream in(file);
  std::int64_t value = 0;
  return in >> value ? value : otherwise;
}

/// The number after a key in a file of lines "key number"; 0 where there is none.
std::uint64_t number_of(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string name;
  std::uint64_t value = 0;
  while (in >> name >> value)
    if (name == key) return value;
  return 0;
}

/// How the files of a version are called.
struct MemoryFiles {
  const char* limit;
  const char* used;
  const char* cached;  // in memory.stat: pages of files count as used, but are given up for those who ask
};

void apply_memory(ControlGroupLimits& limits, const fs::path& group, const MemoryFiles& files) {
  const std::int64_t limit = number_in(group / files.limit, -1);
  if (limit < 0) return;
  const auto most = static_cast<std::uint64_t>(limit);
  const auto held = static_cast<std::uint64_t>(std::max<std::int64_t>(number_in(group / files.used, 0), 0));
  const std::uint64_t used = held - std::min(held, number_of(group / "memory.stat", files.cached));
  limits.memory = std::min(limits.memory, most);
  limits.available = std::min(limits.available, most - std::min(most, used));
}

void apply_quota(ControlGroupLimits& limits, double quota, double period) {
  if (quota <= 0 || period <= 0) return;  // "max", or -1: none
  limits.processors = std::min(limits.processors, static_cast<int>(std::clamp(quota / period, 1.0, 1e6)));
}

void apply_version2(ControlGroupLimits& limits, const fs::path& group) {
  apply_memory(limits, group, {"memory.max", "memory.current", "inactive_file"});
  std::ifstream in(group / "cpu.max");
  double quota = 0, period = 0;
  if (in >> quota >> period) apply_quota(limits, quota, period);
}

void apply_version1(ControlGroupLimits& limits, const fs::path& group) {
  apply_memory(limits, group, {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"});
  apply_quota(limits, static_cast<double>(number_in(group / "cpu.cfs_quota_us", -1)),
              static_cast<double>(number_in(group / "cpu.cfs_period_us", 0)));
}

/// Calls f for a group and those above it. A container may name a group that it does not see: its own is then the root.
void up_from(const fs::path& mount, const std::string& group, void (*f)(ControlGroupLimits&, const fs::path&),
             ControlGroupLimits& limits) {
  fs::path folder = (mount / fs::path(group).relative_path()).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  while (true) {
    f(limits, folder);
    if (folder == mount || folder == folder.root_path()) return;
    folder = folder.parent_path();
  }
}

}  // namespace

ControlGroupLimits control_group_limits(const fs::path& root) {
  ControlGroupLimits limits;
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line;
       std::getline(groups, line);) {  // number:controllers:group; version 2 has number 0 and no controllers
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const fs::path& mount : {mounts, mounts / "unified"}) up_from(mount, group, apply_version2, limits);
    } else if (const std::string list = "," + controllers + ",";
               list.find(",memory,") != list.npos || list.find(",cpu,") != list.npos) {
      const std::string alone = list.find(",memory,") != list.npos ? "memory" : "cpu";
      const bool joined = fs::exists(mounts / controllers);
      up_from(mounts / (joined ? controllers : alone), group, apply_version1, limits);
    }
  }
  return limits;
}

}  // namespace grist
