#include <grist/model/batch.hpp>

#include <grist/core/errors.hpp>

namespace grist {

template <class T>
Batch::Mirrored<T>::Mirrored(const std::string& label, Index size)
    : device(Kokkos::view_alloc(Kokkos::WithoutInitializing, "grist::batch::" + label), size),
      host(Kokkos::create_mirror_view(device)) {}

Batch::Batch(Index max_tokens, int max_sequences, Index cache_tokens, int group)
    : cache_tokens_(cache_tokens),
      group_(group),
      ids_("ids", max_tokens),
      positions_("positions", max_tokens),
      query_begin_("query_begin", max_sequences + 1),
      kv_length_("kv_length", max_sequences),
      last_rows_("last_rows", max_sequences),
      tile_sequence_("tile_sequence", max_tokens * group / layers::attention_tile_rows() + max_sequences),
      tile_begin_("tile_begin", max_tokens * group / layers::attention_tile_rows() + max_sequences),
      cache_rows_("cache_rows", max_tokens),
      kv_begin_("kv_begin", max_sequences) {}

void Batch::assign(const Exec& exec, std::span<const BatchItem> items) {
  tokens_ = few_ = tiles_ = 0;
  if (items.empty() || items.size() > kv_begin_.host.extent(0))
    throw ShapeError("batch: {} sequences, 1 to {} fit", items.size(), kv_begin_.host.extent(0));
  sequences_ = static_cast<int>(items.size());
  query_begin_.host(0) = 0;
  for (int s = 0; s < sequences_; ++s) {
    const BatchItem& item = items[static_cast<std::size_t>(s)];
    const int count = static_cast<int>(item.ids.size());
    if (count < 1 || tokens_ + count > static_cast<Index>(ids_.host.extent(0)))
      throw ShapeError("batch: sequence {} brings {} tokens, {} fit", s, count,
                       static_cast<Index>(ids_.host.extent(0)) - tokens_);
    if (item.position < 0 || item.cache_row < 0 || item.cache_row + item.position + count > cache_tokens_)
      throw ShapeError("batch: sequence {} wants the cache's rows {} to {}, there are {}", s, item.cache_row,
                       item.cache_row + item.position + count, cache_tokens_);
    if (count <= few_tokens) {
      if (few_ != tokens_) throw ShapeError("batch: sequence {} brings few tokens and comes behind one with many", s);
      few_ += count;
    }
    for (int i = 0; i < count; ++i) {
      ids_.host(tokens_ + i) = item.ids[static_cast<std::size_t>(i)];
      positions_.host(tokens_ + i) = item.position + i;
      cache_rows_.host(tokens_ + i) = item.cache_row + item.position + i;
    }
    for (int row = 0; row < count * group_; row += layers::attention_tile_rows()) {
      tile_sequence_.host(tiles_) = s;
      tile_begin_.host(tiles_++) = row;
    }
    tokens_ += count;
    query_begin_.host(s + 1) = static_cast<int>(tokens_);
    kv_begin_.host(s) = item.cache_row;
    kv_length_.host(s) = item.position + count;
    last_rows_.host(s) = static_cast<int>(tokens_) - 1;
  }
  const auto upload = [&](auto& m) { Kokkos::deep_copy(exec, m.device, m.host); };
  upload(ids_), upload(positions_), upload(query_begin_), upload(kv_length_), upload(last_rows_);
  upload(tile_sequence_), upload(tile_begin_), upload(cache_rows_), upload(kv_begin_);
}

layers::PackedSequences Batch::packed() const {
  return {head(query_begin_, sequences_ + 1), head(kv_begin_, sequences_), head(kv_length_, sequences_),
          head(tile_sequence_, tiles_), head(tile_begin_, tiles_)};
}

}  // namespace grist
