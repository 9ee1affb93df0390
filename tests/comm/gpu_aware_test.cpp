// Whether device memory is handed to MPI: what MPI says of itself, and the user's word.
#include <grist/comm/communicator.hpp>
#include <grist/comm/gpu_aware.hpp>

#include <support/refuses.hpp>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

namespace {

using namespace grist;

int yes() { return 1; }
int no() { return 0; }

/// An MPI that has these functions and no other.
SymbolLookup mpi_with(std::map<std::string, int (*)()> functions) {
  return [functions](const char* name) {
    const auto found = functions.find(name);
    return found == functions.end() ? nullptr : reinterpret_cast<void*>(found->second);
  };
}

/// A variable of the environment for the length of a test.
class Variable {
public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

private:
  const char* name_;
  std::optional<std::string> before_;
};

/// Without what the user's machine says.
struct GpuAware : testing::Test {
  Variable cray{"MPICH_GPU_SUPPORT_ENABLED", nullptr}, forced{"GRIST_GPU_AWARE_MPI", nullptr};
};

TEST_F(GpuAware, MpiIsAskedAboutTheDeviceAtHand) {
  const auto cuda = mpi_with({{"MPIX_Query_cuda_support", yes}, {"MPIX_Query_rocm_support", no}});
  EXPECT_TRUE(mpi_takes_memory_of("Cuda", cuda));
  EXPECT_FALSE(mpi_takes_memory_of("HIP", cuda));
}

TEST_F(GpuAware, BothNamesOfTheQuestionForAmdAreKnown) {
  EXPECT_TRUE(mpi_takes_memory_of("HIP", mpi_with({{"MPIX_Query_rocm_support", yes}})));  // Open MPI's
  EXPECT_TRUE(mpi_takes_memory_of("HIP", mpi_with({{"MPIX_Query_hip_support", yes}})));   // MPICH's
  EXPECT_FALSE(mpi_takes_memory_of("HIP", mpi_with({{"MPIX_Query_hip_support", no}})));
}

TEST_F(GpuAware, AnMpiThatSaysNothingIsNot) { EXPECT_FALSE(mpi_takes_memory_of("Cuda", mpi_with({}))); }

TEST_F(GpuAware, CrayMpichTellsByItsVariable) {
  {
    const Variable on("MPICH_GPU_SUPPORT_ENABLED", "1");
    EXPECT_TRUE(mpi_takes_memory_of("HIP", mpi_with({})));
  }
  const Variable off("MPICH_GPU_SUPPORT_ENABLED", "0");
  EXPECT_FALSE(mpi_takes_memory_of("HIP", mpi_with({})));
}

TEST_F(GpuAware, TheUserHasTheLastWord) {
  {
    const Variable off("GRIST_GPU_AWARE_MPI", "off");
    EXPECT_FALSE(gpu_aware_mpi());
    EXPECT_FALSE(Communicator(MPI_COMM_WORLD).direct());
  }
  {
    const Variable on("GRIST_GPU_AWARE_MPI", "on");
    EXPECT_TRUE(gpu_aware_mpi());
    EXPECT_TRUE(Communicator(MPI_COMM_WORLD).split(0, 0).direct());
  }
  const Variable wrong("GRIST_GPU_AWARE_MPI", "maybe");
  EXPECT_THAT(gpu_aware_mpi, test::Refuses<UsageError>({"GRIST_GPU_AWARE_MPI", "maybe", "on", "off"}));
}

}  // namespace
