// What is read of files of results, and what is refused.
#include <grist/report/results.hpp>

#include <grist/core/errors.hpp>

#include "report/results.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace grist::report;
using grist::InputError;
using grist::test::TemporaryFolder;
using testing::HasSubstr;

const std::string row =
    R"({"application":"grist","problem":"p","platform":"cpu","fom":12.5,"limit":50,"limit_name":"read","ranks":2})";
const std::string peer = R"({"application":"peer","problem":"p","platform":"cpu","avg_ts":25,"ranks":2})";

TEST(ReadResults, TakesArraysAndLinesOfSeveralFiles) {
  const TemporaryFolder folder;
  const auto results = read_results({folder.write("a.json", "[\n" + row + ",\n" + row + "]\n"),
                                     folder.write("b.jsonl", row + "\n\n" + peer + "\n")});
  ASSERT_EQ(results.size(), 4U);
  EXPECT_EQ(results[0].value, 12.5);
  EXPECT_EQ(*results[0].fraction(), 0.25);
  EXPECT_EQ(results[0].ranks, 2);
  EXPECT_EQ(results[3].file, "b.jsonl");
}

TEST(ReadResults, TakesAnObjectWithRowsAndIndentedOnes) {
  const TemporaryFolder folder;
  const auto indented = [](const std::string& text) { return nlohmann::ordered_json::parse(text).dump(1); };
  for (const auto& text : {indented("[" + row + "," + peer + "]"),
                           indented(R"({"date":"today","rows":[)" + row + "," + peer + R"(],"starts":[]})")}) {
    const auto results = read_results({folder.write("a.json", text)});
    ASSERT_EQ(results.size(), 2U) << text;
    EXPECT_EQ(results[1].application, "peer");
  }
  EXPECT_EQ(read_results({folder.write("a.json", indented(row))}).size(), 1U);
}

TEST(ReadResults, TakesCsv) {
  const TemporaryFolder folder;
  const auto results = read_results({folder.write(
      "a.csv", "application,problem,platform,fom,limit,ranks,layout,repetitions\n"
               "\"grist\",\"p, \"\"q\"\"\",\"a\nb\",12.5,,2,\"2\",5\r\n\nslow one,p,cpu,1e2,200,1,,")});
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].problem, "p, \"q\"");
  EXPECT_EQ(results[0].platform, "a\nb");
  EXPECT_EQ(results[0].value, 12.5);
  EXPECT_FALSE(results[0].limit);
  EXPECT_EQ(results[0].ranks, 2);
  EXPECT_EQ(results[0].repetitions, 5);
  EXPECT_EQ(results[0].text("layout"), "2") << "what is quoted is a text";
  EXPECT_EQ(results[1].application, "slow one");
  EXPECT_EQ(*results[1].fraction(), 0.5);
}

TEST(ReadResults, RefusesCsvOfUnequalRows) {
  const TemporaryFolder folder;
  try {
    read_results({folder.write("bad.csv", "application,problem,platform,fom\na,p,c,1\na,p\n")});
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("bad.csv: row 2 has 2 cells, the header has 4"));
  }
}

TEST(ReadResults, RefusesCsvThatEndsWithinQuotes) {
  const TemporaryFolder folder;
  try {
    read_results({folder.write("bad.csv", "application,problem,platform,fom,file\na,p,c,1,\"half")});
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("bad.csv: the quoted cell 'half' has no end"));
  }
}

TEST(ReadResults, TakesPeersAsTheComparisonWritesThem) {
  const TemporaryFolder folder;
  const std::string peers =
      R"({"application":"llama.cpp","version":"b1","settings":"-fa 1","model":"m","weights":"bf16","n_threads":2,)"
      R"("n_ranks":1,"batch":1,"n_prompt":0,"n_gen":32,"n_depth":128,"avg_ts":16,"stddev_ts":1,"median_ts":16.5,)"
      R"("repetitions":5,"samples_ts":[16,17],"date":"2026-11-26","problem":"p","platform":"cpu","fom":16.5})";
  const auto results = read_results({folder.write("peers.jsonl", peers + "\n" + row + "\n")});
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].value, 16.5);
  EXPECT_EQ(results[0].threads, 2);
  EXPECT_EQ(results[0].repetitions, 5);
  EXPECT_FALSE(results[0].limit) << "grist's had other ranks and threads";
}

TEST(ReadResults, CountsNoThreadsOfADevicesHost) {
  const TemporaryFolder folder;
  auto device = nlohmann::json::parse(row);
  device["gpu_info"] = "H200", device["n_threads"] = 16;
  EXPECT_EQ(read_results({folder.write("a.jsonl", device.dump())})[0].threads, 0);
}

TEST(LabelsOf, TellComparableResultsApartByNoMoreThanIsNeeded) {
  std::vector<Result> results = {result("grist", "p", "cpu", 1, {}, 2), result("grist", "p", "cpu", 2, {}, 2),
                                 result("grist", "p", "cpu", 3, {}, 2), result("grist", "q", "cpu", 4),
                                 result("peer", "p", "cpu", 5, {}, 2)};
  for (Result& one : results) one.file = "before.jsonl", one.row = {{"layout", "tp=2"}};
  results[1].row["layout"] = "pp=2", results[2].file = "after.jsonl";
  EXPECT_THAT(labels_of(results), testing::ElementsAre("grist, tp=2, before.jsonl", "grist, pp=2",
                                                       "grist, tp=2, after.jsonl", "grist", "peer"));
}

TEST(SideBySide, PutsPeersBesideEachOther) {
  const auto ordered = side_by_side({result("grist", "p", "cpu", 1), result("grist", "q", "cpu", 2),
                                     result("grist", "p", "cpu", 3, {}, 2), result("peer", "q", "cpu", 4),
                                     result("peer", "p", "cpu", 5)});
  std::vector<double> values;
  for (const Result& one : ordered) values.push_back(one.value);
  EXPECT_THAT(values, testing::ElementsAre(1, 5, 3, 2, 4));
}

TEST(ReadResults, GivesAPeerTheLimitOfItsMachine) {
  const TemporaryFolder folder;
  const auto elsewhere = R"({"application":"peer","problem":"p","platform":"gpu","fom":25,"ranks":2})";
  const auto results = read_results({folder.write("a.jsonl", row + "\n" + peer + "\n" + elsewhere + "\n")});
  EXPECT_EQ(*results[1].fraction(), 0.5);
  EXPECT_EQ(results[1].limit_name, "read");
  EXPECT_FALSE(results[2].fraction()) << "nothing is known of that machine";
}

TEST(ReadResults, TakesTheUnitOfAProblemsOtherRowsAndRefusesTwo) {
  const TemporaryFolder folder;
  const auto of = [](const char* application, const char* unit) {
    return std::format(R"({{"application":"{}","problem":"p","platform":"cpu","fom":25{}}})", application, unit) + "\n";
  };
  const auto bytes = of("a", R"(,"unit":"bytes")");
  const auto results = read_results({folder.write("a.jsonl", of("b", "") + bytes)});
  EXPECT_EQ(results[0].unit, "bytes");
  EXPECT_EQ(read_results({folder.write("b.jsonl", of("b", ""))})[0].unit, "tokens");
  const auto tokens = folder.write("tokens.jsonl", of("b", R"(,"unit":"tokens")"));
  EXPECT_THAT([&] { read_results({folder / "a.jsonl", tokens}); },
              testing::ThrowsMessage<InputError>(
                  HasSubstr("tokens.jsonl: 'unit' of problem 'p' is tokens, in a.jsonl it is bytes")));
}

TEST(ReadResults, SaysInOneLineWhatAFileLacks) {
  const TemporaryFolder folder;
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"", "bad.json: is empty"},
           {"[]", "bad.json: holds no results"},
           {R"({"rows":[]})", "bad.json: holds no results"},
           {"[" + row, "bad.json: is no whole JSON"},
           {row + "\n{\"app\n", "bad.json: line 2 is no JSON"},
           {"[3]", "bad.json: row 1 is no object of results"},
           {row + "\n{\"problem\":\"p\",\"platform\":\"cpu\",\"fom\":1}", "bad.json: row 2: 'application' is missing"},
           {R"({"application":"a","problem":"p","platform":"c"})", "neither 'fom' nor 'avg_ts' is there"},
           {R"({"application":"a","problem":"p","platform":"c","fom":"fast"})", "'fom' is \"fast\", expected a number"},
           {R"({"application":"a","problem":"p","platform":"c","fom":-1})", "'fom' is -1, expected a number, not neg"},
           {R"({"application":"a","problem":"p","platform":"c","fom":1,"ranks":0})", "'ranks' is 0, expected a whole"},
           {R"({"application":"a","problem":"p","platform":"c","fom":1,"n_threads":1e300})", "'n_threads' is 1e+300"},
           {R"({"application":"a","problem":["p"],"platform":"c","fom":1})", "'problem' is [\"p\"], expected a text"},
       }) {
    try {
      read_results({folder.write("bad.json", text)});
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(said));
    }
  }
}

}  // namespace
