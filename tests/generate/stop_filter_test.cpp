// The stop filter: what stands before the first stop string comes out, as early as it can, and nothing else.
#include <grist/generate/stop_filter.hpp>

#include <gtest/gtest.h>

namespace {

using grist::StopFilter;

TEST(StopFilter, WithoutStopsEverythingPassesAtOnce) {
  StopFilter filter({});
  EXPECT_EQ(filter.put("any"), "any");
  EXPECT_EQ(filter.put(""), "");
  EXPECT_EQ(filter.finish(), "");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, CutsAtAStopStringAndDropsWhatFollows) {
  StopFilter filter({"END"});
  EXPECT_EQ(filter.put("before END after"), "before ");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.put("more"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopFilter, HoldsBackOnlyWhatMayBecomeAStopString) {
  StopFilter filter({"<|end|>"});
  EXPECT_EQ(filter.put("hello <"), "hello ");
  EXPECT_EQ(filter.put("|"), "");
  EXPECT_EQ(filter.put("en"), "");
  EXPECT_EQ(filter.put("joy"), "<|enjoy");
  EXPECT_EQ(filter.put("<<|"), "<");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.finish(), "<|");
}

TEST(StopFilter, FindsAStopStringAcrossAnyTwoBorders) {
  const std::string text = "aab aaab\nUser: no";
  for (const auto& [stop, expected] : std::vector<std::pair<std::string, std::string>>{
           {"aaab", "aab "}, {"\nUser:", "aab aaab"}, {"b", "aa"}, {"aabc", text}, {"no", "aab aaab\nUser: "}}) {
    for (std::size_t first = 0; first <= text.size(); ++first) {
      for (std::size_t second = first; second <= text.size(); ++second) {
        StopFilter filter({stop});
        std::string out = filter.put(text.substr(0, first));
        out += filter.put(text.substr(first, second - first));
        out += filter.put(text.substr(second));
        out += filter.finish();
        EXPECT_EQ(out, expected) << "'" << stop << "' with borders at " << first << " and " << second;
        EXPECT_EQ(filter.stopped(), expected != text);
      }
    }
  }
}

TEST(StopFilter, OfSeveralTheFirstInTheTextWins) {
  StopFilter filter({"late", "early", "earl grey"});
  EXPECT_EQ(filter.put("an early, late riser"), "an ");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilter, HoldsTheLongestBeginningOfAnyStop) {
  StopFilter filter({"bc", "abcd"});
  EXPECT_EQ(filter.put("xab"), "x");
  EXPECT_EQ(filter.put("z"), "abz");
}

TEST(StopFilter, ACharacterSplitBetweenPiecesIsHeldAndGivenBackWhole) {
  StopFilter stopping({"\u00e9"});  // C3 A9
  EXPECT_EQ(stopping.put("caf\xC3"), "caf");
  EXPECT_EQ(stopping.put("\xA9 noir"), "");
  EXPECT_TRUE(stopping.stopped());
  StopFilter passing({"\u00e9"});
  EXPECT_EQ(passing.put("cr\xC3"), "cr");
  EXPECT_EQ(passing.put("\xA8me"), "\u00e8me");
  EXPECT_FALSE(passing.stopped());
}

TEST(StopFilter, AnEmptyStopStringStopsNothing) {
  StopFilter filter({""});
  EXPECT_EQ(filter.put("text"), "text");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, FindsTheTextOfASpecialTokenAndShowsNoneOfIt) {
  StopFilter filter({"<|im_end|>"});
  EXPECT_EQ(filter.put("Hello"), "Hello");
  EXPECT_EQ(filter.put_hidden("<|im_start|>"), "");
  EXPECT_EQ(filter.put("you"), "you");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.put_hidden("<|im_end|>"), "");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilter, FindsAStopStringOfShownAndHiddenText) {
  StopFilter filter({"end<|eot|>\n"});
  EXPECT_EQ(filter.put("the end"), "the ");
  EXPECT_EQ(filter.put_hidden("<|eot|>"), "");
  StopFilter other = filter;
  EXPECT_EQ(filter.put("\nmore"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(other.put("s"), "ends") << "what was held back is shown, but for the special token";
  EXPECT_EQ(other.finish(), "");
}

}  // namespace
