// grist bench: every result beside its limit, in each format, alone and over MPI.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <format>
#include <map>
#include <regex>
#include <sstream>

namespace {

using namespace grist::test;
using testing::HasSubstr;
using Words = std::vector<std::string>;
using Json = nlohmann::ordered_json;

const std::string small_config = data_file("tiny/llama2/config.json").string();

Words bench(const Words& more) {
  Words words = {"bench", "--config", small_config};
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

using Told = std::vector<std::pair<std::string, std::string>>;

/// Keys of a row and what they say; "*" stands for times, rates, dates, versions and what the machine is, "[2]" for two
/// of them.
Told told(const std::map<std::string, std::string>& otherwise) {
  Told all = {{"build_commit", "*"},
              {"version", "*"},
              {"cpu_info", "*"},
              {"gpu_info", "*"},
              {"backends", "*"},
              {"model_filename", "*"},
              {"model_type", R"("llama 0.142M q8_0")"},
              {"model_size", "151936"},
              {"model_n_params", "141760"},
              {"n_batch", "16"},
              {"n_threads", "1"},
              {"type_k", R"("int8")"},
              {"type_v", R"("int8")"},
              {"n_prompt", "16"},
              {"n_gen", "0"},
              {"n_depth", "0"},
              {"test_time", "*"},
              {"avg_ns", "*"},
              {"stddev_ns", "*"},
              {"avg_ts", "*"},
              {"stddev_ts", "*"},
              {"samples_ns", "[2]"},
              {"samples_ts", "[2]"},
              {"test", R"("pp16")"},
              {"unit", R"("tokens")"},
              {"repetitions", "2"},
              {"median_ts", "*"},
              {"model", R"("llama 0.142M")"},
              {"batch", "1"},
              {"dtype", R"("bf16")"},
              {"weights", R"("q8_0")"},
              {"limit", "*"},
              {"fraction", "*"},
              {"limit_name", "*"},
              {"flops", "3483648.0"},
              {"bytes", "132352.0"},
              {"ranks", "1"},
              {"layout", R"("tp=1")"},
              {"binding", "*"},
              {"backend", "*"},
              {"compiler", "*"},
              {"kokkos_version", "*"},
              {"mpi_version", "*"},
              {"onednn_version", "*"},
              {"command", "*"},
              {"read_bandwidth", "*"},
              {"triad_bandwidth", "*"},
              {"gemm_f32", "*"},
              {"gemm_bf16", "*"},
              {"gemm_int8", "*"},
              {"mpi_latency", "null"},
              {"mpi_bandwidth", "null"},
              {"disk_write", "null"},
              {"disk_read", "null"},
              {"date", "*"},
              {"fom", "*"},
              {"application", R"("grist")"},
              {"problem", R"("llama 0.142M q8_0, pp16, batch 1, bf16, kv int8")"},
              {"platform", "*"}};
  for (auto& [key, said] : all)
    if (const auto found = otherwise.find(key); found != otherwise.end()) said = found->second;
  return all;
}

void expect_told(const Json& row, const Told& all) {
  ASSERT_EQ(row.size(), all.size());
  std::size_t i = 0;
  for (const auto& [key, value] : row.items()) {
    EXPECT_EQ(key, all[i].first);
    const std::string said = value.is_array() ? std::format("[{}]", value.size()) : value.dump();
    EXPECT_EQ(all[i].second == "*" ? "*" : said, all[i].second) << key;
    ++i;
  }
}

const Words small_types = {"--threads", "1", "--dtype", "bf16", "--weights", "q8_0", "--kv-dtype", "int8"};

Words bench_small(const Words& more) {
  Words words = bench(more);
  words.insert(words.end(), small_types.begin(), small_types.end());
  return words;
}

TEST(Bench, MeasuresEachPromptAndGenerationAtEachBatchAndDepth) {
  const auto rows = Json::parse(
      quiet(bench_small({"-p", "16", "-n", "4", "-b", "1,3", "-d", "0,8", "-r", "2", "-o", "json"})));
  Words seen;
  for (const auto& row : rows) {
    expect_consistent(row);
    EXPECT_EQ(row.at("samples_ns").size(), 2U);
    seen.push_back(row.at("batch").dump() + " " + row.at("test").get<std::string>());
  }
  EXPECT_EQ(seen, (Words{"1 pp16", "1 tg4", "1 pp16 @ d8", "1 tg4 @ d8", "3 pp16", "3 tg4", "3 pp16 @ d8",
                         "3 tg4 @ d8"}));
  expect_told(rows.at(0), told({}));
  EXPECT_THAT(rows.at(0).at("command").get<std::string>(), HasSubstr("grist bench --config"));
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
  EXPECT_EQ(rows.at(0).at("problem"), "matvec 1 tokens, 2097152 x 64, bf16");
  EXPECT_EQ(rows.at(3).at("problem"), "attention decode @ d4096, 4 of 4 heads of 16, bf16");
  Words units;
  for (const auto& row : rows) units.push_back(row.at("unit"));
  EXPECT_EQ(units, (Words{"bytes", "bytes", "FLOP", "bytes", "FLOP", "bytes", "tokens", "bytes", "bytes"}))
      << "the same on every machine";
  EXPECT_EQ(rows.at(7).at("limit_name"), "disk write");
  expect_told(rows.at(6), told({{"model_type", R"("llama 0.142M f32")"},
                                {"model_size", "567040"},
                                {"n_batch", "32"},
                                {"n_threads", "*"},
                                {"type_k", R"("")"},
                                {"type_v", R"("")"},
                                {"n_prompt", "0"},
                                {"samples_ns", "[1]"},
                                {"samples_ts", "[1]"},
                                {"test", R"("train16")"},
                                {"repetitions", "1"},
                                {"batch", "2"},
                                {"weights", R"("f32")"},
                                {"limit_name", R"("gemm")"},
                                {"flops", "24305664.0"},
                                {"bytes", "0.0"},
                                {"disk_write", "*"},
                                {"disk_read", "*"},
                                {"problem", R"("llama 0.142M f32, train16, batch 2, bf16")"}}));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "what was written is removed";
}

/// Cells of a line between separators, which are in no text but a quoted one.
Words cells_of(const std::string& line, char separator) {
  Words cells(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    if (c == separator && !quoted) cells.emplace_back();
    else cells.back() += c;
  }
  return cells;
}

TEST(Bench, WritesCsvOfAllButTheSamples) {
  std::istringstream lines(quiet(bench_small({"-p", "16", "-n", "0", "-r", "2", "-o", "csv"})));
  std::string header, line, more;
  ASSERT_TRUE(std::getline(lines, header) && std::getline(lines, line) && !std::getline(lines, more));
  Told all = told({});
  std::erase_if(all, [](const auto& one) { return one.second.starts_with('['); });
  Words keys, cells = cells_of(line, ','), wanted;
  for (const auto& [key, said] : all) keys.push_back(key), wanted.push_back(said == "null" ? "" : said);
  EXPECT_EQ(cells_of(header, ','), keys);
  ASSERT_EQ(cells.size(), wanted.size());
  for (std::size_t i = 0; i < cells.size(); ++i)
    if (wanted[i] == "*") cells[i] = "*";
  EXPECT_EQ(cells, wanted);
}

TEST(Bench, WritesATableOfMeanDeviationAndRepetitions) {
  std::istringstream lines(quiet(bench_small({"-p", "0", "-n", "2", "-d", "4", "-b", "2", "-r", "2"})));
  const auto masked = [](const std::string& text, const char* numbers) {
    return std::regex_replace(std::regex_replace(text, std::regex(numbers), "*"), std::regex(" +"), " ");
  };
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (const bool machine = line.starts_with("machine: "); machine || line.starts_with("build: ")) {
      line = machine ? "machine: *" + line.substr(line.find(", read")) : "build: *";
      line = masked(line, R"( [0-9.]+(e[+-]?[0-9]+)? [TGMk]?)");
      text += std::regex_replace(line, std::regex(", gemm int8.FLOP/s"), "") + "\n";  // where bytes are multiplied
      continue;
    }
    Words cells = cells_of(line, '|');
    if (line.starts_with("| llama")) {
      ASSERT_EQ(cells.size(), 16U) << line;
      cells[4] = " * ";
      for (const std::size_t at : {12U, 13U, 14U}) cells[at] = masked(cells[at], R"([0-9.]+|read|gemm)");
    }
    for (const std::string& cell : cells) text += cell + (&cell == &cells.back() ? "\n" : "|");
  }
  EXPECT_EQ(masked(text, "--+"),
            "| model | size | params | backend | ranks | threads | dtype | kv | batch | test | reps | t/s | limit | % "
            "|\n"
            "| * | *: | *: | * | *: | *: | *: | *: | *: | *: | *: | *: | *: | *: |\n"
            "| llama 0.142M q8_0 | 0.14 MiB | 0.14 M | * | 1 | 1 | bf16 | int8 | 2 | tg2 @ d4 | 2 | * ± * | * * | * "
            "|\n"
            "\nbuild: *\nmachine: *, read*B/s, triad*B/s, gemm f32*FLOP/s, gemm bf16*FLOP/s\n");
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
           {bench({"--kernels", "-d", "4"}), "-d goes with -p or -n"},
           {bench({"--kernels", "-b", "4"}), "-b goes with -p, -n or --train"},
           {bench({"--kernels", "--kv-dtype", "int8"}), "--kv-dtype goes with -p or -n"},
           {bench({"--kernels", "--weights", "q8_0"}), "--weights goes with -p or -n"},
           {bench({"--kernels", "--tp", "1"}), "--tp goes with -p, -n, --train or --io"},
           {bench({"--comm"}), "--comm wants two or more ranks"},
           {bench({"-d", "200", "-p", "100"}), "more than the model's 256 positions"},
           {bench({"-p", "4", "--train", "--sequence", "300"}), "--sequence 300 is more than the model's 256 posit"},
           {bench({"-o", "xml"}), "xml"},
           {bench({"--tp", "2"}), too_few_ranks()},
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
