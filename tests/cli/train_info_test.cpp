// grist info --train: the memory that a run will take, told before it runs.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <format>
#include <sstream>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using Words = std::vector<std::string>;

class TrainInfo : public testing::Test {
protected:
  /// Options of `grist train` for a model of 14 M parameters.
  [[nodiscard]] Words words(const Words& more = {}) const {
    Words all = {"--config", config, "--tokenizer", tiny(), "--data", data_file("text/sample.txt"),
                 "--sequence", "128", "--batch", "8"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  [[nodiscard]] Outcome info(const Words& more = {}, int ranks = 1) const {
    Words all = words(more);
    all.insert(all.begin(), {"info", "--train"});
    return grist::test::grist(all, ranks);
  }
  /// The last number of each row of the table, in bytes.
  static std::vector<double> sums(const std::string& table) {
    std::vector<double> found;
    std::istringstream lines(table.substr(table.find("most memory of each rank")));
    std::string line;
    std::getline(lines, line), std::getline(lines, line);
    while (std::getline(lines, line) && !line.empty()) {
      std::istringstream in(line);
      std::vector<std::string> cells{std::istream_iterator<std::string>(in), {}};
      const double unit = cells.back() == "GiB" ? 1 << 30 : cells.back() == "MiB" ? 1 << 20 : 1 << 10;
      found.push_back(std::stod(cells[cells.size() - 2]) * unit);
    }
    return found;
  }

  TemporaryFolder folder;
  const std::string config = folder.write("config.json", R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": 512, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "float32"})");
  const std::string metrics = folder / "metrics.jsonl", checkpoints = folder / "checkpoints";
};
using TwoRanksOfTrainInfo = TrainInfo;

/// The most that a rank of a run with these options has held; a save comes before the last line of its metrics.
double held_by(const Words& options, const std::string& metrics, int ranks) {
  std::filesystem::remove(metrics);
  Words all = options;
  all.insert(all.begin(), "train");
  all.insert(all.end(), {"--steps", "2", "--warmup", "0", "--metrics", metrics});
  const auto outcome = grist::test::grist(all, ranks);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  std::istringstream lines(contents_of(metrics));
  double held = 0;
  for (std::string line; std::getline(lines, line);) held = nlohmann::json::parse(line).at("memory");
  return held;
}

/// What is told on a device for the kernels that libraries load, which no rank counts as held.
double libraries() {
  static const double bytes = told_by_info("gpu-aware") ? 512 << 20 : 0;
  return bytes;
}

void expect_near_and_enough(double told, double held) {
  EXPECT_GE(told, held);
  EXPECT_LE(told - libraries(), 1.1 * held);
}

TEST_F(TrainInfo, TellsWhatARunTakes) {
  if (sanitized) GTEST_SKIP() << "the sanitizer holds memory too";
  for (const Words& more : {Words{}, Words{"--dtype", "bf16", "--micro-batch", "2"}, Words{"--recompute", "block"},
                            Words{"--checkpoint", checkpoints, "--save-every", "1", "--optimizer", "sgd"}}) {
    SCOPED_TRACE(more.empty() ? "f32" : more.front() + " " + more[1]);
    const auto told = info(more);
    ASSERT_EQ(told.code, 0) << told.err;
    ASSERT_EQ(sums(told.out).size(), 1U) << told.out;
    expect_near_and_enough(sums(told.out).front(), held_by(words(more), metrics, 1));
  }
}

TEST_F(TwoRanksOfTrainInfo, AreToldWhatEachTakes) {
  if (sanitized) GTEST_SKIP() << "the sanitizer holds memory too";
  for (const Words& more : {Words{"--zero", "1"}, Words{"--tp", "2"}, Words{"--pp", "2", "--micro-batch", "4"}}) {
    SCOPED_TRACE(more.front());
    const auto told = info(more, 2);
    ASSERT_EQ(told.code, 0) << told.err;
    expect_near_and_enough(std::ranges::max(sums(told.out)), held_by(words(more), metrics, 2));
  }
}

TEST_F(TrainInfo, FindsTheLargestMicroBatchThatFits) {
  const auto told = info({"--node-memory", "100GB"});
  EXPECT_THAT(told.out, AllOf(HasSubstr("they fit"), HasSubstr("largest micro-batch that fits: 8 of the 8 sequences")));
  const double whole = sums(told.out).front(), one = sums(info({"--micro-batch", "1"}).out).front();
  ASSERT_GT(whole - libraries(), 1.2 * (one - libraries()));
  const auto between = [&](double part) { return std::format("{:.0f}KB", (one + part * (whole - one)) / 1024); };
  const auto less = info({"--node-memory", between(0.9)});
  EXPECT_THAT(less.out, AllOf(HasSubstr("TOO MUCH"), HasSubstr("largest micro-batch that fits: 4 of the 8 sequences")));
  EXPECT_THAT(info({"--node-memory", between(0.1)}).out, HasSubstr("largest micro-batch that fits: 1 of the 8"));
  EXPECT_THAT(info({"--node-memory", "10MB"}).out, HasSubstr("no micro-batch fits"));
}

TEST_F(TrainInfo, NeedsNoRanksForALayoutOfMany) {
  const auto told = info({"--dp", "2", "--pp", "3", "--tp", "2", "--ranks-per-node", "4", "--node-memory", "8GB"});
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_EQ(sums(told.out).size(), 6U) << "of each stage and rank of tp";
  EXPECT_THAT(told.out, AllOf(HasSubstr("ranks        12"), HasSubstr("4 ranks of a node need")));
}

TEST_F(TrainInfo, ReadsTheFileOfOptionsAndNeedsNoData) {
  const auto options = std::format("config = '{}'\nsequence = 128\nbatch = 4\nzero = 1\n", config);
  const auto file = folder.write("run.toml", options);
  const auto told = grist::test::grist({"info", "--train", "--options", file});
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_THAT(told.out, AllOf(HasSubstr("4 sequences of 128 tokens"), HasSubstr("zero 1")));
  const auto refused = grist::test::grist({"info", "--train", "--options", file, "--pp", "7"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(std::ranges::count(refused.err, '\n'), 1) << refused.err;
}

}  // namespace
