#include <grist/generate/kept_beginnings.hpp>

#include <algorithm>
#include <map>

namespace grist {
namespace {

/// What tokens have in common with kept beginnings. Beginnings of one prompt are compared once.
class Common {
public:
  explicit Common(std::span<const int> ids) : ids_(ids) {}

  int with(const KeptBeginnings::Ids& kept) {
    const auto [found, first] = by_prompt_.try_emplace(kept.prompt.get(), 0);
    if (first) found->second = static_cast<int>(std::ranges::mismatch(*kept.prompt, ids_).in2 - ids_.begin());
    return std::min(found->second, kept.length);
  }

private:
  std::span<const int> ids_;
  std::map<const std::vector<int>*, int> by_prompt_;
};

/// Windows may have left pages behind, more of them in one sequence than in the other.
bool reaches_as_far_back(const PagedKv& cache, const KvSequence& kv, const KvSequence& other) {
  for (int pool = 0; pool < cache.pools(); ++pool)
    if (kv.first_page(pool) > other.first_page(pool)) return false;
  return true;
}

}  // namespace

void KeptBeginnings::keep(PagedKv& cache, const Ids& ids, const KvSequence& kv) {
  Common common(std::span(*ids.prompt).first(static_cast<std::size_t>(ids.length)));
  for (auto one = kept_.begin(); one != kept_.end(); ++one)
    if (common.with(one->ids) == ids.length && reaches_as_far_back(cache, one->kv, kv))
      return kept_.splice(kept_.end(), kept_, one);
  Beginning more{ids, {}};
  if (!cache.share(more.kv, kv, ids.length)) return;
  std::erase_if(kept_, [&](Beginning& one) {
    const bool held = common.with(one.ids) == one.ids.length && reaches_as_far_back(cache, more.kv, one.kv);
    if (held) cache.release(one.kv);
    return held;
  });
  kept_.push_back(std::move(more));
}

std::vector<KeptBeginnings::Found> KeptBeginnings::find(std::span<const int> prompt) const {
  std::vector<Found> found;
  Common common(prompt);
  for (const auto& [ids, kv] : kept_)
    if (const int pages = common.with(ids) / kv_page_rows; pages > 0) found.push_back({pages * kv_page_rows, &kv});
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
