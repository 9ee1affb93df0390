// The program as launchers and OpenMP's variables start it.
#include "program.hpp"

#include "support/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <thread>

namespace {

using namespace grist::test;
using testing::HasSubstr;
using testing::StartsWith;

/// `grist ARGUMENTS` with these variables, on so many ranks.
Outcome with(const std::vector<std::string>& variables, const std::vector<std::string>& arguments, int ranks = 1) {
  std::vector<std::string> words = {"env"};
  words.insert(words.end(), variables.begin(), variables.end());
  if (ranks > 1) words.insert(words.end(), {GRIST_MPIEXEC, "-n", std::to_string(ranks)});
  words.emplace_back(GRIST_PROGRAM);
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_command(words);
}

/// The lines of `grist info` that tell of the ranks' processors.
std::vector<std::string> processors_of(const std::string& info) {
  std::istringstream in(info);
  std::vector<std::string> found;
  const std::string words = "its threads run on ";
  for (std::string line; std::getline(in, line);)
    if (const auto at = line.find(words); at != std::string::npos) found.push_back(line.substr(at + words.size()));
  return found;
}

/// UCX's hooks into functions of memory cost 0.4 s at each start, and serve devices.
TEST(Start, LeavesOutUcxHooksWhereNoDeviceNeedsThemAndTheUserDoesNotSay) {
  const auto hooks = [](const std::vector<std::string>& variables) {
    std::vector<std::string> all{"-u", "UCX_MEM_EVENTS", "UCX_MEM_LOG_LEVEL=debug"};
    all.insert(all.end(), variables.begin(), variables.end());
    return with(all, {"--version"}).out.find("hook for munmap") != std::string::npos;
  };
  if (!hooks({"UCX_MEM_EVENTS=y"})) GTEST_SKIP() << "MPI does not use UCX, or not at once";
  EXPECT_FALSE(hooks({"UCX_MEM_EVENTS=n"}));
  const auto there = [](const std::string& path) {
    return std::filesystem::exists(path) && (!path.starts_with("/sys") || !std::filesystem::is_empty(path));
  };
  const std::vector<std::string> devices{"/sys/class/infiniband", "/dev/xpmem", "/dev/knem", "/dev/nvidiactl",
                                         "/dev/kfd"};
  const bool device = std::ranges::any_of(devices, there);
  EXPECT_EQ(hooks({}), device);
}

/// Their libraries look for devices at each start.
TEST(Start, LoadsNoModulesOfGpusWhereNoKernelRunsOnOne) {
  const auto loads = [](std::vector<std::string> variables) {
    variables.insert(variables.begin(), {"-u", "UCX_MODULES", "LD_DEBUG=files"});
    return with(variables, {"info"}).err.find("libuct_rocm") != std::string::npos;
  };
  if (GRIST_ON_DEVICE) GTEST_SKIP() << "kernels run on a GPU";
  if (!loads({"UCX_MODULES=all"})) GTEST_SKIP() << "MPI does not use UCX, or not with such modules";
  EXPECT_FALSE(loads({}));
}

TEST(BatchTask, SpeaksWhateverItsNumber) {
  const auto alone = quiet({"tokenize", "--model", tiny(), "--text", "hello"});
  for (const std::string variable : {"SLURM_PROCID=1", "PMI_RANK=1", "OMPI_COMM_WORLD_RANK=1", "PALS_RANKID=1"}) {
    EXPECT_EQ(with({variable}, {"tokenize", "--model", tiny(), "--text", "hello"}).out, alone) << variable;
    const auto missing = with({variable}, {"tokenize", "--model", "/nowhere", "--text", "hello"});
    EXPECT_EQ(missing.code, 3);
    EXPECT_THAT(missing.err, HasSubstr("/nowhere"));
  }
  const auto usage = with({"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=2"}, {"generate", "--modle", "x"});
  EXPECT_EQ(usage.code, 2);
  EXPECT_THAT(usage.err, HasSubstr("did you mean --model"));
  EXPECT_NE(with({"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=2"}, {"--version"}).out, "");
}

TEST(BatchTask, OfMpirunDoesItsOwnPart) {
  const auto outcome =
      run_command({GRIST_MPIEXEC, "-n", "2", "bash", "-c",
                   "part=$((1 + ${PMI_RANK:-$OMPI_COMM_WORLD_RANK})); exec " + std::string(GRIST_PROGRAM) +
                       " tokenize --json --model " + tiny() + " --text \"$(printf 'ab%.0s' $(seq $part))\""});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(std::ranges::count(outcome.out, '\n'), 2) << outcome.out;
}

TEST(BatchTask, ThatIsMistypedEndsAlone) {
  const std::string part = "if [ ${PMI_RANK:-$OMPI_COMM_WORLD_RANK} = 1 ]; then exec " + std::string(GRIST_PROGRAM);
  for (const std::string words : {"tokenize --nonsense", "tokenise --text a"}) {
    const auto outcome =
        run_command({GRIST_MPIEXEC, "-n", "2", "bash", "-c", part + " " + words + "; else sleep 1; fi"}, "", 20);
    EXPECT_EQ(outcome.code, 2) << words;
    EXPECT_THAT(outcome.err, HasSubstr("grist: error: unknown")) << words;
  }
}

TEST(Launcher, ThatMpiDoesNotKnowIsTold) {
  const std::vector<std::string> generate = {"generate", "--model", tiny(), "--prompt", "a", "--max-new-tokens", "2"};
  const auto first = with({"SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=4"}, generate);
  EXPECT_EQ(first.code, 0);
  EXPECT_THAT(first.err, StartsWith("grist: note: the launcher started 4 processes, but MPI joins none of them"));
  EXPECT_THAT(first.err, HasSubstr("This program is built with"));
  EXPECT_EQ(with({"SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4"}, generate).err, "") << "one of them tells it";
  for (const std::string rank : {"MV2_COMM_WORLD_RANK", "MVP_COMM_WORLD_RANK", "FLUX_TASK_RANK"}) {
    const std::string size = rank == "FLUX_TASK_RANK" ? "FLUX_JOB_SIZE" : rank.substr(0, 15) + "SIZE";
    EXPECT_THAT(with({rank + "=0", size + "=3"}, generate).err,
                StartsWith("grist: note: the launcher started 3 processes"))
        << rank;
    EXPECT_EQ(with({rank + "=2", size + "=3"}, generate).err, "") << rank;
  }
  EXPECT_EQ(with({"SLURM_PROCID=0", "SLURM_NTASKS=4"}, generate).err, "") << "a batch script sees its job's size too";
}

TEST(Threads, ThatOpenMpDoesNotGiveAreNotWaitedFor) {
  const auto expected =
      quiet({"generate", "--model", tiny(), "--prompt", "a", "--max-new-tokens", "4", "--dtype", "f32"});
  for (const std::string variable : {"OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_MAX_ACTIVE_LEVELS=0"}) {
    const auto outcome = with({variable, "OMP_NUM_THREADS=4"}, {"generate", "--model", tiny(), "--prompt", "a",
                                                                "--dtype", "f32", "--max-new-tokens", "4"});
    EXPECT_EQ(outcome.code, 0) << variable;
    EXPECT_EQ(outcome.out, expected) << variable;
    if (!outcome.err.empty()) {
      EXPECT_THAT(outcome.err, StartsWith("grist: note: OpenMP gives 1 of 4 threads"));
      EXPECT_NE(variable, "OMP_DYNAMIC=true");
    }
  }
}

TEST(Threads, AreAsManyWhereOpenMpBindsThem) {
  const std::vector<std::string> bound = {"OMP_PROC_BIND=spread", "OMP_PLACES=threads"};
  for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
    const auto ranks_row = [](const std::string& info) { return info.substr(info.find("ranks "), 40); };
    const auto free = with({}, {"info"}, ranks), fixed = with(bound, {"info"}, ranks);
    EXPECT_EQ(fixed.code, 0) << fixed.err;
    EXPECT_EQ(ranks_row(fixed.out).substr(0, 30), ranks_row(free.out).substr(0, 30));
  }
}

TEST(Threads, OfTwoRanksThatOpenMpBindsRunApart) {
  const auto found = processors_of(with({"OMP_PROC_BIND=spread", "OMP_PLACES=threads"}, {"info"}, 2).out);
  if (found.empty()) GTEST_SKIP() << "this build has one thread";
  ASSERT_EQ(found.size(), 2U);
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "this machine has one processor";
  EXPECT_NE(found[0], found[1]);
}

}  // namespace
