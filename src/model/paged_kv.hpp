// Keys and values of past tokens, in pages of kv_page_rows rows. The caller owns it: several for one model do not
// disturb each other, nor do several sequences of one.
#pragma once

#include <grist/backends/attention.hpp>
#include <grist/model/sharding.hpp>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace grist {

class Batch;

/// What one layer caches for each token: a key and a value per KV head of this rank.
struct KvLayer {
  int kv_heads = 0;
  int head_dim = 0;
  int window = 0;  // keys that a query sees; 0: all
};

/// Layers of equal windows share a pool of pages: pool_windows()[pool_of(layer)] is the layer's window. In order of
/// their first layer.
std::vector<int> kv_pool_windows(std::span<const KvLayer> layers);

/// Sizes that a cache is made for.
struct KvLimits {
  Index tokens = 0;  // of all sequences together: the sum of their largest lengths
  int sequences = 1;
  Index batch_tokens = 512;  // that one sequence brings at most in one forward pass
};

/// The pages of one sequence. Made and given back by a PagedKv; not copied, because a PagedKv counts who has a page.
class KvSequence {
public:
  KvSequence() = default;
  KvSequence(KvSequence&& other) noexcept : KvSequence() { *this = std::move(other); }
  KvSequence& operator=(KvSequence&& other) noexcept {
    pools_.swap(other.pools_);
    std::swap(length_, other.length_);
    return *this;
  }

  /// Positions 0 ... length() - 1 are cached, or are being computed by the pass that they were reserved for.
  [[nodiscard]] int length() const { return length_; }
  /// Its pages of a pool: entry e holds positions (first_page(pool) + e) * kv_page_rows ... Those before were given
  /// back.
  [[nodiscard]] std::span<const int> pages(int pool) const { return pools_[static_cast<std::size_t>(pool)].pages; }
  [[nodiscard]] int first_page(int pool) const { return pools_[static_cast<std::size_t>(pool)].first; }

private:
  friend class PagedKv;
  struct Pages {
    int first = 0;
    std::vector<int> pages;
  };
  std::vector<Pages> pools_;
  int length_ = 0;
};

/// All ranks count the pages of all pools alike; a rank allocates those of its stage's layers.
class PagedKv {
public:
  /// `layers`: of the whole model, with this rank's KV heads; `held`: those of this stage. Throws MemoryError.
  PagedKv(KvType type, std::vector<KvLayer> layers, Range held, const KvLimits& limits);

  /// Bytes that such a cache takes, for planning.
  static std::uint64_t bytes(KvType type, std::span<const KvLayer> layers, Range held, const KvLimits& limits);

  /// Gives the sequence pages for positions before `length` (more than it has), for tokens sequence.length() ... length
  /// - 1 of the next pass, and takes back pages that no query from sequence.length() on sees. False where not enough
  /// are free: then nothing has changed.
  bool reserve(KvSequence& sequence, int length);

  /// Gives an empty sequence the first `length` positions of another, whole pages of them, which both have from then
  /// on. False where the other's windows have left pages behind that the next query needs.
  bool share(KvSequence& sequence, const KvSequence& other, int length);

  /// Forgets positions from `length` on, so that other tokens can take their place. Returns how many are still cached:
  /// `length`; less where its last page is another sequence's too; 0 where a window's keys that the next query needs
  /// were given back (then all must be computed again).
  int truncate(KvSequence& sequence, int length);

  /// Takes back all pages.
  void release(KvSequence& sequence);

  /// Unique among all caches that this process ever made, from 1 on.
  [[nodiscard]] Index number() const { return number_; }
  [[nodiscard]] KvType type() const { return type_; }
  [[nodiscard]] int pools() const { return static_cast<int>(pools_.size()); }
  [[nodiscard]] int pool_of(int layer) const { return layers_[static_cast<std::size_t>(layer)].pool; }
  /// Pages of a pool: how many there are, and how many no sequence has.
  [[nodiscard]] int pages(int pool) const { return pools_[static_cast<std::size_t>(pool)].pages; }
  [[nodiscard]] int free_pages(int pool) const {
    return static_cast<int>(pools_[static_cast<std::size_t>(pool)].free.size());
  }
  /// Whether a sequence of `length` tokens, brought in passes of batch_tokens, fits where it is alone.
  [[nodiscard]] bool fits(int length) const;

  /// Writes k and v of the batch's tokens, the last 2 * kv_heads heads of each row of qkv [tokens, width], into a
  /// layer's pages, converted to the cache's type. In int8 a row that is not finite becomes NaN; the caller has
  /// transformed q and k before (layers/hadamard.hpp), for accuracy. Layers are numbered as in the whole model.
  /// Enqueues on exec.
  template <class X>
  void append(const Exec& exec, int layer, View2<const X> qkv, const Batch& batch) const;

  /// What attention reads of a layer for the batch's sequences.
  [[nodiscard]] KvPages view(int layer, const Batch& batch) const;

private:
  struct Pool {
    int window;
    int pages;
    std::vector<int> free;   // the next one is the last
    std::vector<int> users;  // of each page: sequences that have it
  };
  static int take(Pool& pool);
  static void give_back(Pool& pool, int page);
  struct Layer {
    KvLayer shape;
    int pool;
    Index keys = 0, values = 0;  // bytes from the begin of memory_
  };
  [[nodiscard]] const Layer& held(int layer) const;

  Index number_;
  KvType type_;
  Range held_;
  KvLimits limits_;
  std::vector<Pool> pools_;
  std::vector<Layer> layers_;
  Buffer<std::byte> memory_;
};

}  // namespace grist
