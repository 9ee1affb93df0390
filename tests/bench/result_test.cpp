// Rows and their formats, from given numbers.
#include <grist/bench/result.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace {

using namespace grist::bench;
using testing::HasSubstr;
using testing::StartsWith;

Setting setting() {
  Setting s;
  s.build_commit = "abc123", s.version = "0.1.0", s.device = "A \"fast\" processor, of 2 cores", s.backend = "OpenMP";
  s.gemm = "onednn", s.threads = 2, s.ranks = 1, s.model_file = "model.gguf", s.model = "llama 1.1B";
  s.model_bytes = std::uint64_t{2} << 30, s.parameters = 1'100'000'000, s.dtype = s.kv_type = s.weights = "bf16";
  s.machine.read = 50e9, s.machine.triad = 40e9, s.machine.gemm_f32 = 2e11, s.machine.gemm_bf16 = 9e11;
  s.machine.gemm_int8 = 2e12;
  return s;
}

Test decode() {
  Test test;
  test.name = "tg128 @ d512", test.batch = 1, test.pass_tokens = 1, test.generated = 128, test.depth = 512;
  test.amount = 128, test.seconds = {8, 4}, test.limit_seconds = 3.2, test.limit_name = "read";
  test.time = "2026-11-26T14:00:00Z";
  return test;
}

TEST(Row, IsMeanDeviationAndFractionOfItsLimit) {
  const Row row = row_of(setting(), decode());
  EXPECT_DOUBLE_EQ(row.at("avg_ts"), 24) << "the mean of 16 and 32";
  EXPECT_DOUBLE_EQ(row.at("stddev_ts"), std::sqrt(128.0));
  EXPECT_EQ(row.at("avg_ns"), 6'000'000'000);
  EXPECT_EQ(row.at("samples_ns"), (std::vector<std::int64_t>{8'000'000'000, 4'000'000'000}));
  EXPECT_EQ(row.at("samples_ts"), (std::vector<double>{16, 32}));
  EXPECT_DOUBLE_EQ(row.at("limit"), 40);
  EXPECT_DOUBLE_EQ(row.at("fraction"), 0.6);
  EXPECT_EQ(row.at("fom"), row.at("avg_ts"));
  EXPECT_EQ(row.at("date"), "2026-11-26");
  EXPECT_EQ(row.at("repetitions"), 2);
  EXPECT_DOUBLE_EQ(row.at("median_ts"), 24);
  EXPECT_TRUE(row.at("mpi_latency").is_null());
}

std::string problem_of(const Setting& setting, const Test& test) { return row_of(setting, test).at("problem"); }

TEST(Problem, NamesAllThatMakesTheWorkDiffer) {
  EXPECT_EQ(problem_of(setting(), decode()), "llama 1.1B bf16, tg128 @ d512, batch 1, bf16, kv bf16");
  Setting quantized = setting(), small_cache = setting(), in_float = setting();
  quantized.weights = "q8_0", small_cache.kv_type = "int8", in_float.dtype = "f32";
  auto batch = decode();
  batch.batch = 8;
  const std::set<std::string> problems = {problem_of(setting(), decode()), problem_of(quantized, decode()),
                                          problem_of(small_cache, decode()), problem_of(in_float, decode()),
                                          problem_of(setting(), batch)};
  EXPECT_EQ(problems.size(), 5U);
  EXPECT_EQ(row_of(quantized, decode()).at("model_type"), "llama 1.1B q8_0") << "weights as they lie in memory";
}

TEST(Problem, IsTheSameHoweverItIsSharedOut) {
  Setting shared = setting();
  shared.ranks = 4, shared.threads = 1, shared.layout = "pp=2 tp=2";
  EXPECT_EQ(problem_of(shared, decode()), problem_of(setting(), decode()));
}

TEST(Problem, OfAKernelNamesItsSizes) {
  Setting alone = setting();
  alone.model = alone.weights = alone.kv_type = "";
  EXPECT_EQ(problem_of(alone, {.name = "matvec 8 tokens", .sizes = "65536 x 2048", .seconds = {1}}),
            "matvec 8 tokens, 65536 x 2048, bf16");
  EXPECT_EQ(problem_of(alone, {.name = "all_reduce 64 KiB", .seconds = {1}}), "all_reduce 64 KiB, bf16");
}

std::string printed(Output output, int rows) {
  std::ostringstream out;
  Printer printer(out, output);
  for (int i = 0; i < rows; ++i) printer.write(row_of(setting(), decode()));
  printer.end(setting());
  return out.str();
}

TEST(Printer, WritesJsonThatParses) {
  for (const int rows : {0, 1, 3}) {
    const auto json = nlohmann::json::parse(printed(Output::json, rows));
    ASSERT_TRUE(json.is_array());
    EXPECT_EQ(json.size(), static_cast<std::size_t>(rows));
  }
}

TEST(Printer, WritesALineOfJsonForEachRow) {
  std::istringstream lines(printed(Output::jsonl, 2));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count)
    EXPECT_EQ(nlohmann::json::parse(line).at("test"), "tg128 @ d512");
  EXPECT_EQ(count, 2);
}

/// Cells of a line, by the rules of RFC 4180.
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    else if (c == ',' && !quoted) cells.emplace_back();
    else cells.back() += c;
  }
  return cells;
}

TEST(Printer, WritesCsvOfEquallyManyColumns) {
  std::istringstream lines(printed(Output::csv, 2));
  std::string header, line;
  std::getline(lines, header);
  EXPECT_THAT(header, StartsWith("build_commit,version,cpu_info,"));
  EXPECT_THAT(header, testing::EndsWith(",date,fom,application,problem,platform"));
  EXPECT_THAT(header, testing::HasSubstr(",avg_ts,stddev_ts,test,unit,repetitions,median_ts,"));
  int count = 0;
  for (; std::getline(lines, line); ++count) EXPECT_EQ(cells_of(line).size(), cells_of(header).size()) << line;
  EXPECT_EQ(count, 2) << "one header";
  EXPECT_EQ(cells_of(csv_line(row_of(setting(), decode()))).back(), "A fast processor, of 2 cores\n");
}

TEST(Printer, WritesTheTableOfLlamaBenchWithLimits) {
  EXPECT_EQ(printed(Output::markdown, 1),
            "| model                |       size |     params | backend  | ranks | threads | dtype |   kv | batch | "
            "                    test | reps |                t/s |              limit |     % |\n"
            "| -------------------- | ---------: | ---------: | -------- | ----: | ------: | ----: | ---: | ----: | "
            "-----------------------: | ---: | -----------------: | -----------------: | ----: |\n"
            "| llama 1.1B bf16      |   2.00 GiB |     1.10 B | OpenMP   |     1 |       2 |  bf16 | bf16 |     1 | "
            "            tg128 @ d512 |    2 |      24.00 ± 11.31 |         40.00 read |  60.0 |\n"
            "\nbuild: abc123 (0.1.0)\nmachine: A \"fast\" processor, of 2 cores, read 50 GB/s, triad 40 GB/s, gemm f32 "
            "200 GFLOP/s, gemm bf16 900 GFLOP/s, gemm int8 2 TFLOP/s\n");
}

TEST(Machine, LimitsProductsByTheFastestThatCouldServeThem) {
  const Machine widens{.gemm_f32 = 3e11, .gemm_bf16 = 2e11};  // a processor whose products of bf16 are slow
  EXPECT_EQ(widens.gemm(DType::bf16, true), 3e11);
  const Machine all{.gemm_f32 = 2e11, .gemm_bf16 = 4e11, .gemm_int8 = 9e11};
  EXPECT_EQ(all.gemm(DType::f32, true), 2e11) << "tokens of f32 are not rounded to bytes";
  EXPECT_EQ(all.gemm(DType::bf16, false), 4e11);
  EXPECT_EQ(all.gemm(DType::bf16, true), 9e11);
}

}  // namespace
