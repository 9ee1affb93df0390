#include <grist/model/batch.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

namespace grist {

namespace {

Index most_tiles(Index tokens, int sequences, int group) { return tokens * group / layers::attention_tile_rows() + sequences; }

/// Bytes of all arrays of a batch.
Index block_bytes(Index tokens, int sequences, int group) {
  const Index numbers = tokens + sequences;                                                // Index
  const Index ints = 2 * tokens + 3 * Index{sequences} + 1 + 2 * most_tiles(tokens, sequences, group);
  return numbers * static_cast<Index>(sizeof(Index)) + ints * static_cast<Index>(sizeof(int));
}

}  // namespace

template <class T>
Batch::Array<T> Batch::take(Index size) {
  const Index at = used_;
  used_ += size * static_cast<Index>(sizeof(T));
  std::byte* const host = host_reaches_memory ? device_.data() : host_.data();
  return {reinterpret_cast<T*>(host + at), reinterpret_cast<T*>(device_.data() + at), size};
}

Batch::Batch(Index max_tokens, int max_sequences, Index cache_tokens, int group)
    : cache_tokens_(cache_tokens),
      group_(group),
      device_("batch", block_bytes(max_tokens, max_sequences, group)),
      host_(Kokkos::view_alloc(Kokkos::WithoutInitializing, "grist::batch"), host_reaches_memory ? 0 : device_.size()),
      cache_rows_(take<Index>(max_tokens)),
      kv_begin_(take<Index>(max_sequences)),
      ids_(take<int>(max_tokens)),
      positions_(take<int>(max_tokens)),
      query_begin_(take<int>(max_sequences + 1)),
      kv_length_(take<int>(max_sequences)),
      last_rows_(take<int>(max_sequences)),
      tile_sequence_(take<int>(most_tiles(max_tokens, max_sequences, group))),
      tile_begin_(take<int>(most_tiles(max_tokens, max_sequences, group))) {}

void Batch::assign(const Exec& exec, std::span<const BatchItem> items) {
  tokens_ = few_ = tiles_ = 0;
  if (items.empty() || std::ssize(items) > kv_begin_.size)
    throw ShapeError("batch: {} sequences, 1 to {} fit", items.size(), kv_begin_.size);
  exec.fence("grist::batch: the last one has been read");
  sequences_ = static_cast<int>(items.size());
  query_begin_.host[0] = 0;
  for (int s = 0; s < sequences_; ++s) {
    const BatchItem& item = items[static_cast<std::size_t>(s)];
    const int count = static_cast<int>(item.ids.size());
    if (count < 1 || tokens_ + count > ids_.size)
      throw ShapeError("batch: sequence {} brings {} tokens, {} fit", s, count, ids_.size - tokens_);
    if (item.position < 0 || item.cache_row < 0 || item.cache_row + item.position + count > cache_tokens_)
      throw ShapeError("batch: sequence {} wants the cache's rows {} to {}, there are {}", s, item.cache_row,
                       item.cache_row + item.position + count, cache_tokens_);
    if (count <= few_tokens) {
      if (few_ != tokens_) throw ShapeError("batch: sequence {} brings few tokens and comes behind one with many", s);
      few_ += count;
    }
    for (int i = 0; i < count; ++i) {
      ids_.host[tokens_ + i] = item.ids[static_cast<std::size_t>(i)];
      positions_.host[tokens_ + i] = item.position + i;
      cache_rows_.host[tokens_ + i] = item.cache_row + item.position + i;
    }
    for (int row = 0; row < count * group_; row += layers::attention_tile_rows()) {
      tile_sequence_.host[tiles_] = s;
      tile_begin_.host[tiles_++] = row;
    }
    tokens_ += count;
    query_begin_.host[s + 1] = static_cast<int>(tokens_);
    kv_begin_.host[s] = item.cache_row;
    kv_length_.host[s] = item.position + count;
    last_rows_.host[s] = static_cast<int>(tokens_) - 1;
  }
  if constexpr (!host_reaches_memory) Kokkos::deep_copy(exec, device_.view(), host_);
}

layers::PackedSequences Batch::packed() const {
  return {head(query_begin_, sequences_ + 1), head(kv_begin_, sequences_), head(kv_length_, sequences_),
          head(tile_sequence_, tiles_), head(tile_begin_, tiles_)};
}

}  // namespace grist
