// Guesses from a corpus: the token that followed the last three most often there, or else the last two. The table is
// counted by all ranks and lies spread over them.
#pragma once

#include <grist/comm/shared_table.hpp>
#include <grist/generate/drafter.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace grist {

/// Tokens that a guess looks back on, at most.
constexpr int ngram_context = 3;

/// How often a token came after two and three others, in one rank's share of a corpus.
class NgramCounts {
public:
  /// Counts the tokens of a text from token `first` on; those before are what they come after.
  void add(std::span<const int> ids, std::size_t first = 0);

  /// Sorted, each context and token once: the key stands for the context, the value holds the token and its count.
  [[nodiscard]] std::vector<TableEntry> take();

private:
  void merge();

  std::vector<TableEntry> counts_;
  std::size_t merged_ = 0;  // the first so many are
};

/// The likeliest token after each context; of equal ones the smallest id. The same whatever ranks counted what.
class NgramTable {
public:
  /// Sums what the ranks have counted. Making and destroying one is collective.
  NgramTable(const Communicator& ranks, NgramCounts counts);

  /// A token for each sequence, after its last three tokens, or where those are not known its last two; -1: neither is.
  [[nodiscard]] std::vector<int> likeliest(std::span<const std::span<const int>> sequences) const;

  /// Contexts that it knows, of all ranks together.
  [[nodiscard]] Index contexts() const { return contexts_; }

private:
  NgramTable(const Communicator& ranks, const std::vector<TableEntry>& mine);

  Index contexts_;
  SharedTable table_;
};

/// Follows the table from each sequence's end.
class NgramDrafter final : public Drafter {
public:
  /// The table must outlive it.
  explicit NgramDrafter(const NgramTable& table) : table_(table) {}
  std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) override;

private:
  const NgramTable& table_;
};

}  // namespace grist
