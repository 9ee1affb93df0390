// What is read of files of results, and what is refused.
#include <grist/report/results.hpp>

#include <grist/core/errors.hpp>

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

TEST(ReadResults, GivesAPeerTheLimitOfItsMachine) {
  const TemporaryFolder folder;
  const auto elsewhere = R"({"application":"peer","problem":"p","platform":"gpu","fom":25,"ranks":2})";
  const auto results = read_results({folder.write("a.jsonl", row + "\n" + peer + "\n" + elsewhere + "\n")});
  EXPECT_EQ(*results[1].fraction(), 0.5);
  EXPECT_EQ(results[1].limit_name, "read");
  EXPECT_FALSE(results[2].fraction()) << "nothing is known of that machine";
}

TEST(ReadResults, SaysInOneLineWhatAFileLacks) {
  const TemporaryFolder folder;
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"", "bad.json: is empty"},
           {"[]", "bad.json: holds no results"},
           {"[" + row, "bad.json: is no whole JSON"},
           {row + "\n{\"app\n", "bad.json: line 2 is no JSON"},
           {"[3]", "bad.json: row 1 is no object of results"},
           {row + "\n{\"problem\":\"p\",\"platform\":\"cpu\",\"fom\":1}", "bad.json: row 2: 'application' is missing"},
           {R"({"application":"a","problem":"p","platform":"c"})", "neither 'fom' nor 'avg_ts' is there"},
           {R"({"application":"a","problem":"p","platform":"c","fom":"fast"})", "'fom' is \"fast\", expected a number"},
           {R"({"application":"a","problem":"p","platform":"c","fom":-1})", "'fom' is -1, expected a number, not neg"},
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
