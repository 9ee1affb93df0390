// The options of `grist train`: one list for command line and file, and nonsense refused with one line.
#include "train_options.hpp"

#include <grist/core/errors.hpp>

#include <support/files.hpp>
#include <support/refuses.hpp>

#include <gmock/gmock.h>

namespace {

using namespace grist;
using namespace grist::test;
using cli::TrainOptions;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

/// `grist train WORDS` as the verb reads it.
TrainOptions parse(Words words) {
  CLI::App app;
  TrainOptions options;
  options.add_to(app);
  std::ranges::reverse(words);
  app.parse(words);
  options.complete(app);
  return options;
}

const Words enough = {"--config", "config.json", "--data", "a.txt"};
TrainOptions parse_more(Words words) {
  words.insert(words.begin(), enough.begin(), enough.end());
  return parse(words);
}

std::string help() {
  CLI::App app("", "train");
  TrainOptions options;
  options.add_to(app);
  return app.help();
}

/// A file of options.
struct OptionsFile : testing::Test {
  TemporaryFolder folder;
  std::string file = (folder / "run.toml").string();
  TrainOptions read(const std::string& text, Words words = {}) const {
    write_file(file, text);
    words.insert(words.end(), {"--options", file});
    return parse(words);
  }
};

TEST(TrainOptions, WithAModelAndDataAreEnough) {
  const TrainOptions options = parse_more({});
  EXPECT_EQ(options.steps, 1000);
  EXPECT_EQ(options.layout(1), (Layout{}));
  EXPECT_EQ(options.micro_batch_of({}), 8);
  const auto rate = options.learning_rate();
  EXPECT_EQ(rate.warmup, 100);
  EXPECT_EQ(rate.at(100), 3e-4);
  EXPECT_NEAR(rate.at(1000), 3e-5, 1e-18);
}

TEST(TrainOptions, OfTheIssueAreAllThere) {
  const TrainOptions options = parse(
      {"--model", "DIR", "--tokenizer", "T", "--data", "a", "b", "--steps", "20", "--batch", "12", "--micro-batch", "3",
       "--sequence", "64", "--lr", "1e-3", "--schedule", "wsd", "--warmup", "5", "--min-lr", "1e-5", "--optimizer",
       "lamb", "--beta1", "0.8", "--beta2", "0.9", "--eps", "1e-6", "--weight-decay", "0.2", "--clip", "2", "--dtype",
       "bf16", "--seed", "8999999999999999999", "--order", "sequential", "--dp", "2", "--pp", "2", "--tp", "3",
       "--pipeline", "interleaved", "--zero", "1", "--recompute", "block", "--sequence-parallel", "--metrics", "m",
       "--eval-data", "e", "--eval-every", "4", "--checkpoint", "C", "--save-every", "5", "--keep", "3", "--resume",
       "auto", "--max-walltime", "01:02:03", "--save-hf", "H", "--trace", "t", "--check-replicas", "--io-hint",
       "striping_factor=8", "--io-hint", "cb_nodes=2"});
  EXPECT_THAT(options.data, ElementsAre("a", "b"));
  EXPECT_EQ(options.seed, 8999999999999999999U);
  EXPECT_EQ(options.walltime(), std::chrono::seconds(3723));
  EXPECT_EQ(options.layout(12), (Layout{.dp = 2, .pp = 2, .tp = 3}));
  EXPECT_EQ(options.micro_batches(options.layout(12)), 2);
  EXPECT_EQ(options.pipeline_kind(), train::Pipeline::interleaved);
  EXPECT_EQ(options.chunks_per_rank(), 2);
  EXPECT_EQ(options.learning_rate().decay, 4);
  EXPECT_EQ(options.optimizer_config().beta2, 0.9);
  EXPECT_TRUE(options.sequence_parallel && options.check_replicas);
  EXPECT_EQ(options.mpi_io_hints(), "striping_factor=8;cb_nodes=2");
}

TEST(TrainOptions, TeachInTheirHelp) {
  const std::string text = help();
  for (const char* words : {"--min-lr X", "without it a tenth of --lr", "{constant,linear,cosine,wsd}", "--pp N [1]",
                            "grist train --config config.json", "ends with code 75", "[0.0003]"})
    EXPECT_THAT(text, HasSubstr(words));
}

TEST(TrainOptions, ThatCannotBeAreRefusedInOneLine) {
  const std::vector<std::pair<Words, Words>> cases = {
      {{"--model", "DIR"}, {"--model and --config exclude each other"}},
      {{"--min-lr", "1e-2"}, {"--min-lr 0.01 is above --lr 3e-04"}},
      {{"--min-lr", "1e-5", "--schedule", "constant"}, {"--min-lr has no use"}},
      {{"--decay", "5"}, {"--decay has no use with --schedule cosine"}},
      {{"--warmup", "1001"}, {"--warmup 1001 is above --steps 1000"}},
      {{"--schedule", "wsd", "--warmup", "600", "--decay", "500"}, {"600", "500", "do not fit", "1000"}},
      {{"--batch", "8", "--dp", "3"}, {"--batch 8 is no multiple of --dp 3"}},
      {{"--batch", "8", "--micro-batch", "3"}, {"--batch 8 is no multiple of --micro-batch 3"}},
      {{"--pipeline", "interleaved"}, {"give --pp"}},
      {{"--chunks", "2"}, {"--chunks has no use with --pipeline 1f1b"}},
      {{"--eval-every", "5"}, {"--eval-data"}},
      {{"--resume", "auto"}, {"--checkpoint DIR"}},
      {{"--save-every", "5"}, {"--save-every has no use"}},
      {{"--checkpoint", "C", "--save-every", "10", "--keep-every", "25"}, {"25 is no multiple", "10"}},
      {{"--max-walltime", "90"}, {"'90'", "HH:MM:SS"}},
      {{"--io-hint", "striping_factor"}, {"'striping_factor'", "KEY=VALUE"}},
      {{"--io-hint", "a=1;b=2"}, {"'a=1;b=2'", "KEY=VALUE"}},
  };
  for (const auto& [words, said] : cases) EXPECT_THAT([&] { parse_more(words); }, Refuses<UsageError>(said));
  EXPECT_THAT([] { parse({"--data", "a"}); }, (Refuses<UsageError>({"give --model DIR", "--config FILE"})));
  EXPECT_THAT([] { parse({"--model", "a"}); }, (Refuses<UsageError>({"give --data FILE"})));
}

TEST(TrainOptions, NumbersAndWordsOutOfRangeAreRefusedByTheParser) {
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"--steps", "0"}, "--steps: is 0, expected 1 or more"},   {{"--lr", "-1"}, "expected more than 0"},
      {{"--lr", "nan"}, "expected more than 0"},                 {{"--beta1", "1"}, "expected 0 to 0.999999"},
      {{"--zero", "2"}, "expected 0 to 1"},                      {{"--schedule", "cosin"}, "cosin not in"},
      {{"--batch", "1.5"}, "--batch"},                           {{"--dtype", "f16"}, "f16 not in"},
      {{"--clip", "inf"}, "--clip: is inf"},                     {{"--seed", "-1"}, "--seed: is -1"},
  };
  for (const auto& [words, said] : cases)
    EXPECT_THAT([&] { parse_more(words); }, testing::ThrowsMessage<CLI::ParseError>(HasSubstr(said))) << words[0];
}

TEST(TrainOptions, LayoutTakesTheRanksThatAreLeft) {
  EXPECT_EQ(parse_more({"--pp", "2"}).layout(8), (Layout{.dp = 4, .pp = 2}));
  EXPECT_THAT([] { return parse_more({"--tp", "3"}).layout(8); },
              (Refuses<UsageError>({"8 ranks", "--tp 3", "multiple of 3"})));
  EXPECT_THAT([] { return parse_more({"--dp", "2"}).layout(3); }, (Refuses<UsageError>({"3", "2"})));
  EXPECT_THAT([] { return parse_more({"--batch", "6"}).layout(4); }, (Refuses<UsageError>({"--batch 6", "4"})));
  EXPECT_THAT([] { return parse_more({"--batch", "8", "--micro-batch", "4"}).layout(4); },
              (Refuses<UsageError>({"--batch 8", "4 data-parallel ranks times --micro-batch 4"})));
  EXPECT_THAT([] { return parse_more({"--pp", "4", "--pipeline", "interleaved", "--batch", "6"}).layout(4); },
              (Refuses<UsageError>({"multiple of --pp 4", "has 6"})));
}

TEST(TrainOptions, APipelineTakesOneSequenceAtATime) {
  const TrainOptions options = parse_more({"--pp", "2", "--batch", "12"});
  EXPECT_EQ(options.micro_batches(options.layout(4)), 6);
}

TEST(Walltime, IsReadAsSlurmWritesIt) {
  EXPECT_EQ(cli::parse_walltime("00:00:30").count(), 30);
  EXPECT_EQ(cli::parse_walltime("48:00:00").count(), 172800);
  EXPECT_EQ(cli::parse_walltime("2-03:04:05").count(), 183845);
  for (const char* text : {"", "12", "12:30", "1:60:00", "1:00:60", "-1:00:00", "1:00:00x", "00:00:00", "a:b:c",
                           "1-24:00:00", "1:2:3:4", "99999999999999999999:00:00", "1::2"})
    EXPECT_THAT([&] { cli::parse_walltime(text); }, (Refuses<UsageError>({"HH:MM:SS"}))) << text;
}

TEST_F(OptionsFile, SaysWhatTheCommandLineSays) {
  const TrainOptions options = read(
      "config = 'c.json'\ndata = ['a', 'b']\nsteps = 7\nlr = 1\nmin-lr = 1e-5\nsequence-parallel = true\n"
      "tp = 2\npipeline = \"gpipe\"\nseed = 3 # as the cat\n");
  EXPECT_THAT(options.data, ElementsAre("a", "b"));
  EXPECT_EQ(options.steps, 7);
  EXPECT_EQ(options.lr, 1.0);
  EXPECT_EQ(options.min_lr, 1e-5);
  EXPECT_TRUE(options.sequence_parallel);
  EXPECT_EQ(options.pipeline, "gpipe");
  EXPECT_EQ(options.seed, 3U);
}

TEST_F(OptionsFile, GivesWayToTheCommandLine) {
  const TrainOptions options = read("config = 'c.json'\ndata = 'a'\nsteps = 7\nsequence-parallel = true\nbatch = 4\n",
                                    {"--steps", "9", "--data", "x", "y", "--sequence-parallel=false"});
  EXPECT_EQ(options.steps, 9);
  EXPECT_THAT(options.data, ElementsAre("x", "y"));
  EXPECT_FALSE(options.sequence_parallel);
  EXPECT_EQ(options.batch, 4);
}

TEST_F(OptionsFile, ThatIsWrongIsNamedWithLineAndKey) {
  const std::vector<std::pair<std::string, Words>> cases = {
      {"\nstep = 5\n", {"run.toml:2", "unknown key 'step'", "did you mean steps?"}},
      {"min_lr = 5\n", {"unknown key 'min_lr'", "did you mean min-lr?"}},
      {"xylophones = 5\n", {"unknown key 'xylophones'", "--print-config"}},
      {"options = 'x'\n", {"unknown key 'options'"}},
      {"[train]\nsteps = 5\n", {"unknown key 'train'"}},
      {"steps = 'many'\n", {"run.toml:1", "'steps' is not an integer"}},
      {"steps = 1.5\n", {"'steps' is not an integer"}},
      {"lr = true\n", {"'lr' is not a number"}},
      {"data = [1]\n", {"'data' is not a string or an array of strings"}},
      {"sequence-parallel = 1\n", {"'sequence-parallel' is not true or false"}},
      {"batch = 2\nsteps = 0\n", {"run.toml:2", "--steps: is 0, expected 1 or more"}},
      {"dtype = 'f64'\n", {"run.toml:1", "f64 not in"}},
      {"steps = \n", {"run.toml:1", "not valid TOML"}},
      {"steps = 1\nsteps = 2\n", {"run.toml:2", "not valid TOML"}},
  };
  for (const auto& [text, said] : cases) EXPECT_THAT([&] { read(text); }, Refuses<>(said)) << text;
  EXPECT_THAT([&] { parse({"--options", "/no/such.toml"}); }, (Refuses<>({"/no/such.toml", "No such file"})));
}

TEST_F(OptionsFile, ThatWasPrintedReadsBackTheSame) {
  const TrainOptions given = parse_more({"--data", "it's a \"name\"\\", "--lr", "1.2345678901234567e-5",
                                         "--min-lr", "0", "--sequence-parallel", "--tp", "2", "--warmup", "0",
                                         "--max-walltime", "1:00:00",
                                         "--seed", "8999999999999999999", "--clip", "0"});
  const std::string text = given.to_toml();
  EXPECT_THAT(text, AllOf(HasSubstr("\n# Optimizer\n"), HasSubstr("\nmin-lr = 0\n"),
                          HasSubstr("\n# tokenizer = DIR\n")));
  const TrainOptions back = read(text);
  EXPECT_EQ(back.to_toml(), text);
  EXPECT_EQ(back.lr, given.lr);
  EXPECT_EQ(back.data, given.data);
  EXPECT_EQ(back.warmup, 0);
  EXPECT_EQ(back.min_lr, 0);
  EXPECT_FALSE(back.decay);
}

TEST_F(OptionsFile, ForABeginningIsPrintedWithoutAnyOption) {
  const std::string text = parse({"--print-config"}).to_toml();
  EXPECT_THAT(text, AllOf(HasSubstr("\n# model = DIR\n"), HasSubstr("\nsteps = 1000\n"),
                          HasSubstr("\n# min-lr = X\n")));
  EXPECT_EQ(read(text, enough).to_toml(), parse(enough).to_toml());
}

}  // namespace
