// Guesses of the next tokens for speculative decoding (Leviathan et al. 2023): what followed the last tokens where they
// stood before (prompt lookup, Saxena 2023). The model checks a guess; a wrong one costs time alone.
#pragma once

#include <span>
#include <vector>

namespace grist {

/// At most `most` tokens: those behind the last place, before the end, of the longest run of 2 to 4 tokens at the end.
/// Empty where there is none.
std::vector<int> look_up(std::span<const int> ids, int most);

}  // namespace grist
