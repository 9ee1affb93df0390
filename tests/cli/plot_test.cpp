// grist plot: what it hands to gnuplot, and what it says where it cannot.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <format>

namespace {

using namespace grist::test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

class Plot : public testing::Test {
protected:
  /// Metrics of so many steps, with an evaluation every tenth one.
  [[nodiscard]] std::string run_of(const std::string& name, int steps, double last) const {
    std::string text;
    for (int step = 1; step <= steps; ++step) {
      const double loss = last + 5 * std::exp(-5.0 * step / steps) + 0.1 * (step % 7 - 3);
      text += std::format("{{\"step\":{},\"loss\":{},\"lr\":1e-3}}\n", step, loss);
      if (step % 10 == 0) text += std::format("{{\"step\":{},\"eval_loss\":{}}}\n", step, loss + 0.3);
    }
    return folder.write(name, text).string();
  }
  /// With `programs` as all of PATH.
  static Outcome plot(const std::string& programs, const Words& words) {
    Words all = {"/usr/bin/env", "PATH=" + programs, GRIST_PROGRAM, "plot"};
    all.insert(all.end(), words.begin(), words.end());
    return run_command(all);
  }
  /// A folder with a gnuplot that keeps its script and draws nothing.
  [[nodiscard]] std::string fake(const std::string& script) const {
    std::filesystem::create_directories(folder / "bin");
    const auto program = folder.write("bin/gnuplot", "#!/bin/bash\n" + script);
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    return (folder / "bin").string();
  }
  /// What stands between "$NAME << END" and END.
  static std::vector<std::string> block(const std::string& script, const std::string& name) {
    std::istringstream text(script.substr(script.find("$" + name + " << END\n")));
    std::vector<std::string> lines;
    std::string line;
    for (std::getline(text, line); std::getline(text, line) && line != "END";) lines.push_back(line);
    return lines;
  }

  TemporaryFolder folder;
  const std::string picture = folder / "loss.svg", kept = folder / "script";
};

TEST_F(Plot, HandsLossesAndHeldOutLossesOfAllFilesToGnuplot) {
  const auto programs = fake("/bin/cp \"$1\" '" + kept + "'; echo picture > '" + picture + ".part'\n");
  const auto outcome = plot(programs, {run_of("small.jsonl", 50, 2), run_of("it's.jsonl", 400, 1.5), "-o", picture});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err + outcome.out, "");
  EXPECT_EQ(contents_of(picture), "picture\n");
  const std::string script = contents_of(kept);
  EXPECT_THAT(script, AllOf(HasSubstr("terminal svg"), HasSubstr("title 'small'"), HasSubstr("title 'small, held-out'"),
                            HasSubstr("title 'it''s'"), HasSubstr("set ylabel 'loss (nats per token)'")));
  EXPECT_EQ(block(script, "loss0").size(), 50U);
  EXPECT_EQ(block(script, "loss0").front(), std::format("1 {:.6g}", 2 + 5 * std::exp(-0.1) - 0.2));
  EXPECT_EQ(block(script, "held0").size(), 5U);
  EXPECT_THAT(script, Not(HasSubstr("$raw0"))) << "fifty points are no noise";
  EXPECT_EQ(block(script, "raw1").size(), 400U);
  EXPECT_EQ(block(script, "loss1").size(), 400U);
  EXPECT_NE(block(script, "loss1")[200], block(script, "raw1")[200]) << "the mean of its neighbours";
  const std::filesystem::directory_iterator left(folder.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 5) << "two files of metrics, bin, the picture, the script we kept";
}

TEST_F(Plot, DrawsALongRunWithAsManyPointsAsAPictureHas) {
  const auto programs = fake("/bin/cp \"$1\" '" + kept + "'; echo > '" + picture + ".part'\n");
  ASSERT_EQ(plot(programs, {run_of("long.jsonl", 30000, 2), "-o", picture}).code, 0);
  const auto points = block(contents_of(kept), "loss0");
  EXPECT_LE(points.size(), 2001U);
  EXPECT_TRUE(points.back().starts_with("30000 ")) << points.back();
}

TEST_F(Plot, SaysInOneLineWhatItCannot) {
  const std::string run = run_of("run.jsonl", 20, 2), nothing = folder / "nowhere";
  const auto programs = fake("echo 'line 0: all is lost' >&2; exit 1\n");
  struct Case {
    std::string programs;
    Words words;
    int code;
    std::string said;
  };
  for (const auto& [path, words, code, said] : std::vector<Case>{
           {nothing, {run, "-o", picture}, 2, "gnuplot is not in PATH"},
           {programs, {run, "-o", picture}, 1, "gnuplot failed: line 0: all is lost"},
           {programs, {run, "-o", folder / "loss.gif"}, 2, "loss.gif: expected a name that ends in .svg, .png or .pdf"},
           {programs, {run, "-o", folder / "no/loss.svg"}, 3, "no/loss.svg.gnuplot: cannot be written"},
           {programs, {folder.write("a.txt", "dear diary\n\n"), "-o", picture}, 3, "a.txt: line 1 is no line"},
           {programs, {folder.write("b.txt", "{\"step\":1}\n"), "-o", picture}, 3, "b.txt: holds no losses"},
       }) {
    const auto outcome = plot(path, words);
    EXPECT_EQ(outcome.code, code) << said << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(said));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(picture));
  }
}

TEST_F(Plot, IsDrawnByGnuplotItself) {
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed";
  const std::string run = run_of("run.jsonl", 300, 2), other = run_of("other.jsonl", 300, 1.5);
  const auto outcome = plot(std::getenv("PATH"), {run, other, "-o", picture});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(contents_of(picture), AllOf(HasSubstr("<svg"), HasSubstr("run, held-out"), HasSubstr("other")));
}

}  // namespace
