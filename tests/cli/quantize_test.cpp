// grist convert --quantize, --weights q8_0 and --kv-dtype int8 as a user meets them.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;

const std::string sample = data_file("text/sample.txt");

double perplexity(const std::vector<std::string>& options) {
  std::vector<std::string> words = {"perplexity", "--file", sample, "--context", "64", "--windows", "4"};
  words.insert(words.end(), options.begin(), options.end());
  const auto outcome = grist::test::grist(words);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto at = outcome.out.find("perplexity ");
  return at == std::string::npos ? NAN : std::stod(outcome.out.substr(at + 11));
}

TEST(Quantized, FoldersBecomeFilesOfTheSamePerplexityAndTheseOthers) {
  const TemporaryFolder folder;
  const std::string file = folder / "model.gguf", again = folder / "again.gguf";
  const auto outcome = grist::test::grist({"convert", "--quantize", "q8_0", tiny(), "--out", file});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("model.gguf: written"));
  const double whole = perplexity({"--model", tiny(), "--dtype", "f32"});
  EXPECT_NEAR(perplexity({"--model", file, "--dtype", "f32"}), whole, 0.01 * whole);
  EXPECT_NEAR(perplexity({"--model", tiny(), "--dtype", "f32", "--weights", "q8_0"}), whole, 0.01 * whole);
  const auto requantized = grist::test::grist({"convert", file, again, "--quantize", "q4_0"});
  EXPECT_EQ(requantized.code, 0);
  EXPECT_THAT(requantized.err, AllOf(HasSubstr("grist: note:"), HasSubstr("were q8_0 before")));
  EXPECT_LT(std::filesystem::file_size(again), std::filesystem::file_size(file));
  EXPECT_NEAR(perplexity({"--model", again, "--dtype", "f32"}), whole, 0.1 * whole);
}

TEST(Quantized, WeightsTakeLessMemoryByInfo) {
  const auto weights = [](const std::string& how) {
    const auto table = quiet({"info", "--model", tiny(), "--weights", how});
    const auto row = table.rfind("\n    0     0");
    return std::stod(table.substr(row + 12));  // KiB, MiB in one unit at these sizes
  };
  EXPECT_LT(weights("q8_0"), 0.6 * weights("bf16"));
  EXPECT_LT(weights("q4_0"), 0.8 * weights("q8_0"));
}

TEST(Quantized, ACacheInInt8ScoresTheSame) {
  const double whole = perplexity({"--model", tiny(), "--dtype", "f32"});
  const double int8 = perplexity({"--model", tiny(), "--dtype", "f32", "--kv-dtype", "int8"});
  EXPECT_NEAR(int8, whole, 0.01 * whole);
  EXPECT_NE(int8, whole);
  EXPECT_THAT(quiet({"info", "--model", tiny(), "--kv-dtype", "int8"}), HasSubstr("keys and values in int8"));
}

TEST(Quantized, RefusalsAreOneLine) {
  const TemporaryFolder folder;
  const std::string to = folder / "x.gguf", there = folder.write("there.gguf", "mine");
  const auto refuse = [](const std::vector<std::string>& words, int code, const std::string& part) {
    const auto outcome = grist::test::grist(words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(part));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  };
  refuse({"convert", "--quantize", "q5_k", tiny(), "--out", to}, 2, "--quantize");
  refuse({"convert", "--quantize", "q8_0", tiny()}, 2, "--out");
  refuse({"convert", "--quantize", "q8_0", tiny(), "--out", to, "--dtype", "f32"}, 2, "--dtype");
  refuse({"convert", "--quantize", "q8_0", tiny(), "--out", there}, 2, "already there");
  refuse({"convert", "--quantize", "q8_0", data_file("tiny/phi"), "--out", to}, 3, "'phi'");
  refuse({"convert", "--quantize", "q8_0", data_file("tiny/llama_bias"), "--out", to}, 3, "tokenizer");
  refuse({"generate", "--model", tiny(), "--prompt", "a", "--weights", "q3_k"}, 2, "--weights");
  EXPECT_FALSE(std::filesystem::exists(to));
  EXPECT_EQ(contents_of(there), "mine");
}

}  // namespace
