#include "program.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace grist::test {
namespace {

std::string read_file(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

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

}  // namespace

Outcome run_command(const std::vector<std::string>& words, const std::string& input, int seconds) {
  const Folder folder;
  const std::string in = folder.write("in", input), out = folder.file("out"), err = folder.file("err");
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    setpgid(0, 0);  // so that all it starts can be killed together
    redirect(in, O_RDONLY, 0);
    redirect(out, O_WRONLY | O_CREAT, 1);
    redirect(err, O_WRONLY | O_CREAT, 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  Outcome outcome;
  outcome.code = wait_for(child, seconds);
  outcome.out = read_file(out);
  outcome.err = read_file(err);
  return outcome;
}

Outcome grist(const std::vector<std::string>& arguments, int ranks, const std::string& input) {
  std::vector<std::string> words;
  if (ranks > 1) words = {GRIST_MPIEXEC, "-n", std::to_string(ranks)};
  words.emplace_back(GRIST_PROGRAM);
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_command(words, input);
}

Folder::Folder() {
  path_ = testing::TempDir() + "/grist_cli_XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no temporary folder");
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Folder::write(const std::string& name, const std::string& text) const {
  std::ofstream(file(name), std::ios::binary) << text;
  return file(name);
}

}  // namespace grist::test

int main(int argc, char** argv) {
  // The program chooses its threads itself here, as it does for a user.
  unsetenv("OMP_NUM_THREADS");
  unsetenv("OMP_PROC_BIND");
  testing::InitGoogleMock(&argc, argv);
  const int code = RUN_ALL_TESTS();
  const auto& test = *testing::UnitTest::GetInstance();
  return code == 0 && test.skipped_test_count() > 0 && test.successful_test_count() == 0 ? 77 : code;
}
