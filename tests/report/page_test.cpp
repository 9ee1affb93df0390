// The page and its pictures hold the numbers, and no text of a file becomes markup.
#include <grist/report/page.hpp>
#include <grist/report/plots.hpp>
#include <grist/report/svg.hpp>

#include "report/results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <regex>

namespace {

using namespace grist::report;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::vector<Result> results() {
  std::vector<Result> all = {result("grist", "tg128", "cpu <fast & \"new\">", 41.5, 50),
                             result("grist", "tg128", "gpu", 800, 1000),
                             result("peer's", "tg128", "cpu <fast & \"new\">", 20, 50),
                             result("grist", "tg128", "gpu", 1440, 2000, 2)};
  all[0].flops = 2e9, all[0].bytes = 2e9, all[0].seconds = 0.05, all[0].limit_name = "read";
  all[0].row = {{"read_bandwidth", 50e9}, {"gemm_f32", 2e11}, {"gemm_bf16", 9e11}, {"compiler", "GNU 16"}};
  return all;
}

TEST(Page, HoldsTheNumbersAndEveryPart) {
  const std::string html = page(results());
  EXPECT_THAT(html, AllOf(HasSubstr("41.50 t/s"), HasSubstr("83.0 %"), HasSubstr("<h2>Machines</h2>"),
                          HasSubstr("<h2>Rooflines</h2>"), HasSubstr("<h2>Scaling</h2>"),
                          HasSubstr("<h2>Performance portability</h2>"), HasSubstr("900 GFLOP/s"),
                          HasSubstr("90.0 %"), HasSubstr("GNU 16")));
  // grist: 0.83 and 0.8 of the limits.
  EXPECT_THAT(html, HasSubstr(std::format("<td class=\"n\">{:.3f}</td>", 2 / (1 / 0.83 + 1 / 0.8))));
}

TEST(Page, IsOneFileThatPhonesAndPrintersTake) {
  const std::string html = page(results());
  EXPECT_THAT(html, AllOf(HasSubstr("name=\"viewport\""), HasSubstr("@media print")));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("src=")), Not(HasSubstr("href=")),
                          Not(HasSubstr("url("))));
}

TEST(Page, EscapesAllTexts) {
  auto hostile = results();
  for (Result& result : hostile) {
    const std::string text = "</td><script>alert('&')</script>\x01";
    result.application += text, result.problem += text, result.platform += text, result.limit_name = text;
    result.unit = text, result.date = text;
    result.row["compiler"] = text, result.row["build_commit"] = text;
  }
  EXPECT_THAT(page(hostile), AllOf(Not(HasSubstr("<script")), Not(HasSubstr("\x01"))));
  EXPECT_THAT(bars(hostile), Not(HasSubstr("<script")));
}

TEST(Page, LeavesOutWhatOneResultCannotShow) {
  const std::string html = page({result("grist", "p", "cpu", 3)});
  EXPECT_THAT(html, AllOf(HasSubstr("3.00 t/s"), Not(HasSubstr("Scaling")), Not(HasSubstr("Rooflines")),
                          Not(HasSubstr("portability"))));
}

TEST(Bars, AreAsLongAsTheirPartOfTheLimit) {
  const std::string svg = bars({result("grist", "p", "cpu", 25, 50), result("grist", "p", "cpu", 50, 50)});
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, AllOf(HasSubstr("width=\"182.0\" height=\"10.0\" fill=\"#0072B2\""),
                         HasSubstr("width=\"364.0\" height=\"10.0\" fill=\"#0072B2\""), HasSubstr("50 % of limit")));
}

TEST(Bars, OfNothingHaveNoLength) {
  const std::string svg = bars({result("grist", "p", "cpu", 0), result("peer", "p", "cpu", 0)});
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(Bars, OfSeveralApplicationsStandSideBySideWithTheirRatioToTheBestOther) {
  const std::string svg = bars({result("grist", "p", "cpu", 30, 50), result("grist", "q", "cpu", 1, 2),
                                result("grist", "p", "cpu", 55, 100, 2), result("peer", "p", "cpu", 40, 50)});
  const auto at = [&](const std::string& words) {
    EXPECT_THAT(svg, HasSubstr(words));
    return svg.find(words);
  };
  const std::vector<std::size_t> places = {at(">cpu, 2 threads<"), at("60 % of limit, 0.75 x peer"),
                                           at("80 % of limit, 1.33 x peer"), at(">cpu, 2 ranks x 2 threads<"),
                                           at("55 % of limit<"), at(">q<")};
  EXPECT_TRUE(std::ranges::is_sorted(places)) << svg;
}

/// Words of an SVG with the places where they stand.
std::vector<std::pair<std::string, std::pair<double, double>>> words_of(const std::string& svg) {
  std::vector<std::pair<std::string, std::pair<double, double>>> words;
  const std::regex text("<text x=\"([0-9.-]+)\" y=\"([0-9.-]+)\"[^>]*>([^<]*)</text>");
  for (std::sregex_iterator at(svg.begin(), svg.end(), text), end; at != end; ++at)
    words.push_back({(*at)[3], {std::stod((*at)[1]), std::stod((*at)[2])}});
  return words;
}

TEST(Rooflines, AreOnePerPartOfAMachineAndNameEqualPointsApart) {
  auto all = results();
  for (Result& one : all) one.row = all[0].row, one.flops = 2e9, one.bytes = 2e9, one.seconds = 0.05;
  all[2].platform = all[0].platform, all[1].platform = all[0].platform, all[1].threads = 1;
  const auto pictures = rooflines(all);
  ASSERT_EQ(pictures.size(), 3U) << "2 threads, 1 thread, 2 ranks x 2 threads";
  EXPECT_THAT(pictures[0],
              AllOf(HasSubstr("2 threads<"), HasSubstr("read 50 GB/s, f32 200 GFLOP/s, bf16 900 GFLOP/s")));
  std::vector<std::pair<double, double>> names;
  for (const auto& [word, place] : words_of(pictures[0]))
    if (place.second < 254 && (word == "1" || word == "2")) names.push_back(place);
  ASSERT_EQ(names.size(), 2U);
  EXPECT_NE(names[0], names[1]);
}

TEST(Wrapped, BreaksAtSpacesAndCutsNoCharacter) {
  EXPECT_THAT(wrapped("one two three", 8), testing::ElementsAre("one two", "three"));
  EXPECT_THAT(wrapped("one two", 7), testing::ElementsAre("one two"));
  EXPECT_THAT(wrapped("äääää", 5), testing::ElementsAre("ää", "ää", "ä"));
  EXPECT_THAT(wrapped("", 5), testing::ElementsAre(""));
}

TEST(Csv, HasP3sColumns) {
  EXPECT_EQ(csv({result("a \"b\"", "p", "cpu", 25, 50)}),
            "date,fom,application,problem,platform,test,unit,ranks,n_threads,stddev_ts,repetitions,limit,limit_name,"
            "fraction,best_peer_ratio,file\n"
            "\"\",25,\"a \"\"b\"\"\",\"p\",\"cpu\",\"\",\"tokens\",1,2,0,0,50,\"\",0.5,,\"\"\n");
}

TEST(Escaped, LeavesNoMarkup) { EXPECT_EQ(escaped("<a b=\"c\">'&"), "&lt;a b=&quot;c&quot;&gt;&#39;&amp;"); }

}  // namespace
