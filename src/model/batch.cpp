#include <grist/model/batch.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>

namespace grist {

namespace {

Index most_tiles(Index tokens, int sequences, int group) { return tokens * group / layers::attention_tile_rows() + sequences; }

}  // namespace

template <class T>
Batch::Array<T> Batch::take(Index size) {
  const Index at = bytes_;
  bytes_ += size * static_cast<Index>(sizeof(T));
  return {at, size};
}

template <class T>
T* Batch::host(const Array<T>& array) {
  return reinterpret_cast<T*>((host_reaches_memory ? device_.data() : host_.data()) + array.at);
}

Batch::Batch(Index max_tokens, int max_sequences, Index cache_tokens, int group)
    : cache_tokens_(cache_tokens),
      group_(group),
      cache_rows_(take<Index>(max_tokens)),
      kv_begin_(take<Index>(max_sequences)),
      ids_(take<int>(max_tokens)),
      positions_(take<int>(max_tokens)),
      query_begin_(take<int>(max_sequences + 1)),
      kv_length_(take<int>(max_sequences)),
      last_rows_(take<int>(max_sequences)),
      tile_sequence_(take<int>(most_tiles(max_tokens, max_sequences, group))),
      tile_begin_(take<int>(most_tiles(max_tokens, max_sequences, group))),
      device_("batch", bytes_),
      host_("batch", host_reaches_memory ? 0 : bytes_) {}

void Batch::assign(const Exec& exec, std::span<const BatchItem> items) {
  tokens_ = few_ = tiles_ = 0;
  if (items.empty() || std::ssize(items) > kv_begin_.size)
    throw ShapeError("batch: {} sequences, 1 to {} fit", items.size(), kv_begin_.size);
  exec.fence("grist::batch: the last one has been read");
  sequences_ = static_cast<int>(items.size());
  host(query_begin_)[0] = 0;
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
      host(ids_)[tokens_ + i] = item.ids[static_cast<std::size_t>(i)];
      host(positions_)[tokens_ + i] = item.position + i;
      host(cache_rows_)[tokens_ + i] = item.cache_row + item.position + i;
    }
    for (int row = 0; row < count * group_; row += layers::attention_tile_rows()) {
      host(tile_sequence_)[tiles_] = s;
      host(tile_begin_)[tiles_++] = row;
    }
    tokens_ += count;
    host(query_begin_)[s + 1] = static_cast<int>(tokens_);
    host(kv_begin_)[s] = item.cache_row;
    host(kv_length_)[s] = item.position + count;
    host(last_rows_)[s] = static_cast<int>(tokens_) - 1;
  }
  if constexpr (!host_reaches_memory) Kokkos::deep_copy(exec, device_.view(), host_.view());
}

layers::PackedSequences Batch::packed() const {
  return {head(query_begin_, sequences_ + 1), head(kv_begin_, sequences_), head(kv_length_, sequences_),
          head(tile_sequence_, tiles_), head(tile_begin_, tiles_)};
}

}  // namespace grist
