#include <grist/model/batch.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

#include <algorithm>
#include <numeric>

namespace grist {

template <class T>
Batch::Array<T> Batch::take(Index size) {
  const Index at = (bytes_ + 15) / 16 * 16;
  bytes_ = at + size * static_cast<Index>(sizeof(T));
  return {at, size};
}

template <class T>
T* Batch::host(const Array<T>& array) const {
  return reinterpret_cast<T*>((host_reaches_memory ? device_.data() : host_.data()) + array.at);
}

Batch::Batch(const AttentionLimits& limits, Index vocab_size, std::vector<AttentionConfig> pools, bool allocate)
    : limits_(limits),
      vocab_size_(vocab_size),
      ids_(take<int>(limits.tokens)),
      positions_(take<int>(limits.tokens)),
      lengths_(take<int>(limits.tokens)),
      query_begin_(take<int>(limits.sequences + 1)),
      kv_length_(take<int>(limits.sequences)),
      last_rows_(take<int>(limits.tokens)) {
  for (auto& config : pools) {
    const Index items = max_attention_items(config, limits), pages = limits.kv_tokens / kv_page_rows + limits.sequences;
    pools_.push_back({config, take<AttentionItem>(items), take<AttentionItem>(items), take<Index>(limits.tokens),
                      take<int>(pages), take<int>(limits.sequences)});
  }
  if (!allocate) return;
  device_ = Buffer<std::byte>("batch", bytes_);
  if constexpr (!host_reaches_memory) host_ = Buffer<std::byte, Kokkos::SharedHostPinnedSpace>("batch", bytes_);
}

void Batch::check(std::span<const BatchItem> items) const {
  if (items.empty() || std::ssize(items) > limits_.sequences)
    throw ShapeError("batch: {} sequences, 1 to {} fit", items.size(), limits_.sequences);
  Index tokens = 0, keys = 0;
  for (std::size_t s = 0; s < items.size(); ++s) {
    const auto& [ids, position, kv, few, prompt_length, logits] = items[s];
    const Index count = std::ssize(ids), length = position + count;
    tokens += count;
    keys += length;
    if (count < 1 || tokens > limits_.tokens)
      throw ShapeError("batch: sequence {} brings {} tokens, {} fit", s, count, limits_.tokens - tokens + count);
    if (logits < 1 || logits > count)
      throw ShapeError("batch: logits after the last {} of {} tokens of sequence {} are wanted", logits, count, s);
    if (keys > limits_.kv_tokens)
      throw ShapeError("batch: the sequences up to {} have {} keys together, {} fit", s, keys, limits_.kv_tokens);
    if ((kv == nullptr) != (items[0].kv == nullptr) || (kv == nullptr && position != 0))
      throw ShapeError("batch: sequence {} at position {} has {} cache, the first one has {}", s, position,
                       kv == nullptr ? "no" : "a", items[0].kv == nullptr ? "none" : "one");
    if (kv != nullptr && (position < 0 || length > kv->length()))
      throw ShapeError("batch: sequence {} wants positions {} to {}, {} are reserved", s, position, length - 1,
                       kv->length());
    if (few && s > 0 && !items[s - 1].few)
      throw ShapeError("batch: sequence {} is few and comes after one that is not", s);
    for (const int id : ids)
      if (id < 0 || id >= vocab_size_)
        throw InputError("batch: sequence {}: token id {} is out of range, the vocabulary has {}", s, id, vocab_size_);
    for (std::size_t pool = 0; kv != nullptr && pool < pools_.size(); ++pool) {
      const int window = pools_[pool].config.window, first_seen = window > 0 ? std::max(0, position - window + 1) : 0;
      if (kv->first_page(static_cast<int>(pool)) > first_seen / kv_page_rows)
        throw ShapeError("batch: sequence {} at position {} sees keys that were given back", s, position);
    }
  }
}

void Batch::assign(const Exec& exec, std::span<const BatchItem> items) {
  tokens_ = few_ = last_tokens_ = 0;
  sequences_ = 0;
  check(items);
  exec.fence("grist::batch: the last one has been read");
  cached_ = items[0].kv != nullptr;
  host(query_begin_)[0] = 0;
  for (const auto& [ids, position, kv, few, prompt_length, logits] : items) {
    std::ranges::copy(ids, host(ids_) + tokens_);
    for (int i = 0; i < static_cast<int>(ids.size()); ++i)
      host(lengths_)[tokens_ + i] = std::max(prompt_length, position + i + 1);
    std::iota(host(positions_) + tokens_, host(positions_) + tokens_ + std::ssize(ids), position);
    tokens_ += std::ssize(ids);
    if (few) few_ = tokens_;
    host(kv_length_)[sequences_] = position + static_cast<int>(ids.size());
    for (int last = logits; last > 0; --last) host(last_rows_)[last_tokens_++] = static_cast<int>(tokens_) - last;
    host(query_begin_)[++sequences_] = static_cast<int>(tokens_);
  }
  const auto count = static_cast<std::size_t>(sequences_);
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    auto& pool = pools_[i];
    if (cached_) assign_pages(pool, static_cast<int>(i), items);
    pool.plan = plan_attention(pool.config, limits_, std::span(host(query_begin_), count + 1),
                               std::span(host(kv_length_), count), host(pool.items), host(pool.merges));
  }
  if constexpr (!host_reaches_memory) Kokkos::deep_copy(exec, device_.view(), host_.view());
}

void Batch::assign_pages(Pool& pool, int number, std::span<const BatchItem> items) {
  pool.used_pages = 0;
  Index token = 0;
  for (std::size_t s = 0; s < items.size(); ++s) {
    const auto& [ids, position, kv, few, prompt_length, logits] = items[s];
    const int first = kv->first_page(number);
    const auto pages = kv->pages(number);
    const int end = position + static_cast<int>(ids.size()), used = (end + kv_page_rows - 1) / kv_page_rows - first;
    host(pool.first_pages)[s] = static_cast<int>(pool.used_pages) - first;
    std::copy_n(pages.begin(), used, host(pool.pages) + pool.used_pages);
    pool.used_pages += used;
    for (int at = position; at < end; ++at)
      host(pool.cache_rows)[token++] =
          Index{pages[static_cast<std::size_t>(at / kv_page_rows - first)]} * kv_page_rows + at % kv_page_rows;
  }
}

PackedSequences Batch::packed(int pool) const {
  const auto& p = pools_[static_cast<std::size_t>(pool)];
  return {query_begin(), view(kv_length_, sequences_), view(p.items, p.plan.items), view(p.merges, p.plan.merges),
          attention_partials(limits_)};  // the same for every batch: recorded graphs know where teams have their memory
}

View1<const int> Batch::pages(int pool) const {
  const auto& p = pools_[static_cast<std::size_t>(pool)];
  return view(p.pages, cached_ ? p.used_pages : 0);
}

View1<const int> Batch::first_pages(int pool) const {
  return view(pools_[static_cast<std::size_t>(pool)].first_pages, cached_ ? sequences_ : 0);
}

View1<const Index> Batch::cache_rows(int pool) const {
  return view(pools_[static_cast<std::size_t>(pool)].cache_rows, cached_ ? tokens_ : 0);
}

std::vector<Index> Batch::launches() const {
  std::vector<Index> sizes{tokens_, few_, sequences_};
  for (const auto& pool : pools_) sizes.insert(sizes.end(), {pool.plan.items, pool.plan.merges});
  return sizes;
}

}  // namespace grist
