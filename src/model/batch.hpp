// The tokens of one forward pass: new tokens of several sequences, packed one after the other.
#pragma once

#include <grist/backends/attention.hpp>
#include <grist/model/paged_kv.hpp>

#include <span>
#include <vector>

namespace grist {

/// One sequence's share of a batch.
struct BatchItem {
  std::span<const int> ids;        // its new tokens, one or more
  int position = 0;                // of the first of them
  const KvSequence* kv = nullptr;  // has pages for them; null: without a cache (then for all items), and position is 0
  bool few = false;  // computed by the bandwidth-bound kernels: decode (and what repeats it), short prompts
  int prompt_length = 0;           // of its sequence: RoPE tables that depend on the length count it from the start
  int logits = 1;                  // of the last so many tokens logits are wanted
};

/// A batch in device memory. Items that are few come first. Reused from step to step: warm calls allocate nothing.
class Batch {
public:
  /// `pools`: attention of the layers of each of the cache's pools (kv_pool_windows); layers of one pool have the same
  /// group, heads / kv_heads.
  Batch(const AttentionLimits& limits, Index vocab_size, std::vector<AttentionConfig> pools)
      : Batch(limits, vocab_size, std::move(pools), true) {}

  /// Bytes of device memory that it takes.
  static Index bytes(const AttentionLimits& limits, std::vector<AttentionConfig> pools) {
    return Batch(limits, 0, std::move(pools), false).bytes_;
  }

  /// Throws ShapeError where the items do not fit, InputError for an id outside the vocabulary: then the batch is
  /// empty.
  void assign(const Exec& exec, std::span<const BatchItem> items);

  [[nodiscard]] Index tokens() const { return tokens_; }
  /// Tokens of the items that are few: the first ones.
  [[nodiscard]] Index few() const { return few_; }
  [[nodiscard]] int sequences() const { return sequences_; }
  [[nodiscard]] bool cached() const { return cached_; }
  [[nodiscard]] View1<const int> ids() const { return view(ids_, tokens_); }
  [[nodiscard]] View1<const int> positions() const { return view(positions_, tokens_); }
  /// Of each token's sequence: what comes before it and itself, at least the prompt.
  [[nodiscard]] View1<const int> lengths() const { return view(lengths_, tokens_); }
  /// The rows of each sequence's last tokens, after which logits are wanted.
  [[nodiscard]] View1<const int> last_rows() const { return view(last_rows_, last_tokens_); }
  [[nodiscard]] View1<const int> query_begin() const { return view(query_begin_, sequences_ + 1); }

  /// For attention of the layers of a pool.
  [[nodiscard]] PackedSequences packed(int pool) const;
  /// Page tables of a pool, as in KvPages.
  [[nodiscard]] View1<const int> pages(int pool) const;
  [[nodiscard]] View1<const int> first_pages(int pool) const;
  /// The row of a pool that each token's key and value go to: page * kv_page_rows + row of the page.
  [[nodiscard]] View1<const Index> cache_rows(int pool) const;

  /// Equal for batches that launch the same kernels on as much work: what a recorded graph depends on.
  [[nodiscard]] std::vector<Index> launches() const;

private:
  /// Elements in the block of all arrays.
  template <class T>
  struct Array {
    Index at;  // bytes from the block's begin
    Index size;
  };
  struct Pool {
    AttentionConfig config;
    Array<AttentionItem> items, merges;
    Array<Index> cache_rows;
    Array<int> pages, first_pages;
    AttentionPlan plan;
    Index used_pages = 0;
  };
  Batch(const AttentionLimits& limits, Index vocab_size, std::vector<AttentionConfig> pools, bool allocate);
  /// The next `size` elements of the block.
  template <class T>
  Array<T> take(Index size);
  template <class T>
  [[nodiscard]] T* host(const Array<T>& array) const;
  template <class T>
  [[nodiscard]] View1<const T> view(const Array<T>& array, Index count) const {
    return View1<const T>(reinterpret_cast<const T*>(device_.data() + array.at), count);
  }
  void check(std::span<const BatchItem> items) const;
  void assign_pages(Pool& pool, int number, std::span<const BatchItem> items);

  AttentionLimits limits_;
  Index vocab_size_;
  Index tokens_ = 0, few_ = 0, last_tokens_ = 0;
  int sequences_ = 0;
  bool cached_ = false;
  Index bytes_ = 0;
  std::vector<Pool> pools_;
  Array<int> ids_, positions_, lengths_, query_begin_, kv_length_, last_rows_;
  // The block goes to the device in one piece; where the host reaches it there is no other.
  Buffer<std::byte> device_;
  Buffer<std::byte, Kokkos::SharedHostPinnedSpace> host_;
};

}  // namespace grist
