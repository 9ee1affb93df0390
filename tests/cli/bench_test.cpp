// grist bench: every result beside its limit, in each format, alone and over MPI.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <set>
#include <sstream>

namespace {

using namespace grist::test;
using testing::HasSubstr;
using Words = std::vector<std::string>;
using Json = nlohmann::json;

const std::string config = data_file("tiny/llama2/config.json").string();

Words bench(const Words& more) {
  Words words = {"bench", "--config", config};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(Json::parse(line));
  return rows;
}

std::vector<std::string> tests_of(const std::vector<Json>& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(row.at("test").get<std::string>());
  return names;
}

/// What every row must say, whatever it measured.
void expect_consistent(const Json& row) {
  EXPECT_GT(row.at("avg_ts").get<double>(), 0);
  EXPECT_GT(row.at("limit").get<double>(), 0);
  EXPECT_NEAR(row.at("fraction").get<double>() * row.at("limit").get<double>(), row.at("avg_ts").get<double>(),
              1e-6 * row.at("avg_ts").get<double>());
  EXPECT_GT(row.at("read_bandwidth").get<double>(), 0);
  EXPECT_EQ(row.at("samples_ns").size(), row.at("samples_ts").size());
}

TEST(Bench, MeasuresEachPromptAndGenerationAtEachBatchAndDepth) {
  const auto rows =
      Json::parse(quiet(bench({"-p", "16", "-n", "4", "-b", "1,3", "-d", "0,8", "-r", "2", "-o", "json"})));
  std::vector<std::string> seen;
  for (const auto& row : rows) {
    expect_consistent(row);
    EXPECT_EQ(row.at("samples_ns").size(), 2U);
    seen.push_back(row.at("batch").dump() + " " + row.at("test").get<std::string>());
  }
  EXPECT_EQ(seen, (Words{"1 pp16", "1 tg4", "1 pp16 @ d8", "1 tg4 @ d8", "3 pp16", "3 tg4", "3 pp16 @ d8",
                         "3 tg4 @ d8"}));
  const Json& first = rows.at(0);
  for (const char* key :
       {"build_commit", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size",
        "model_n_params", "n_batch", "n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth", "test_time",
        "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts", "test", "unit", "batch", "dtype",
        "weights", "limit", "fraction", "limit_name", "flops", "bytes", "ranks", "layout", "binding", "backend",
        "compiler", "kokkos_version", "mpi_version", "onednn_version", "command", "read_bandwidth", "triad_bandwidth",
        "gemm_f32", "gemm_bf16", "mpi_latency", "mpi_bandwidth", "disk_write", "disk_read", "date", "fom",
        "application", "problem", "platform"})
    EXPECT_TRUE(first.contains(key)) << key;
  EXPECT_EQ(first.at("model_n_params"), 141760);
  EXPECT_EQ(first.at("n_prompt"), 16);
  EXPECT_EQ(first.at("application"), "grist");
  EXPECT_THAT(first.at("command").get<std::string>(), HasSubstr("grist bench --config"));
}

TEST(Bench, MeasuresTrainingCheckpointsAndKernelsWhereAsked) {
  const TemporaryFolder folder;
  const auto rows = lines_of(quiet(bench({"--train", "--sequence", "16", "-b", "2", "--io", folder.path().string(),
                                          "--kernels", "-r", "1", "-o", "jsonl"})));
  EXPECT_THAT(tests_of(rows), testing::ElementsAre("matvec 1 tokens", "matvec 8 tokens", "product 512 tokens",
                                                   "attention decode @ d4096", "attention prefill 512",
                                                   "rms_norm 512 tokens", "train16", "checkpoint write",
                                                   "checkpoint read"));
  for (const auto& row : rows) expect_consistent(row);
  EXPECT_EQ(rows.at(6).at("limit_name"), "gemm");
  EXPECT_EQ(rows.at(7).at("limit_name"), "disk write");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "what was written is removed";
}

TEST(TwoRanksOfBench, ShareAModelAndTellOfTheirMessages) {
  const auto rows =
      lines_of(quiet(bench({"-p", "8", "-n", "2", "-r", "1", "--tp", "2", "--comm", "-o", "jsonl"}), 2));
  for (const auto& row : rows) {
    expect_consistent(row);
    EXPECT_EQ(row.at("ranks"), 2);
    EXPECT_GT(row.at("mpi_bandwidth").get<double>(), 0);
  }
  const auto names = tests_of(rows);
  EXPECT_THAT(names, testing::IsSupersetOf({"all_reduce 4 KiB", "all_gather 1024 KiB", "send/recv 16384 KiB", "pp8",
                                            "tg2"}));
}

TEST(Bench, RefusesInOneLineWhatItCannotMeasure) {
  struct Case {
    Words words;
    std::string said;
  };
  for (const auto& [words, said] : std::vector<Case>{
           {{"bench"}, "nothing to measure: give --model, --config, --kernels or --comm"},
           {{"bench", "--kernels", "-p", "4"}, "-p is of a model: give --model or --config"},
           {{"bench", "--train"}, "--train is of a model"},
           {{"bench", "--io", "."}, "--io writes a model's checkpoint"},
           {bench({"-p", "0", "-n", "0"}), "-p 0 -n 0 leaves nothing to measure"},
           {bench({"-p", "-5"}), "-n-prompt"},
           {bench({"-b", "0"}), "--batch"},
           {bench({"-p", "1,x"}), "x"},
           {bench({"--sequence", "8"}), "--sequence goes with --train"},
           {bench({"--comm"}), "--comm wants two or more ranks"},
           {bench({"-d", "200", "-p", "100"}), "more than the model's 256 positions"},
           {bench({"-p", "4", "--train", "--sequence", "300"}), "--sequence 300 is more than the model's 256 posit"},
           {bench({"-o", "xml"}), "xml"},
           {bench({"--tp", "2"}), "needs 2 ranks, 1 were started"},
           {bench({"--model", "there"}), "excludes"},
       }) {
    const auto outcome = grist::test::grist(words);
    EXPECT_EQ(outcome.code, 2) << said << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(said));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

}  // namespace
