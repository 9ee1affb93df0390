// What the control groups of this process grant it: batch systems and containers set limits there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>

namespace grist {

/// The lowest limits on the way from this process' group up to the root, of versions 1 and 2.
struct ControlGroupLimits {
  static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t memory = none;     // bytes
  std::uint64_t available = none;  // bytes free in the group that has the least
  int processors = std::numeric_limits<int>::max();  // whole ones, at least 1
};

/// `root`: where the file system with /proc and /sys begins.
ControlGroupLimits control_group_limits(const std::filesystem::path& root = "/");

}  // namespace grist
