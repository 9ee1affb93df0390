#include <grist/generate/kept_beginnings.hpp>

#include <algorithm>

namespace grist {
namespace {

bool begins_with(std::span<const int> ids, std::span<const int> begin) {
  return ids.size() >= begin.size() && std::ranges::equal(ids.first(begin.size()), begin);
}

/// Windows may have left pages behind, more of them in one sequence than in the other.
bool reaches_as_far_back(const PagedKv& cache, const KvSequence& kv, const KvSequence& other) {
  for (int pool = 0; pool < cache.pools(); ++pool)
    if (kv.first_page(pool) > other.first_page(pool)) return false;
  return true;
}

}  // namespace

void KeptBeginnings::keep(PagedKv& cache, std::span<const int> ids, const KvSequence& kv) {
  for (auto one = kept_.begin(); one != kept_.end(); ++one)
    if (begins_with(one->ids, ids) && reaches_as_far_back(cache, one->kv, kv))
      return kept_.splice(kept_.end(), kept_, one);
  Beginning more{{ids.begin(), ids.end()}, {}};
  if (!cache.share(more.kv, kv, static_cast<int>(ids.size()))) return;
  std::erase_if(kept_, [&](Beginning& one) {
    const bool held = begins_with(more.ids, one.ids) && reaches_as_far_back(cache, more.kv, one.kv);
    if (held) cache.release(one.kv);
    return held;
  });
  kept_.push_back(std::move(more));
}

std::vector<KeptBeginnings::Found> KeptBeginnings::find(std::span<const int> prompt) const {
  std::vector<Found> found;
  for (const auto& [ids, kv] : kept_) {
    const auto common = std::ranges::mismatch(ids, prompt).in1 - ids.begin();
    if (common >= kv_page_rows) found.push_back({static_cast<int>(common / kv_page_rows * kv_page_rows), &kv});
  }
  return found;
}

void KeptBeginnings::used(const KvSequence* kv) {
  const auto one = std::ranges::find_if(kept_, [&](const Beginning& kept) { return &kept.kv == kv; });
  if (one != kept_.end()) kept_.splice(kept_.end(), kept_, one);
}

bool KeptBeginnings::give_back(PagedKv& cache) {
  if (kept_.empty()) return false;
  cache.release(kept_.front().kv);
  kept_.pop_front();
  return true;
}

}  // namespace grist
