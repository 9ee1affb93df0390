// The tokens of one forward pass: new tokens of several sequences, packed one behind the other.
#pragma once

#include <grist/core/view.hpp>
#include <grist/layers/attention.hpp>

#include <span>
#include <vector>

namespace grist {

/// One sequence's share of a batch.
struct BatchItem {
  std::span<const int> ids;  // its new tokens, one or more
  int position = 0;          // of the first of them
  Index cache_row = 0;       // where its position 0 lies in the KV cache
};

/// Sequences that bring at most so many tokens are computed by the bandwidth-bound kernels.
constexpr int few_tokens = 4;

/// A batch in device memory. Items that bring few tokens must come first. Reused from step to step: warm calls allocate
/// nothing.
class Batch {
public:
  /// For up to `max_tokens` tokens of up to `max_sequences` sequences over a cache of `cache_tokens` rows; `group` is
  /// heads / kv_heads.
  Batch(Index max_tokens, int max_sequences, Index cache_tokens, int group);

  /// Throws ShapeError where the items do not fit.
  void assign(const Exec& exec, std::span<const BatchItem> items);

  [[nodiscard]] Index tokens() const { return tokens_; }
  [[nodiscard]] Index few() const { return few_; }
  [[nodiscard]] int sequences() const { return sequences_; }
  /// Of attention: as many work items as the sequences' query rows fill.
  [[nodiscard]] Index tiles() const { return tiles_; }
  [[nodiscard]] View1<const int> ids() const { return head(ids_, tokens_); }
  [[nodiscard]] View1<const int> positions() const { return head(positions_, tokens_); }
  [[nodiscard]] View1<const Index> cache_rows() const { return head(cache_rows_, tokens_); }
  /// The row of each sequence's last token.
  [[nodiscard]] View1<const int> last_rows() const { return head(last_rows_, sequences_); }
  [[nodiscard]] layers::PackedSequences packed() const;

private:
  /// Elements in the block of all arrays.
  template <class T>
  struct Array {
    Index at;  // bytes from the block's begin
    Index size;
  };
  /// The next `size` elements of the block.
  template <class T>
  Array<T> take(Index size);
  template <class T>
  [[nodiscard]] T* host(const Array<T>& array);
  template <class T>
  [[nodiscard]] View1<const T> head(const Array<T>& array, Index count) const {
    return View1<const T>(reinterpret_cast<const T*>(device_.data() + array.at), count);
  }

  Index cache_tokens_;
  int group_;
  Index tokens_ = 0, few_ = 0, tiles_ = 0;
  int sequences_ = 0;
  Index bytes_ = 0;
  Array<Index> cache_rows_, kv_begin_;
  Array<int> ids_, positions_, query_begin_, kv_length_, last_rows_, tile_sequence_, tile_begin_;
  // The block goes to the device in one piece; where the host reaches it there is no other.
  Buffer<std::byte> device_;
  Buffer<std::byte, Kokkos::SharedHostPinnedSpace> host_;
};

}  // namespace grist
