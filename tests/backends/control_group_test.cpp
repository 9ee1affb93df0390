// Limits of control groups, in trees as batch systems and containers make them.
#include "support/files.hpp"

#include <grist/backends/portable/control_group.hpp>

#include <gtest/gtest.h>

namespace {

using namespace grist;
using grist::test::TemporaryFolder;

/// A file system that holds nothing but these files.
struct Tree {
  explicit Tree(const std::vector<std::pair<std::string, std::string>>& files) {
    for (const auto& [name, text] : files) {
      std::filesystem::create_directories((folder.path() / name).parent_path());
      folder.write(name, text);
    }
  }
  [[nodiscard]] ControlGroupLimits limits() const { return control_group_limits(folder.path()); }
  TemporaryFolder folder;
};

constexpr auto none = ControlGroupLimits::none;

TEST(ControlGroups, NoGroupIsNoLimit) {
  const auto limits = Tree({}).limits();
  EXPECT_EQ(limits.memory, none);
  EXPECT_EQ(limits.available, none);
  EXPECT_GT(limits.processors, 1 << 20);
}

TEST(ControlGroups, OfVersion2LimitMemoryInAnyGroupAbove) {
  const auto limits = Tree({{"proc/self/cgroup", "0::/job/step\n"},
                            {"sys/fs/cgroup/job/step/memory.max", "max\n"},
                            {"sys/fs/cgroup/job/memory.max", "1000\n"},
                            {"sys/fs/cgroup/job/memory.current", "700\n"},
                            {"sys/fs/cgroup/job/memory.stat", "anon 5\ninactive_file 100\n"}})
                          .limits();
  EXPECT_EQ(limits.memory, 1000U);
  EXPECT_EQ(limits.available, 400U);
}

TEST(ControlGroups, OfVersion2LimitProcessorsInAnyGroupAbove) {
  const auto limits = Tree({{"proc/self/cgroup", "0::/job/step\n"},
                            {"sys/fs/cgroup/cpu.max", "max 100000\n"},
                            {"sys/fs/cgroup/job/cpu.max", "350000 100000\n"},
                            {"sys/fs/cgroup/job/step/cpu.max", "800000 100000\n"}})
                          .limits();
  EXPECT_EQ(limits.processors, 3);
}

TEST(ControlGroups, OfVersion1LimitMemory) {
  const auto limits =
      Tree({{"proc/self/cgroup", "4:memory:/slurm/job_7\n1:cpu:/\n0::/\n"},
            {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
            {"sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", "5000\n"},
            {"sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", "3000\n"},
            {"sys/fs/cgroup/memory/slurm/job_7/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n"}})
          .limits();
  EXPECT_EQ(limits.memory, 5000U);
  EXPECT_EQ(limits.available, 2500U);
}

TEST(ControlGroups, OfVersion1LimitProcessorsUnderEitherName) {
  for (const std::string mount : {"cpu,cpuacct", "cpu"}) {
    const auto limits = Tree({{"proc/self/cgroup", "3:cpu,cpuacct:/job\n"},
                              {"sys/fs/cgroup/" + mount + "/cpu.cfs_quota_us", "-1\n"},
                              {"sys/fs/cgroup/" + mount + "/cpu.cfs_period_us", "100000\n"},
                              {"sys/fs/cgroup/" + mount + "/job/cpu.cfs_quota_us", "250000\n"},
                              {"sys/fs/cgroup/" + mount + "/job/cpu.cfs_period_us", "100000\n"}})
                            .limits();
    EXPECT_EQ(limits.processors, 2) << mount;
  }
}

TEST(ControlGroups, AContainerNamesAGroupThatItDoesNotSee) {
  const auto limits = Tree({{"proc/self/cgroup", "4:memory:/docker/1234\n"},
                            {"sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"},
                            {"sys/fs/cgroup/memory/memory.usage_in_bytes", "96\n"}})
                          .limits();
  EXPECT_EQ(limits.memory, 4096U);
  EXPECT_EQ(limits.available, 4000U);
}

TEST(ControlGroups, LessThanOneProcessorIsOne) {
  EXPECT_EQ(Tree({{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "50000 100000\n"}}).limits().processors, 1);
}

}  // namespace
