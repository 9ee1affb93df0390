// Metrics: one whole line for every step, also where a run went on, and operations counted by hand.
#include <grist/core/errors.hpp>
#include <grist/train/metrics.hpp>

#include <support/files.hpp>
#include <support/refuses.hpp>
#include <support/specs.hpp>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <limits>
#include <sstream>

namespace {

using namespace grist;
using namespace grist::test;
using namespace grist::train;
using testing::ElementsAre;

std::vector<nlohmann::json> lines_of(const std::filesystem::path& file) {
  std::istringstream text(contents_of(file));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::vector<int> steps_of(const std::filesystem::path& file) {
  std::vector<int> steps;
  for (const auto& line : lines_of(file)) steps.push_back(line["step"]);
  return steps;
}

StepMetrics metrics_of(Index step) {
  return {.step = step, .loss = 3.5, .learning_rate = 3e-4, .gradient_norm = 0.75, .tokens_per_second = 1000,
          .mfu = 0.5, .memory = 1ULL << 33, .seconds = 2, .spent = {1, 0.5, 0.25, 0.125}};
}

struct Metrics : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path file = folder / "metrics.jsonl";

  void write(Index last_step, Index from, Index to) const {
    MetricsFile metrics(file, last_step);
    for (Index step = from; step <= to; ++step) metrics.write(metrics_of(step));
  }
};

TEST_F(Metrics, ALineHoldsAllOfAStep) {
  write(0, 1, 1);
  const auto expected = nlohmann::json::parse(R"({"step": 1, "loss": 3.5, "lr": 3e-4, "grad_norm": 0.75,
    "tokens_per_second": 1000.0, "mfu": 0.5, "memory": 8589934592,
    "seconds": {"step": 2.0, "compute": 1.0, "communication": 0.5, "bubble": 0.25, "data": 0.125}})");
  EXPECT_THAT(lines_of(file), ElementsAre(expected));
}

TEST_F(Metrics, TheRoutersLossIsThereWhereItIsTrained) {
  StepMetrics of_experts = metrics_of(1);
  of_experts.router_loss = 1.25;
  MetricsFile(file, 0).write(of_experts);
  EXPECT_EQ(lines_of(file).front()["router_loss"], 1.25);
  EXPECT_EQ(lines_of(file).front()["loss"], 3.5);
}

TEST_F(Metrics, ALineIsInTheFileBeforeTheNextOne) {
  MetricsFile metrics(file, 0);
  metrics.write(metrics_of(1));
  EXPECT_THAT(steps_of(file), ElementsAre(1));
  metrics.write_evaluation(1, 3.25);
  EXPECT_EQ(lines_of(file).at(1)["eval_loss"], 3.25);
}

TEST_F(Metrics, NumbersThatAreNotFiniteStayJson) {
  MetricsFile metrics(file, 0);
  StepMetrics step = metrics_of(1);
  step.loss = std::numeric_limits<double>::quiet_NaN();
  step.gradient_norm = std::numeric_limits<double>::infinity();
  metrics.write(step);
  EXPECT_TRUE(lines_of(file).at(0)["loss"].is_null());
  EXPECT_TRUE(lines_of(file).at(0)["grad_norm"].is_null());
}

TEST_F(Metrics, OfARunThatGoesOnHaveNoStepTwice) {
  write(0, 1, 7);
  write(4, 5, 8);
  EXPECT_THAT(steps_of(file), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
}

TEST_F(Metrics, OfANewRunBeginAfresh) {
  write(0, 1, 3);
  write(0, 1, 2);
  EXPECT_THAT(steps_of(file), ElementsAre(1, 2));
}

TEST_F(Metrics, ALineThatWasCutOffIsDropped) {
  write(0, 1, 3);
  const std::string text = contents_of(file);
  write_file(file, text.substr(0, text.size() - 20));
  write(2, 3, 3);
  EXPECT_THAT(steps_of(file), ElementsAre(1, 2, 3));
}

TEST_F(Metrics, AFileOfSomethingElseIsLeftAsItIs) {
  write_file(file, "my thesis\nsecond line\n");
  EXPECT_THAT([&] { MetricsFile(file, 0); }, (Refuses<InputError>({file.string(), "line 1", "another file"})));
  EXPECT_EQ(contents_of(file), "my thesis\nsecond line\n");
}

TEST_F(Metrics, AFolderThatIsNotThereIsNamed) {
  EXPECT_THAT([&] { MetricsFile(folder / "no" / "metrics.jsonl", 0); },
              (Refuses<InputError>({"no/metrics.jsonl", "No such file"})));
}

TEST(ModelFlops, OfALlamaAreCountedByHand) {
  // 3 layers of qkv [24 + 2 x 12, 20], o [20, 24], gate and up [2 x 56, 20], down [20, 56], two norms; a last norm; the
  // head [99, 20]. 6 heads of 4. A sequence of 9: a query sees 5 keys on average.
  const double layer = 48 * 20 + 20 * 24 + 112 * 20 + 20 * 56 + 2 * 20;
  const double expected = 6 * (3 * layer + 20 + 99 * 20) + 3 * 12 * 24 * 5.0;
  EXPECT_DOUBLE_EQ(model_flops(llama_spec(99, 20, 56, 3, 6, 3, 4), 9), expected);
  EXPECT_DOUBLE_EQ(model_flops(llama_spec(99, 20, 56, 3, 6, 3, 4, true), 9), expected) << "tied";
}

TEST(ModelFlops, CountTheKeysOfAWindowAndTheExpertsOfAToken) {
  auto spec = llama_spec(99, 20, 56, 1, 6, 3, 4);
  const double full = model_flops(spec, 9);
  spec.layers[0].attention.window = 2;  // 1, 2, 2, ...: 17 of 45 keys
  EXPECT_DOUBLE_EQ(full - model_flops(spec, 9), 12 * 24 * (45 - 17) / 9.0);
  spec.layers[0].attention.window = 100;
  EXPECT_DOUBLE_EQ(model_flops(spec, 9), full);
  spec.layers[0].mlp.experts = 8;
  spec.layers[0].mlp.experts_per_token = 2;
  EXPECT_DOUBLE_EQ(model_flops(spec, 9) - full, 6 * (3 * 56 * 20 + 8 * 20)) << "one expert more, and the router";
}

TEST(ModelFlops, DoNotCountLearnedPositions) {
  auto spec = llama_spec(99, 20, 56, 1, 6, 3, 4);
  const double flops = model_flops(spec, 9);
  spec.learned_positions = 64;
  EXPECT_DOUBLE_EQ(model_flops(spec, 9), flops);
}

}  // namespace
