#include <grist/generate/cached_tokens.hpp>

#include <algorithm>

namespace grist {
namespace {

/// Tokens that were computed one by one are computed again in pieces of at most so many.
constexpr int replayed_at_once = 64;

}  // namespace

Piece CachedTokens::next(int most, int prompt_length) const {
  const auto before = std::ranges::find_if(pieces, [&](const Piece& piece) { return piece.end > cached; });
  if (before != pieces.end()) {
    const int largest = before->few ? std::min(replayed_at_once, most) : before->end;
    return {cached, std::min(before->end, cached + largest), before->few, before->prompt_length};
  }
  const int count = std::min(most, static_cast<int>(ids.size()) - cached);
  return {cached, cached + count, count <= few_tokens, prompt_length};
}

void CachedTokens::add(const Piece& piece) {
  cached = piece.end;
  if (pieces.empty() || pieces.back().end <= piece.begin) {
    Piece* const last = pieces.empty() ? nullptr : &pieces.back();
    if (last != nullptr && last->few && piece.few && last->prompt_length == piece.prompt_length)
      last->end = piece.end;
    else
      pieces.push_back(piece);
  }
}

void CachedTokens::forget(PagedKv& cache, int length) {
  while (!pieces.empty() && pieces.back().begin >= length) pieces.pop_back();
  if (!pieces.empty()) pieces.back().end = std::min(pieces.back().end, length);
  // Pages may have been reserved for tokens that were never computed: those go too.
  cached = std::min(cached, length);
  if (kv.length() > cached) cached = cache.truncate(kv, cached);
}

void CachedTokens::truncate(PagedKv& cache, int length) {
  ids.resize(std::min(ids.size(), static_cast<std::size_t>(length)));
  forget(cache, length);
}

void CachedTokens::release(PagedKv& cache) {
  cache.release(kv);
  cached = 0;
}

}  // namespace grist
