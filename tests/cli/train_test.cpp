// grist train as a user meets it: what it says, writes and refuses, and how it ends.
#include "training_run.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using Train = TrainingRun;
using TwoRanksOfTraining = TrainingRun;

TEST_F(Train, WritesALineOfMetricsForEachStep) {
  const auto outcome = train({"--log-every", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 3/6 | loss "), HasSubstr("step 6/6 | loss ")));
  const auto all = lines();
  ASSERT_EQ(all.size(), 6U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].at("step"), i + 1);
    EXPECT_EQ(all[i].at("lr"), 1e-3);
    for (const char* key : {"loss", "grad_norm", "tokens_per_second", "memory"}) EXPECT_GT(all[i].at(key), 0) << key;
    for (const char* part : {"step", "compute", "communication", "bubble", "data"})
      EXPECT_GE(all[i].at("seconds").at(part), 0) << part;
  }
  EXPECT_LT(all.back().at("loss"), all.front().at("loss"));
}

TEST_F(Train, EvaluatesAtIntervalsAndAtTheEnd) {
  EXPECT_EQ(train({"--eval-data", text, "--eval-every", "4"}).code, 0);
  std::vector<int> evaluated;
  for (const auto& line : lines())
    if (line.contains("eval_loss")) evaluated.push_back(line.at("step"));
  EXPECT_THAT(evaluated, testing::ElementsAre(4, 6));
}

TEST_F(Train, PrintsAConfigurationThatItReadsBack) {
  const auto text_of = [&](const Words& more) { return quiet(words(more)); };
  const std::string printed = text_of({"--print-config", "--optimizer", "lamb", "--zero", "1"});
  EXPECT_THAT(printed, AllOf(HasSubstr("\noptimizer = 'lamb'\n"), HasSubstr("\nlr = 0.001\n")));
  const std::string file = folder.write("run.toml", printed);
  EXPECT_EQ(quiet({"train", "--options", file, "--print-config"}), printed);
}

TEST_F(Train, NamesTheNearestOfAnUnknownName) {
  const auto option = train({"--step", "5"});
  EXPECT_EQ(option.code, 2);
  EXPECT_THAT(option.err, AllOf(HasSubstr("--step"), HasSubstr("did you mean --steps")));
  const auto key = train({"--options", folder.write("run.toml", "stepps = 5\n")});
  EXPECT_EQ(key.code, 3);
  EXPECT_THAT(key.err, AllOf(HasSubstr("run.toml:1"), HasSubstr("'stepps'"), HasSubstr("did you mean steps?")));
}

TEST_F(Train, RefusesWhatCannotBeBeforeAnyTimeIsSpent) {
  struct Case {
    Words words;
    int code;
    Words said;
  };
  const std::vector<Case> cases = {
      {{"--sequence-parallel"}, 2, {"--sequence-parallel", "--tp"}},
      {{"--router-aux-loss", "0.1"}, 2, {"0.1", "no experts"}},
      {{"--tp", "2"}, 2, {"--tp 2"}},
      {{"--dp", "2"}, 2, {"dp=2", too_few_ranks()}},
      {{"--pipeline", "interleaved"}, 2, {"--pp"}},
      {{"--micro-batch", "3"}, 2, {"--batch 4", "--micro-batch 3"}},
      {{"--sequence", "257"}, 2, {"--sequence 257", "256"}},
      {{"--resume", "auto"}, 2, {"--checkpoint"}},
      {{"--min-lr", "1e-5"}, 2, {"--min-lr"}},
      {{"--gemm", "cublaz"}, 2, {"cublaz"}},
      {{"--data", folder / "no.txt"}, 3, {"no.txt"}},
      {{"--data", folder.write("short.txt", "a b")}, 3, {"short.txt", "at least 33"}},
      {{"--resume", folder / "no.h5"}, 3, {"no.h5"}},
      {{"--metrics", folder.write("notes.txt", "dear diary\n\n")}, 3, {"notes.txt", "no line of metrics"}},
      {{"--save-hf", folder.write("a_file", "")}, 3, {"a_file"}},
      {{"--model", data_file("gguf/llama2.gguf")}, 2, {"llama2.gguf", "Hugging Face folder"}},
      {{"--save-hf", model}, 2, {model, "already holds"}},
      {{"--io-hint", "striping_factor"}, 2, {"striping_factor", "KEY=VALUE"}},
      {{"--io-hint", std::string(300, 'k') + "=1"}, 2,
       {"kkk", most_ranks() > 1 ? "longer than MPI takes" : "built without MPI"}},
      {{"--checkpoint", checkpoints, "--max-walltime", "00:00:01"}, 2, {"ends too soon"}},
  };
  for (const auto& [more, code, said] : cases) {
    auto all = words();
    // An option that is given twice would be refused for that.
    if (const auto at = std::ranges::find(all, more.front()); at != all.end()) all.erase(at, at + 2);
    all.insert(all.end(), more.begin(), more.end());
    const auto outcome = grist::test::grist(all);
    EXPECT_EQ(outcome.code, code) << more.front() << ": " << outcome.err;
    for (const auto& word : said) EXPECT_THAT(outcome.err, HasSubstr(word));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_TRUE(lines().empty());
  }
}

TEST_F(TwoRanksOfTraining, TellOnceWhatWasNoticedInTheModelsFiles) {
  const std::string copy = folder / "copy";
  std::filesystem::copy(model, copy, std::filesystem::copy_options::recursive);
  auto config = nlohmann::json::parse(contents_of(copy + "/config.json"));
  config["quantization_config"] = {{"quant_method", "gptq"}};
  write_file(copy + "/config.json", config.dump());
  const auto outcome = train({"--model", copy, "--steps", "1"}, 2);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto first = outcome.err.find("note: " + copy + ": config.json says quantized by 'gptq'");
  ASSERT_NE(first, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("gptq", first + copy.size() + 60), std::string::npos) << "said twice";
}

TEST_F(Train, SavesAFolderThatGenerates) {
  const std::string out = folder / "out";
  for (const Words& more : {Words{}, Words{"--checkpoint", checkpoints}}) {
    auto all = more;
    all.insert(all.end(), {"--save-hf", out, "--steps", "30"});
    const auto outcome = train(all);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto ask = [](const std::string& which) {
      return quiet({"generate", "--model", which, "--prompt", "The", "--max-new-tokens", "12", "--temperature", "0"});
    };
    EXPECT_NE(ask(out), "");
    EXPECT_NE(ask(out), ask(model)) << "nothing was trained";
    if (!more.empty()) {
      all.insert(all.end(), {"--resume", "auto"});
      EXPECT_EQ(train(all).code, 0) << "a job that is queued again at its end";
    }
    std::filesystem::remove_all(out);
  }
  const std::filesystem::directory_iterator left(folder.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 2) << "metrics, checkpoints, and nothing else";
}

TEST_F(Train, FromAConfigBeginsWithRandomWeightsOfTheSeed) {
  const auto run = [&](const std::string& seed) {
    const auto outcome = grist::test::grist(
        {"train", "--config", model + "/config.json", "--tokenizer", model, "--data", text, "--sequence", "32",
         "--batch", "2", "--steps", "1", "--warmup", "0", "--seed", seed, "--metrics", metrics, "--order",
         "sequential"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const double loss = losses().back().second;
    std::filesystem::remove(metrics);
    return loss;
  };
  const double first = run("1");
  EXPECT_NEAR(first, std::log(288), 0.3);
  EXPECT_EQ(run("1"), first);
  EXPECT_NE(run("2"), first);
}

TEST_F(Train, GoesOnWhereItsFolderCannotBeWrittenAndSaysSo) {
  const auto outcome = train({"--checkpoint", "/proc/self", "--save-every", "2"});
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 2: not saved: "), HasSubstr("step 4: not saved: "),
                                 HasSubstr("step 6: not saved: "), HasSubstr("/proc/self")));
  EXPECT_EQ(lines().size(), 6U);
  EXPECT_EQ(outcome.code, 3) << "what was trained is lost: no success";
}

TEST_F(Train, EndsBeforeTheWallTimeAndGoesOn) {
  const auto outcome = train({"--steps", "1000000", "--checkpoint", checkpoints, "--max-walltime", "00:00:06"});
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("stopped after step"), HasSubstr("--resume auto")));
  const int done = losses().back().first;
  ASSERT_GT(done, 1);
  const auto more = train({"--steps", std::to_string(done + 3), "--checkpoint", checkpoints, "--resume", "auto"});
  EXPECT_EQ(more.code, 0) << more.err;
  const auto all = losses();
  ASSERT_EQ(std::ssize(all), done + 3);
  for (int i = 0; i < done + 3; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)].first, i + 1);
}

/// ROMIO prints what it was given, and what it made of it.
TEST_F(TwoRanksOfTraining, GiveHintsToMpiIo) {
  setenv("ROMIO_PRINT_HINTS", "1", 1);
  const auto outcome = train({"--steps", "1", "--checkpoint", checkpoints, "--io-hint", "cb_buffer_size=1234567"}, 2);
  unsetenv("ROMIO_PRINT_HINTS");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::string said = outcome.out + outcome.err;
  if (said.find("cb_buffer_size") == std::string::npos) GTEST_SKIP() << "this MPI-IO is not ROMIO";
  EXPECT_THAT(said, HasSubstr("1234567"));
}

TEST_F(TwoRanksOfTraining, AreTracedInOneFile) {
  const std::string file = folder / "trace.json";
  const auto outcome = train({"--steps", "2", "--pp", "2", "--trace", file, "--eval-data", text, "--checkpoint",
                              checkpoints}, 2);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::pair<int, std::string>, int> count;
  for (const auto& event : nlohmann::json::parse(contents_of(file)))
    if (event.at("ph") == "X") ++count[{event.at("pid"), event.at("name")}];
  for (int rank : {0, 1}) {
    for (const char* pass : {"forward", "backward", "read"})
      EXPECT_EQ((count[{rank, pass}]), 2 * 4) << pass << ": steps times micro-batches";
    for (const char* once : {"optimizer", "sum gradients"}) EXPECT_EQ((count[{rank, once}]), 2) << once;
    for (const char* once : {"evaluate", "save"}) EXPECT_EQ((count[{rank, once}]), 1) << once;
  }
}

TEST_F(Train, TellsWhereTheTimeOfAStepWent) {
  ASSERT_EQ(train({"--steps", "4"}).code, 0);
  double whole = 0, parts = 0;
  for (const auto& line : lines()) {
    const auto& seconds = line.at("seconds");
    whole += seconds.at("step").get<double>();
    for (const char* part : {"compute", "communication", "bubble", "data"}) parts += seconds.at(part).get<double>();
  }
  EXPECT_LE(parts, whole);
  EXPECT_GE(parts, 0.8 * whole);
}

/// The first run is ended through the second rank alone; the other one goes on at another layout.
TEST_F(TwoRanksOfTraining, SaveWhereOneGetsASignalAndGoOnAtAnotherLayout) {
  auto running = start({"--steps", "1000000", "--checkpoint", checkpoints, "--zero", "1"}, 2);
  ASSERT_TRUE(soon([&] { return lines().size() >= 5; }));
  ASSERT_EQ(kill(pid_of(1), SIGTERM), 0);
  const auto stopped = running.get();
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  const int done = losses().back().first, steps = done + 4;
  ASSERT_GE(done, 5);
  const auto more =
      train({"--steps", std::to_string(steps), "--checkpoint", checkpoints, "--resume", "auto", "--tp", "2"}, 2);
  EXPECT_EQ(more.code, 0) << more.err;
  const auto all = losses();
  ASSERT_EQ(std::ssize(all), steps);
  // The same as a run that nobody disturbed.
  std::filesystem::remove(metrics);
  EXPECT_EQ(train({"--steps", std::to_string(steps)}).code, 0);
  const auto undisturbed = losses();
  ASSERT_EQ(undisturbed.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].first, static_cast<int>(i) + 1);
    EXPECT_NEAR(all[i].second, undisturbed[i].second, 1e-4 * undisturbed[i].second) << "step " << i + 1;
  }
}

}  // namespace
