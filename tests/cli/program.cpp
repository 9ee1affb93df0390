#include "program.hpp"

#include "support/files.hpp"
#include "support/only_source.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace grist::test {
namespace {

void redirect(const std::string& file, int flags, int descriptor) {
  const int opened = open(file.c_str(), flags, 0600);
  if (opened < 0 || dup2(opened, descriptor) < 0) _exit(126);
  close(opened);
}

int wait_for(pid_t child, int seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(-child, SIGKILL);
      waitpid(child, &status, 0);
      return 124;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Whether a process is left that `mark` was given to in its environment.
bool any_left(const std::string& mark) {
  using std::filesystem::directory_options;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", directory_options::skip_permission_denied)) {
    std::ifstream environment(entry.path() / "environ", std::ios::binary);  // of a process that has just ended: empty
    const std::string all{std::istreambuf_iterator<char>(environment), {}};
    if (all.find(mark) != std::string::npos) return true;
  }
  return false;
}

bool all_gone_soon(const std::string& mark) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (any_left(mark)) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

/// What the program said: Open MPI's mpirun reports a failure of its own, between two lines of dashes.
std::string without_launcher(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  bool launcher = false;
  for (std::string line; std::getline(lines, line);) {
    const bool rule = line.size() > 70 && line.find_first_not_of('-') == std::string::npos;
    if (!rule && !launcher) kept += line + (lines.eof() ? "" : "\n");
    launcher = launcher != rule;
  }
  return kept;
}

}  // namespace

Outcome run_command(const std::vector<std::string>& words, const std::string& input, int seconds) {
  const TemporaryFolder folder;
  const std::string in = folder.write("in", input), out = folder / "out", err = folder / "err";
  const std::string mark = "GRIST_TEST_RUN=" + folder.path().string();
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    setpgid(0, 0);  // so that all it starts can be killed together
    putenv(const_cast<char*>(mark.c_str()));
    redirect(in, O_RDONLY, 0);
    redirect(out, O_WRONLY | O_CREAT, 1);
    redirect(err, O_WRONLY | O_CREAT, 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  Outcome outcome;
  outcome.code = wait_for(child, sanitized ? 10 * seconds : seconds);
  outcome.all_gone = all_gone_soon(mark);
  outcome.out = contents_of(out);
  outcome.err = without_launcher(contents_of(err));
  return outcome;
}

int most_ranks() { return std::string_view(GRIST_MPIEXEC).empty() ? 1 : 2; }

Outcome grist(const std::vector<std::string>& arguments, int ranks, const std::string& input) {
  std::vector<std::string> words;
  if (ranks > 1) words = {GRIST_MPIEXEC, "-n", std::to_string(ranks)};
  words.emplace_back(GRIST_PROGRAM);
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_command(words, input);
}

std::string quiet(const std::vector<std::string>& arguments, int ranks, const std::string& input) {
  const auto outcome = grist::test::grist(arguments, ranks, input);
  EXPECT_EQ(outcome.code, 0) << arguments[0];
  EXPECT_EQ(outcome.err, "") << arguments[0];
  return outcome.out;
}

void copy_model(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  for (const auto& entry : std::filesystem::directory_iterator(to))
    permissions(entry.path(), std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
}

void edit_json(const std::filesystem::path& file, const std::function<void(nlohmann::json&)>& edit) {
  auto json = nlohmann::json::parse(contents_of(file));
  edit(json);
  write_file(file, json.dump());
}

}  // namespace grist::test

int main(int argc, char** argv) {
  // The program chooses its threads itself here, as it does for a user.
  unsetenv("OMP_NUM_THREADS");
  unsetenv("OMP_PROC_BIND");
  testing::InitGoogleMock(&argc, argv);
  grist::test::keep_only_source(argc, argv);
  const int code = RUN_ALL_TESTS();
  const auto& test = *testing::UnitTest::GetInstance();
  return code == 0 && test.skipped_test_count() > 0 ? 77 : code;
}
