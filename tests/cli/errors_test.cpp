// What cannot be done ends with one line that names the thing, what was expected and what was found, the design's exit
// code, and no rank left behind.
#include "program.hpp"

#include "support/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// A copy of a tiny model that a test spoils.
class SpoiltModel : public testing::Test {
protected:
  void SetUp() override {
    copy_model(tiny(), folder.path());
  }

  void edit_config(const std::function<void(nlohmann::json&)>& edit) const {
    edit_json(folder / "config.json", edit);
  }

  /// Rewrites the header of model.safetensors; the data stays.
  void edit_header(const std::function<void(nlohmann::json&)>& edit) const {
    const std::string bytes = contents_of(folder / "model.safetensors");
    std::uint64_t length = 0;
    std::copy_n(bytes.data(), sizeof length, reinterpret_cast<char*>(&length));
    auto header = nlohmann::json::parse(bytes.substr(8, length));
    edit(header);
    std::string text = header.dump();
    const std::uint64_t size = text.size();
    folder.write("model.safetensors", bytes_of(size) + text + bytes.substr(8 + length));
  }

  /// On one rank and on two: the code, one line that says all of `words`, nothing on stdout.
  void expect_error(int code, const std::vector<std::string>& words,
                    std::vector<std::string> more = {"--prompt-ids", "1,2,3", "--max-new-tokens", "3"}) {
    more.insert(more.begin(), {"generate", "--model", folder.path()});
    for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks");
      auto arguments = more;
      if (ranks > 1 && std::ranges::find(more, "--tp") == more.end()) arguments.insert(arguments.end(), {"--tp", "2"});
      expect_one_line(grist::test::grist(arguments, ranks), code, words);
    }
  }

  static void expect_one_line(const Outcome& outcome, int code, const std::vector<std::string>& words) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, StartsWith("grist: error: "));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.all_gone);
    for (const auto& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
  }

  TemporaryFolder folder;
};

TEST_F(SpoiltModel, IsFineUntilItIsSpoilt) {
  for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
    const auto outcome = grist::test::grist({"generate", "--model", folder.path(), "--prompt-ids", "1,2,3",
                                             "--max-new-tokens", "3", "--tp", std::to_string(ranks)}, ranks);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(SpoiltModel, MissingFolder) {
  std::filesystem::remove_all(folder.path());
  expect_error(3, {folder.path().string(), "no such model"});
}

TEST_F(SpoiltModel, MissingWeights) {
  std::filesystem::remove(folder / "model.safetensors");
  expect_error(3, {"model.safetensors"});
}

TEST_F(SpoiltModel, MissingConfig) {
  std::filesystem::remove(folder / "config.json");
  expect_error(3, {"config.json"});
}

TEST_F(SpoiltModel, TruncatedWeights) {
  std::filesystem::resize_file(folder / "model.safetensors", 100000);
  expect_error(3, {"model.safetensors", "truncated", "the file has 96944"});
}

TEST_F(SpoiltModel, TruncatedGguf) {
  const auto file = folder / "model.gguf";
  std::filesystem::copy(data_file("gguf/llama2.gguf"), file);
  std::filesystem::permissions(file, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  for (const int size : {0, 3, 20, 4000, 60000}) {
    std::filesystem::resize_file(file, static_cast<std::uintmax_t>(size));
    expect_one_line(grist::test::grist({"generate", "--model", file, "--prompt-ids", "1"}), 3, {file});
    std::filesystem::copy(data_file("gguf/llama2.gguf"), file, std::filesystem::copy_options::overwrite_existing);
  }
}

TEST_F(SpoiltModel, WrongShape) {
  edit_config([](auto& config) { config["intermediate_size"] = config["intermediate_size"].template get<int>() + 16; });
  expect_error(3, {"model.safetensors", "mlp.gate_proj.weight", "has shape [96, 64], the config wants [112, 64]"});
}

TEST_F(SpoiltModel, WrongDtype) {
  edit_header([](auto& header) { header["model.norm.weight"]["dtype"] = "I16"; });
  expect_error(3, {"model.safetensors", "model.norm.weight", "I16", "F32, F16 or BF16"});
}

TEST_F(SpoiltModel, MissingTensor) {
  edit_header([](auto& header) {
    header["model.norm.bias"] = header["model.norm.weight"];
    header.erase("model.norm.weight");
  });
  expect_error(3, {"model.norm.weight"});
}

TEST_F(SpoiltModel, NameWithANewlineStaysInOneLine) {
  edit_config([](auto& config) { config["logit\n\x1b[31msoftcapping"] = 30; });
  expect_error(3, {R"(logit\x0a\x1b[31msoftcapping)"});
}

TEST_F(SpoiltModel, TensorThatNobodyKnows) {
  edit_header([](auto& header) {
    const auto end = header["model.norm.weight"]["data_offsets"][1];  // a tensor without elements may lie anywhere
    header["model.layers.0.self_attn.q_norm.weight"] = {{"dtype", "F16"}, {"shape", {0}}, {"data_offsets", {end, end}}};
  });
  expect_error(3, {"that this model does not use", "'model.layers.0.self_attn.q_norm.weight'"});
}

TEST_F(SpoiltModel, UnknownArchitecture) {
  edit_config([](auto& config) { config["architectures"] = {"MptForCausalLM"}; });
  expect_error(3, {"config.json", "MptForCausalLM", "LlamaForCausalLM"});
}

TEST_F(SpoiltModel, UnknownKeysAreListedTogether) {
  edit_config([](auto& config) { config["logit_softcapping"] = 30; config["parallel_residual"] = true; });
  expect_error(3, {"config.json", "logit_softcapping", "parallel_residual"});
}

TEST_F(SpoiltModel, WrongTypeOfAKey) {
  edit_config([](auto& config) { config["hidden_size"] = "many"; });
  expect_error(3, {"config.json", "hidden_size", "many"});
}

TEST_F(SpoiltModel, ConfigThatIsNoJson) {
  folder.write("config.json", "{ \"hidden_size\": ");
  expect_error(3, {"config.json"});
}

TEST_F(SpoiltModel, TokenIdOutOfRange) { expect_error(3, {"99999", "vocabulary"}, {"--prompt-ids", "1,99999"}); }

TEST_F(SpoiltModel, PromptLongerThanTheContext) {
  std::string ids = "1";
  for (int i = 0; i < 5000; ++i) ids += ",5";
  expect_error(3, {"5001 tokens", "the context is"}, {"--prompt-ids", ids});
}

TEST_F(SpoiltModel, InvalidUtf8) {
  const auto file = folder.write("prompt.txt", "good \xff\xfe bad");
  expect_error(3, {"UTF-8", "5"}, {"--prompt-file", file});
}

TEST_F(SpoiltModel, MissingPromptFile) { expect_error(3, {"nowhere.txt"}, {"--prompt-file", folder / "nowhere.txt"}); }

TEST_F(SpoiltModel, LayoutThatHasOtherRanks) {
  expect_error(2, {"tp=3", "needs 3 ranks"}, {"--prompt-ids", "1", "--tp", "3"});
}

TEST_F(SpoiltModel, LayoutThatTheModelDoesNotAllow) {
  const auto outcome = grist::test::grist({"generate", "--model", folder.path(), "--prompt-ids", "1", "--pp", "4"}, 4);
  expect_one_line(outcome, 2, {"4", "layers"});
}

TEST_F(SpoiltModel, MoreMemoryThanThereIs) {
  edit_config([](auto& config) { config["max_position_embeddings"] = 2000000000; });
  expect_error(4, {"does not fit", "GiB"}, {"--prompt-ids", "1", "--max-new-tokens", "1999999000"});
}

TEST_F(SpoiltModel, ValuesThatAreNotNumbers) {
  // The last stage alone sees the logits: the other rank waits in a collective and must be freed.
  std::string bytes = contents_of(folder / "model.safetensors");
  std::uint64_t length = 0;
  std::copy_n(bytes.data(), sizeof length, reinterpret_cast<char*>(&length));
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  const auto place = header.at("model.norm.weight").at("data_offsets").get<std::vector<std::size_t>>();
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(8 + length + place[0]),
            bytes.begin() + static_cast<std::ptrdiff_t>(8 + length + place[1]), '\xff');
  folder.write("model.safetensors", bytes);
  for (int ranks = 1; ranks <= most_ranks(); ++ranks) {
    const auto outcome = grist::test::grist({"generate", "--model", folder.path(), "--prompt-ids", "1", "--pp",
                                             std::to_string(ranks)}, ranks);
    EXPECT_EQ(outcome.code, 5) << outcome.err;
    EXPECT_THAT(outcome.err, StartsWith("grist: error: "));
    EXPECT_THAT(outcome.err, HasSubstr("the weights or the computation are broken"));
  }
}

TEST_F(SpoiltModel, OneRankThatFailsEndsAll) {
  const auto outcome = run_command({GRIST_MPIEXEC,
                                    "-n",
                                    "1",
                                    GRIST_PROGRAM,
                                    "generate",
                                    "--model",
                                    folder.path(),
                                    "--tp",
                                    "2",
                                    "--prompt-ids",
                                    "1",
                                    ":",
                                    "-n",
                                    "1",
                                    GRIST_PROGRAM,
                                    "generate",
                                    "--model",
                                    folder / "elsewhere",
                                    "--tp",
                                    "2",
                                    "--prompt-ids",
                                    "1"});
  expect_one_line(outcome, 3, {"elsewhere", "no such model"});
}

// Ranks that are told or see different things end with one line that names the rank, instead of waiting or computing
// nonsense.
class TwoRanksOfErrors : public SpoiltModel {
protected:
  const std::vector<std::string> words = {"--max-new-tokens", "3"};

  /// The first rank as it should be, the second with the folder and the words given.
  Outcome second_rank(const std::string& model, const std::vector<std::string>& its_words) const {
    return two_ranks(tiny(), model, its_words);
  }
  Outcome second_rank(const std::string& model) const { return second_rank(model, words); }

  Outcome two_ranks(const std::string& first, const std::string& second,
                    const std::vector<std::string>& words_of_second) const {
    std::vector<std::string> command = {GRIST_MPIEXEC};
    const auto rank = [&](const std::string& its_model, const std::vector<std::string>& its_words) {
      for (const std::string word :
           {"-n", "1", GRIST_PROGRAM, "generate", "--prompt-ids", "1,2", "--dtype", "f32", "--tp", "2"})
        command.push_back(word);
      command.insert(command.end(), {"--model", its_model});
      command.insert(command.end(), its_words.begin(), its_words.end());
    };
    rank(first, words);
    command.emplace_back(":");
    rank(second, words_of_second);
    return run_command(command);
  }
};

TEST_F(TwoRanksOfErrors, MayReadTheSameModelAtTwoPlaces) {
  const auto outcome = second_rank(folder.path());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
}

TEST_F(TwoRanksOfErrors, WithOtherOptionsAreRefused) {
  expect_one_line(second_rank(folder.path(), {"--max-new-tokens", "30"}), 2, {"rank 1", "'30'", "'3'", "command line"});
  expect_one_line(second_rank(folder.path(), {}), 2, {"rank 1", "'nothing more'", "'--max-new-tokens'"});
}

TEST_F(TwoRanksOfErrors, WithOtherWeightsOfTheSameShapeAreRefused) {
  std::string bytes = contents_of(folder / "model.safetensors");
  for (std::size_t at = 20000; at < bytes.size(); at += 1000) bytes[at] = static_cast<char>(bytes[at] + 1);
  folder.write("model.safetensors", bytes);
  expect_one_line(second_rank(folder.path()), 3, {"rank 1", "model.safetensors"});
}

TEST_F(TwoRanksOfErrors, WithAnotherConfigAreRefused) {
  edit_config([](auto& config) { config["rms_norm_eps"] = 1e-3; });
  expect_one_line(second_rank(folder.path()), 3, {"rank 1", "config.json"});
}

TEST_F(TwoRanksOfErrors, WithAnotherPartOfASplitGgufAreRefused) {
  const TemporaryFolder first, second;
  for (const auto* place : {&first, &second}) {
    std::filesystem::copy(data_file("gguf/llama2.gguf"), *place / "model-00001-of-00002.gguf");
    place->write("model-00002-of-00002.gguf", place == &first ? "some tensors" : "other tensors");
  }
  const std::string part = "model-00001-of-00002.gguf";
  expect_one_line(two_ranks(first / part, second / part, words), 3, {"rank 1", "model-00002-of-00002.gguf"});
}

TEST_F(TwoRanksOfErrors, WithOtherSamplingBesideAGgufAreRefused) {
  const TemporaryFolder first, second;
  for (const auto* place : {&first, &second})
    std::filesystem::copy(data_file("gguf/llama2.gguf"), *place / "model.gguf");
  second.write("generation_config.json", R"({"do_sample": true, "temperature": 0.9})");
  expect_one_line(two_ranks(first.path(), second.path(), words), 3, {"rank 1", "generation_config.json"});
}

TEST_F(TwoRanksOfErrors, WithAnotherModelAreRefused) {
  expect_one_line(second_rank(data_file("tiny/mistral")), 3, {"rank 1"});
}

TEST_F(SpoiltModel, FileThatIsNoModelIsNamedAsSuch) {
  const auto file = folder.write("notes.txt", "these are no weights");
  expect_one_line(grist::test::grist({"generate", "--model", file, "--prompt", "x"}), 3, {file, "GGUF"});
}

TEST_F(SpoiltModel, FolderWithSeveralGgufFilesWantsOneToBeNamed) {
  std::filesystem::remove(folder / "config.json");
  for (const char* name : {"a.gguf", "b.gguf"}) std::filesystem::copy(data_file("gguf/llama2.gguf"), folder / name);
  expect_error(3, {"2 GGUF files", "a.gguf"});
}

TEST(Usage, MistypedOptionIsToldWithTheNearest) {
  const auto outcome = grist::test::grist({"generate", "--model", "x", "--max-new-token", "3"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("unknown option --max-new-token"), HasSubstr("did you mean --max-new-tokens")));
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
}

TEST(Usage, ARankThatIsAskedForNonsenseEndsAllWithOneLine) {
  for (const auto& word : {"--max-new-token", "--prompt"}) {  // one that is not known, one that lacks its value
    const auto outcome = grist::test::grist({"generate", "--model", tiny(), "--tp", "2", word}, 2);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_TRUE(outcome.all_gone);
  }
  const auto mixed =
      run_command({GRIST_MPIEXEC, "-n", "1", GRIST_PROGRAM, "generate", "--model", tiny(), "--tp",
                   "2", "--prompt", "x", ":", "-n", "1", GRIST_PROGRAM, "generate", "--nonsense"});
  EXPECT_EQ(mixed.code, 2);
  EXPECT_THAT(mixed.err, HasSubstr("unknown option --nonsense"));
  EXPECT_TRUE(mixed.all_gone);
}

TEST(Usage, MistypedVerbIsToldWithTheNearest) {
  const auto outcome = grist::test::grist({"genrate"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("did you mean generate"));
}

TEST(Usage, ValuesOutOfRangeAreRefused) {
  const auto model = tiny();
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {"--tp", "0"}, {"--dtype", "f64"}, {"--top-p", "2"}, {"--temperature", "-1"}, {"--max-new-tokens", "0"},
           {"--max-new-tokens", "many"}, {"--prompt-ids", "1;2"}, {"--gemm", "magic"}}) {
    std::vector<std::string> arguments = {"generate", "--model", model, "--prompt-ids", "1"};
    arguments.insert(arguments.end(), bad.begin(), bad.end());
    const auto outcome = grist::test::grist(arguments);
    EXPECT_EQ(outcome.code, 2) << bad[0] << ": " << outcome.err;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  }
}

}  // namespace
