// Each verb does what its help says, alone and over MPI, and says nothing else.
#include "program.hpp"

#include "support/golden.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <sstream>
#include <thread>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Help, TeachesEveryVerb) {
  EXPECT_THAT(quiet({"--help"}), AllOf(HasSubstr("generate"), HasSubstr("Exit codes")));
  EXPECT_THAT(quiet({"--version"}), StartsWith("grist 0."));
  for (const std::string verb : {"generate", "chat", "perplexity", "evaluate", "tokenize", "init", "info", "train",
                                 "convert", "inspect", "plot", "vocabulary", "bench", "report"})
    EXPECT_THAT(quiet({verb, "--help"}), HasSubstr("--help")) << verb;
  EXPECT_THAT(quiet({"generate", "--help"}, most_ranks()), HasSubstr("--temperature"));
}

TEST(Generate, GivesTheGoldenTokensAtEveryLayout) {
  const auto golden = read_golden("llama2")[1];
  std::string prompt;
  for (const int id : golden.ids) prompt += (prompt.empty() ? "" : ",") + std::to_string(id);
  for (const auto& [tp, pp] : std::vector<std::pair<int, int>>{{1, 1}, {2, 1}, {1, 2}}) {
    if (tp * pp > most_ranks()) continue;
    const auto out = quiet({"generate", "--model", tiny(), "--prompt-ids", prompt, "--max-new-tokens", "12",
                            "--json", "--dtype", "f32", "--tp", std::to_string(tp), "--pp", std::to_string(pp)},
                           tp * pp);
    const auto json = nlohmann::json::parse(out);
    EXPECT_EQ(json.at("prompt_ids").get<std::vector<int>>(), golden.ids);
    EXPECT_EQ(json.at("new_ids").get<std::vector<int>>(), golden.greedy_ids);
    EXPECT_EQ(json.at("finish"), "length");
    EXPECT_TRUE(json.at("timings").contains("decode_tokens_per_second"));
  }
}

TEST(Generate, AnEmptyPromptIsBosAlone) {
  const auto out = quiet({"generate", "--model", tiny(), "--prompt", "", "--max-new-tokens", "2", "--json"});
  EXPECT_EQ(nlohmann::json::parse(out).at("prompt_ids"), nlohmann::json::array({1}));
}

TEST(Generate, SeveralPromptsGiveALineEach) {
  const auto out = quiet({"generate", "--model", tiny("llama31"), "--prompt", "ab", "--prompt", "the cat sat",
                          "--max-new-tokens", "3", "--json"});
  EXPECT_EQ(std::ranges::count(out, '\n'), 2);
}

TEST(Generate, TheSameSeedGivesTheSameTextAtAnyLayout) {
  const std::vector<std::string> arguments = {
      "generate", "--model", tiny(), "--prompt",         "hello", "--dtype", "f32", "--temperature",
      "0.9",      "--top-k", "50",           "--max-new-tokens", "16"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), arguments.begin(), arguments.end());
    return more;
  };
  const auto one = quiet(with({"--seed", "5"}));
  EXPECT_EQ(one, quiet(with({"--seed", "5"})));
  const auto most = std::to_string(most_ranks());
  EXPECT_EQ(one, quiet(with({"--seed", "5", "--tp", most}), most_ranks()));
  EXPECT_NE(one, quiet(with({"--seed", "6"})));
}

TEST(Generate, PutsTheSameLinesInAFile) {
  const TemporaryFolder folder;
  const auto text = quiet({"generate", "--model", tiny(), "--prompt", "hello", "--max-new-tokens", "4",
                           "--json-file", folder / "lines"});
  const auto json = nlohmann::json::parse(contents_of(folder / "lines"));
  EXPECT_EQ(json.at("text").get<std::string>() + "\n", text);
}

TEST(Generate, FailsWhereItsOutputCannotBeWritten) {
  const std::vector<std::string> generate = {GRIST_PROGRAM, "generate", "--model", tiny(), "--prompt", "hello",
                                             "--max-new-tokens", "4"};
  std::string command = "exec";
  for (const auto& word : generate) command += " '" + word + "'";
  const auto full = run_command({"sh", "-c", command + " >/dev/full"});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.err, StartsWith("grist: error: stdout: not all could be written"));
  const auto file = run_command({"sh", "-c", command + " --json-file /dev/full"});
  EXPECT_EQ(file.code, 1);
  EXPECT_THAT(file.err, StartsWith("grist: error: /dev/full: cannot be written"));
}

TEST(Tokenize, GivesIdsAndTheTextBack) {
  const auto ids = quiet({"tokenize", "--model", tiny(), "--text", "hello world", "--no-special", "--json"});
  std::string list;
  for (const int id : nlohmann::json::parse(ids).get<std::vector<int>>())
    list += (list.empty() ? "" : ",") + std::to_string(id);
  EXPECT_EQ(quiet({"tokenize", "--model", tiny(), "--ids", list}), "hello world\n");
}

TEST(Init, MakesAModelThatRunsTheSameWhoeverMakesIt) {
  const TemporaryFolder folder;
  const auto config = std::string(GRIST_SOURCE_DIR) + "/examples/tiny_llama/config.json";
  const auto make = [&](const std::string& name, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"init", "--config", config, "--out", folder / name});
    const auto outcome = grist::test::grist(more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return contents_of(folder / name / "model.safetensors");
  };
  const auto first = make("a");
  EXPECT_FALSE(first.empty());
  EXPECT_EQ(first, make("b"));
  EXPECT_NE(first, make("c", {"--seed", "1"}));
  EXPECT_EQ(
      quiet({"generate", "--model", folder / "a", "--prompt-ids", "1,2", "--max-new-tokens", "5", "--json"}).empty(),
      false);
}

TEST(Generate, AnswersWithIdsWhereThereIsNoTokenizer) {
  const TemporaryFolder folder;
  const auto model = (folder / "model").string();
  const auto config = std::string(GRIST_SOURCE_DIR) + "/examples/tiny_llama/config.json";
  ASSERT_EQ(grist::test::grist({"init", "--config", config, "--out", model}).code, 0);
  const auto answer = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", "--model", model, "--max-new-tokens", "3", "--ignore-eos", "--prompt-ids"});
    return quiet(more);
  };
  const auto ids_of = [&](const std::string& prompt) {
    const auto json = nlohmann::json::parse(answer({prompt, "--json"}));
    const auto ids = json.at("new_ids").get<std::vector<int>>();
    return std::format("{},{},{}\n", ids.at(0), ids.at(1), ids.at(2));
  };
  EXPECT_EQ(answer({"1,2"}), ids_of("1,2"));
  EXPECT_EQ(answer({"1,2", "--prompt-ids", "3"}), "== prompt 0\n" + ids_of("1,2") + "== prompt 1\n" + ids_of("3"));
}

TEST(Info, TellsOfBuildAndModel) {
  EXPECT_THAT(quiet({"info"}), AllOf(HasSubstr("version"), HasSubstr("gemm"), HasSubstr("mpi"), HasSubstr("threads")));
  EXPECT_THAT(quiet({"info", "--model", tiny()}),
              AllOf(HasSubstr("llama"), HasSubstr("parameters"), HasSubstr("KV cache")));
}

TEST(Info, RanksTimesThreadsFitTheCores) {
  const auto cores = std::thread::hardware_concurrency();
  const auto out = quiet({"info"}, 2);
  const auto at = out.find("2 with ");
  ASSERT_NE(at, std::string::npos) << out;
  EXPECT_LE(2 * std::stoi(out.substr(at + 7)), std::max(2U, cores));
}

TEST(Chat, KeepsItsHistory) {
  if (!std::filesystem::exists(smollm2_file())) GTEST_SKIP() << "no " << smollm2_file();
  const std::vector<std::string> arguments = {"chat",    "--model", smollm2_file().string(), "--max-new-tokens", "24",
                                              "--dtype", "f32"};
  const auto two = quiet(arguments, 1, "My name is Ada.\nWhat is my name?\n");
  EXPECT_THAT(two, HasSubstr("Ada"));
  // After /reset nothing of it is known: the answer is that of a new conversation.
  const auto fresh = quiet(arguments, 1, "What is my name?\n");
  const auto reset = quiet(arguments, 1, "My name is Ada.\n/reset\nWhat is my name?\n");
  EXPECT_TRUE(reset.ends_with(fresh));
  EXPECT_FALSE(two.ends_with(fresh));
}

TEST(Chat, IsTheSameOverSeveralRanks) {
  if (!std::filesystem::exists(smollm2_file())) GTEST_SKIP() << "no " << smollm2_file();
  const auto chat = [](const std::string& layout, int ranks) {
    return quiet({"chat", "--model", smollm2_file().string(), "--max-new-tokens", "8", "--dtype", "f32", layout,
                  std::to_string(ranks)}, ranks, "My name is Ada.\nWhat is my name?\n");
  };
  const auto alone = chat("--tp", 1);
  EXPECT_EQ(chat("--tp", 2), alone);
  EXPECT_EQ(chat("--pp", 2), alone);
}

TEST(Generate, ReadsAPromptFromStdinOnTheFirstRank) {
  const std::vector<std::string> arguments = {"generate",   "--model", tiny(), "--prompt-file",
                                              "/dev/stdin", "--dtype", "f32",          "--max-new-tokens",
                                              "4",          "--json"};
  auto two = arguments;
  two.insert(two.end(), {"--tp", "2"});
  const auto ids = [](const std::string& line) { return nlohmann::json::parse(line).at("new_ids"); };
  EXPECT_EQ(ids(quiet(two, 2, "hello world")), ids(quiet(arguments, 1, "hello world")));
}

}  // namespace
