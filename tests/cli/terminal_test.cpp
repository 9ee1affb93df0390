// What a terminal brings: Ctrl-C in a conversation, alone and over MPI, and lines of progress.
#include "program.hpp"

#include "support/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <thread>

namespace {

using namespace grist::test;

/// A program on a terminal of its own.
class Terminal {
public:
  explicit Terminal(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    child_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (child_ == 0) {
      execvp(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Terminal() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    close(terminal_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& text) const {
    ASSERT_EQ(write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  /// Reads on until the text since the last call holds `words`; false where that does not come.
  bool shows(const std::string& words, int seconds = sanitized ? 400 : 40) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    for (;;) {
      if (const auto at = unread_.find(words); at != std::string::npos) {
        unread_.erase(0, at + words.size());
        return true;
      }
      if (std::chrono::steady_clock::now() > end || !read_some()) return false;
    }
  }
  /// The same for so many bytes of any text.
  bool shows_more(std::size_t bytes) {
    for (int i = 0; i < 800 && unread_.size() < bytes && read_some(); ++i) {
    }
    return unread_.size() >= bytes;
  }

  /// The exit code, 128 + signal, or -1 where it does not end.
  int ends() {
    int status = 0;
    for (int i = 0; i < 2000; ++i) {
      read_some();  // an unread terminal blocks the program
      if (waitpid(child_, &status, WNOHANG) == child_) {
        child_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return -1;
  }

private:
  /// Waits a moment for text; false where the terminal is closed.
  bool read_some() {
    pollfd ready{terminal_, POLLIN, 0};
    if (poll(&ready, 1, 50) <= 0) return true;
    std::array<char, 4096> bytes{};
    const auto count = read(terminal_, bytes.data(), bytes.size());
    if (count > 0) unread_.append(bytes.data(), static_cast<std::size_t>(count));
    return count > 0;
  }

  pid_t child_ = 0;
  int terminal_ = -1;
  std::string unread_;
};

/// A tiny model whose answers have no end.
class LongAnswers : public testing::Test {
protected:
  void SetUp() override {
    copy_model(tiny(), model);
    edit_json(model / "config.json", [](auto& config) {
      config["max_position_embeddings"] = 100000;
      config["eos_token_id"] = nullptr;
    });
    std::filesystem::remove(model / "generation_config.json");
    edit_json(model / "tokenizer_config.json", [](auto& config) { config.erase("eos_token"); });
    write_file(model / "chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  }
  [[nodiscard]] std::vector<std::string> chat(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {GRIST_PROGRAM,      "chat",  "--model", model, "--context", "100000",
                                      "--max-new-tokens", "90000", "--dtype", "f32"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  TemporaryFolder folder;
  std::filesystem::path model = folder.path() / "model";
};

TEST_F(LongAnswers, EndWithCtrlCAndTheChatGoesOn) {
  Terminal terminal(chat());
  ASSERT_TRUE(terminal.shows("> "));
  for (int i = 0; i < 2; ++i) {
    terminal.type("hello\n");
    ASSERT_TRUE(terminal.shows("hello\r\n"));
    ASSERT_TRUE(terminal.shows_more(20));
    terminal.type("\x03");
    ASSERT_TRUE(terminal.shows("\n> ")) << i;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // nobody is so quick as to be before the read
  terminal.type("\x03");  // at the prompt
  EXPECT_EQ(terminal.ends(), 0);
}

TEST_F(LongAnswers, EndOnAllRanksWhereOneIsInterrupted) {
  auto words = chat({"--tp", "2"});
  std::string command = "echo $$ > " + (folder / "pid").string() + ".${PMI_RANK:-$OMPI_COMM_WORLD_RANK}; exec";
  for (const auto& word : words) command += " '" + word + "'";
  std::vector<std::string> launch = {GRIST_MPIEXEC};
  if (told_by_info("Open MPI"))  // its mpirun keeps back lines until they end
    launch.insert(launch.end(), {"--stream-buffering", "0"});
  launch.insert(launch.end(), {"-n", "2", "bash", "-c", command});
  Terminal terminal(launch);
  terminal.type("hello\n");
  ASSERT_TRUE(terminal.shows("hello\r\n"));
  ASSERT_TRUE(terminal.shows_more(200));
  const auto pid = std::stoi(contents_of(folder / "pid.1"));
  ASSERT_EQ(kill(pid, SIGINT), 0);
  terminal.type("/exit\n");
  EXPECT_EQ(terminal.ends(), 0);
}

TEST(Progress, OfPromptsIsShownOnATerminalAlone) {
  const std::string command = std::string(GRIST_PROGRAM) + " generate --model " + tiny() +
                              " --prompt a --prompt b --prompt c --max-new-tokens 8 >/dev/null";
  Terminal terminal({"bash", "-c", command});
  EXPECT_TRUE(terminal.shows("prompts done ["));
  EXPECT_TRUE(terminal.shows("100 %"));
  EXPECT_EQ(terminal.ends(), 0);
  EXPECT_EQ(run_command({"bash", "-c", command}).err, "");
}

TEST(Progress, OfWindowsIsShownOnATerminalWithTheTimeLeft) {
  const std::string text = contents_of(data_file("text/sample.txt"));
  const TemporaryFolder folder;
  std::string long_text;
  while (long_text.size() < 2'000'000) long_text += text;
  Terminal terminal({GRIST_PROGRAM, "perplexity", "--model", tiny(), "--threads", "1", "--context", "16",
                     "--windows", "6000", "--file", folder.write("text.txt", long_text)});
  EXPECT_TRUE(terminal.shows("scored ["));
  EXPECT_TRUE(terminal.shows(" tok/s, 0:00:"));
  EXPECT_TRUE(terminal.shows("grist: note: 6000 windows scored, 96000 tokens, "));
  EXPECT_TRUE(terminal.shows("perplexity "));
  EXPECT_EQ(terminal.ends(), 0);
}

TEST(Progress, OfAFileOfPromptsEndsWithTheTokensOfAll) {
  const TemporaryFolder folder;
  std::string prompts;
  for (const int tokens : {5, 30, 7})
    prompts += R"({"prompt_ids": [5, 6], "ignore_eos": true, "max_new_tokens": )" + std::to_string(tokens) + "}\n";
  Terminal terminal({GRIST_PROGRAM, "generate", "--model", tiny(), "--prompts",
                     folder.write("prompts.jsonl", prompts), "--output", folder / "answers.jsonl"});
  EXPECT_TRUE(terminal.shows("grist: note: 3 prompts answered, 42 tokens, "));
  EXPECT_EQ(terminal.ends(), 0);
}

TEST(Progress, OfTokenizingIsShownOnATerminal) {
  const TemporaryFolder folder;
  const std::string file = folder.write("a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
  Terminal terminal({GRIST_PROGRAM, "tokenize", "--model", tiny(), "--file", file, "--output",
                     folder / "a.tokens"});
  EXPECT_TRUE(terminal.shows("tokenizing ["));
  EXPECT_TRUE(terminal.shows("100 %"));
  EXPECT_TRUE(terminal.shows("a.tokens: 2 documents"));
  EXPECT_EQ(terminal.ends(), 0);
}

}  // namespace
