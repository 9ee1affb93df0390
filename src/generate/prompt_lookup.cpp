#include <grist/generate/prompt_lookup.hpp>

#include <algorithm>

namespace grist {

std::vector<int> look_up(std::span<const int> ids, int most) {
  for (std::size_t length = 4; length >= 2; --length) {
    if (ids.size() <= length || most < 1) continue;
    const auto end = ids.last(length);
    const auto before = ids.first(ids.size() - 1);  // so that a token follows
    const auto found = std::ranges::find_end(before, end);
    if (found.empty()) continue;
    const auto rest = ids.subspan(static_cast<std::size_t>(found.end() - before.begin()));
    return {rest.begin(), rest.begin() + std::min<std::ptrdiff_t>(most, std::ssize(rest))};
  }
  return {};
}

std::vector<std::vector<int>> PromptLookup::propose(std::span<const DraftQuery> sequences) {
  std::vector<std::vector<int>> guesses;
  for (const auto& query : sequences) guesses.push_back(look_up(query.ids, query.most));
  return guesses;
}

}  // namespace grist
