// Guesses from the sequence itself: what followed the last tokens where they stood before (prompt lookup, Saxena 2023).
#pragma once

#include <grist/generate/drafter.hpp>

#include <span>
#include <vector>

namespace grist {

/// At most `most` tokens: those behind the last place, before the end, of the longest run of 2 to 4 tokens at the end.
/// Empty where there is none.
std::vector<int> look_up(std::span<const int> ids, int most);

/// look_up() in each sequence.
class PromptLookup final : public Drafter {
public:
  std::vector<std::vector<int>> propose(std::span<const DraftQuery> sequences) override;
};

}  // namespace grist
