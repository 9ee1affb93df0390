// The table of guesses from a corpus: what follows most often, whoever counted it.
#include "generate/scheduling.hpp"

#include <grist/core/philox.hpp>
#include <grist/generate/ngram_table.hpp>

namespace {

using namespace grist;
using namespace grist::test;

/// What a table says after some sequences.
std::vector<int> likeliest(const NgramTable& table, const std::vector<std::vector<int>>& sequences) {
  const std::vector<std::span<const int>> spans(sequences.begin(), sequences.end());
  return table.likeliest(spans);
}

TEST(NgramTable, KnowsWhatFollowsMostOften) {
  const Communicator self(comm_self());
  NgramCounts counts;
  counts.add(std::vector<int>{1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3, 5, 9, 2, 3, 6, 8, 2, 3, 6, 7, 2, 3, 6});
  const NgramTable table(self, std::move(counts));
  EXPECT_EQ(likeliest(table, {{1, 2, 3}, {7, 7, 1, 2, 3}}), (std::vector<int>{5, 5})) << "after three tokens";
  EXPECT_EQ(likeliest(table, {{4, 2, 3}, {2, 3}}), (std::vector<int>{6, 6})) << "three that are new, or two";
  EXPECT_EQ(likeliest(table, {{2, 3, 6}}), (std::vector<int>{7})) << "of equal ones the first";
  EXPECT_EQ(likeliest(table, {{}, {3}, {3, 2}, {6, 6, 6}}), (std::vector<int>{-1, -1, -1, -1}));
  NgramDrafter drafter(table);
  const std::vector<int> begin{5, 0, 1}, unknown{40, 41, 42};
  const std::vector<DraftQuery> queries{{.ids = begin, .most = 4}, {.ids = unknown, .most = 4}};
  const auto guesses = drafter.propose(queries);
  EXPECT_EQ(guesses[0], (std::vector<int>{2, 3, 5, 0}));
  EXPECT_TRUE(guesses[1].empty());
}

TEST(NgramTable, CountsATextInPiecesAsAWhole) {
  const Communicator self(comm_self());
  const auto text = prompt_of(300);
  NgramCounts whole, pieces;
  whole.add(text);
  for (std::size_t begin = 0; begin < text.size(); begin += 37) {
    const std::size_t before = std::min<std::size_t>(begin, ngram_context);
    const auto count = std::min<std::size_t>(37, text.size() - begin);
    pieces.add(std::span(text).subspan(begin - before, before + count), before);
  }
  EXPECT_EQ(pieces.take(), whole.take());
}

/// A corpus with many ties: what each rank counts must not show.
TEST(NgramTable, IsTheSameWhateverRanksCountedIt) {
  const Communicator ranks(world()), self(comm_self());
  NgramCounts mine, all;
  std::vector<std::vector<int>> sequences;
  for (int document = 0; document < 40; ++document) {
    std::vector<int> ids;
    for (std::uint32_t i = 0; i < 200; ++i)
      ids.push_back(static_cast<int>(philox({{i, static_cast<std::uint32_t>(document), 0, 0}}, 3).word[0] % 9));
    all.add(ids);
    if (document % ranks.size() == ranks.rank()) mine.add(ids);
    for (std::ptrdiff_t end = 0; end < std::ssize(ids); end += 3)
      sequences.emplace_back(ids.begin(), ids.begin() + end);
  }
  const NgramTable spread(ranks, std::move(mine)), alone(self, std::move(all));
  EXPECT_EQ(spread.contexts(), alone.contexts());
  EXPECT_EQ(spread.contexts(), 9 * 9 + 9 * 9 * 9);
  EXPECT_EQ(likeliest(spread, sequences), likeliest(alone, sequences));
}

TEST(NgramTable, MayBeEmpty) {
  const Communicator ranks(world());
  const NgramTable table(ranks, NgramCounts());
  EXPECT_EQ(table.contexts(), 0);
  EXPECT_EQ(likeliest(table, {{1, 2, 3}}), std::vector<int>{-1});
}

}  // namespace
