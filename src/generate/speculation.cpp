#include <grist/generate/speculation.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Pages for tokens before `end`, anew from what is cached: of a window the keys stay that the first of the new tokens
/// sees. False where they are not free: then it has those for the tokens that it knows.
bool extend(PagedKv& cache, CachedTokens& tokens, int end) {
  cache.truncate(tokens.kv, tokens.cached);
  if (cache.reserve(tokens.kv, end)) return true;
  cache.reserve(tokens.kv, static_cast<int>(tokens.ids.size()));
  return false;
}

}  // namespace

void Speculation::guess(PagedKv& cache, std::span<const Candidate> candidates, Index pass_left, Index cache_left) {
  std::vector<DraftQuery> queries;
  for (const auto& candidate : candidates) queries.push_back(candidate.query);
  if (queries.empty()) return;
  auto proposed = drafter_->propose(queries);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    auto& guess = proposed[i];
    auto& tokens = *candidates[i].tokens;
    const auto most = std::min<Index>({candidates[i].query.most, pass_left, cache_left, std::ssize(guess)});
    guess.resize(static_cast<std::size_t>(std::max<Index>(most, 0)));
    if (guess.empty() || !extend(cache, tokens, static_cast<int>(tokens.ids.size() + guess.size()))) continue;
    pass_left -= most;
    cache_left -= most;
    tokens.ids.insert(tokens.ids.end(), guess.begin(), guess.end());
    guessed_[candidates[i].query.sequence] = std::move(guess);
  }
}

int Speculation::guessed(int sequence) const {
  const auto found = guessed_.find(sequence);
  return found == guessed_.end() ? 0 : static_cast<int>(found->second.size());
}

std::vector<int> Speculation::verify(PagedKv& cache, int sequence, CachedTokens& tokens,
                                     std::span<const layers::Choice> choices, std::string_view name) {
  const auto node = guessed_.extract(sequence);
  const auto guessed = node.empty() ? std::vector<int>() : node.mapped();
  tokens.ids.resize(tokens.ids.size() - guessed.size());
  std::vector<int> chosen;
  for (const auto& choice : choices) {
    chosen.push_back(Sampler::token(choice, name));
    if (chosen.size() > guessed.size() || chosen.back() != guessed[chosen.size() - 1]) break;
  }
  tokens.forget(cache, static_cast<int>(tokens.ids.size() + chosen.size()) - 1);
  return chosen;
}

void Speculation::forget(int sequence, CachedTokens& tokens) {
  tokens.ids.resize(tokens.ids.size() - static_cast<std::size_t>(guessed(sequence)));
  guessed_.erase(sequence);
  if (drafter_) drafter_->forget(sequence);
}

}  // namespace grist
