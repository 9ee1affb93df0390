// Attention by whichever kernel this machine has: what a call of it is, and who serves it. The formula stands in
// layers/attention.hpp.
#pragma once

#include <grist/core/kv_type.hpp>
#include <grist/core/staging.hpp>
#include <grist/core/view.hpp>

#include <span>
#include <string_view>

namespace grist {

struct AttentionConfig {
  int heads = 1;     // of this rank
  int kv_heads = 1;  // of this rank; heads % kv_heads == 0
  int head_dim = 1;
  float scale = 1;                       // usually 1 / sqrt(head_dim)
  float softcap = 0;                     // 0: none
  int window = 0;                        // keys that a query sees, its own included; 0: all
  bool causal = true;                    // false: every query sees every key of its sequence; then window is 0
  View1<const float> alibi_slopes = {};  // [heads], or empty: no ALiBi
};

/// Rows of a page of keys: a tile of keys never crosses a page.
constexpr int kv_page_rows = 64;

/// Where the keys and values of one layer lie, in storage of their own type: in pages, or as rows of the batch itself.
/// Key k of KV head h of sequence s is the head_dim elements from `offset(s, h, k)` on. In pages of int8 the scales of
/// a KV head's rows follow its last row.
struct KvPages {
  KvType type = KvType::f32;
  const void* keys = nullptr;
  const void* values = nullptr;
  Index row_stride = 0;   // elements from one key of a page to the next
  Index head_stride = 0;  // from one KV head to the next
  Index page_stride = 0;  // from one page to the next
  View1<const int> pages =
      {};  // pages(first(s) + k / kv_page_rows) holds key k of sequence s; empty: there are no pages,
  View1<const int> first = {};  // [sequences], and key k of sequence s is row first(s) + k

  /// Of keys `key` ... up to the end of their page; `key` is the first of a page.
  KOKKOS_INLINE_FUNCTION Index offset(int sequence, int kv_head, int key) const {
    const Index at = first(sequence);
    const Index row = pages.size() == 0 ? (at + key) * row_stride : Index{pages(at + key / kv_page_rows)} * page_stride;
    return row + kv_head * head_stride;
  }

  /// Of `keys` or `values`: scales of the rows from `offset` on, which begin a page; null where rows have none.
  KOKKOS_INLINE_FUNCTION const float* scales(const void* rows, Index offset) const {
    if (type != KvType::int8) return nullptr;
    const void* const end = static_cast<const std::int8_t*>(rows) + offset + kv_page_rows * row_stride;
    return static_cast<const float*>(end);
  }
};

/// Work of one KV head: query rows `row` ... of a sequence, a tile of them, against chunks of its keys. Query row r is
/// query r / group with head r % group of the KV head, group = heads / kv_heads.
struct AttentionItem {
  int sequence;
  int row;
  int chunk;      // first one, counted from the sequence's first key
  int chunks;     // 0: nothing to do
  Index partial;  // the first chunk's place in scratch; -1: this item has all chunks of its rows
};

/// A place of partial results holds attention_few_rows rows of every KV head; a tile of more rows takes several.
constexpr int attention_few_rows = 16;
constexpr int attention_rows = 64;  // of a tile

/// Keys of a chunk. Each is computed afresh, and the results are combined in order: by one item in its own memory, or
/// by several through scratch, with equal bits. A device wants many items, of a single sequence too, and has room for
/// the partial results: head_dim + 2 floats for each chunk, KV head and row.
constexpr int attention_chunk = host_reaches_memory ? 512 : 128;

/// Which rows belong together, in device memory, and how they are worked on. The new tokens of a sequence are the last
/// of its keys. `items` and `merges` are what plan_attention made for a config with the same heads, KV heads, window
/// and causal.
struct PackedSequences {
  View1<const int> query_begin =
      {};  // [sequences + 1]: the new tokens of s are the rows query_begin(s) ... query_begin(s + 1)
  View1<const int> kv_length = {};  // [sequences]: its keys, new ones included
  View1<const AttentionItem> items = {};
  View1<const AttentionItem> merges = {};  // tiles whose chunks are partial results in scratch
  Index partials = 0;                      // places in scratch that they take
};

/// One call: what a provider gets. Shapes have been checked.
struct AttentionCall {
  AttentionConfig config;
  DType type;     // of q and out
  const void* q;  // [tokens, q_stride], its first heads * head_dim columns
  Index q_stride;
  KvPages kv;
  PackedSequences sequences;
  View1<float> scratch;  // attention_scratch() floats
  void* out;             // [tokens, heads * head_dim]
  View2<float> lse;      // [heads, tokens], or empty
};

/// Gradients of a packed batch without a cache. Shapes have been checked.
struct AttentionBackwardCall {
  AttentionConfig config;
  DType type;                    // of all matrices
  const void* qkv;               // [tokens, (heads + 2 kv_heads) head_dim]
  const void* out;               // [tokens, heads * head_dim]
  const void* dout;              // like out
  View2<const float> lse;        // [heads, tokens]
  View1<const int> query_begin;  // [sequences + 1]
  View1<float> scratch;          // attention_backward_scratch() floats
  void* dqkv;                    // like qkv
};

/// Sizes that a batch may have, for planning memory.
struct AttentionLimits {
  Index tokens = 0;  // new ones
  int sequences = 0;
  Index kv_tokens = 0;  // keys of all sequences together
  bool decodes = true;  // whether a sequence may bring few tokens for many keys: then scratch has room for each
};

/// A kernel that serves attention, or declines.
struct AttentionProvider {
  std::string_view name;
  bool batch_invariant;  // whether the bits of a token depend on its own sequence alone
  /// Enqueues on exec; no fence, no allocation. Returns false where it cannot (types, shapes, ALiBi ...): then nothing
  /// was enqueued, and the next one is asked.
  bool (*run)(const Exec& exec, const AttentionCall& call);
  /// Floats of scratch that it needs for any batch within the limits.
  Index (*scratch)(const AttentionConfig& config, const AttentionLimits& limits);
  /// The same for gradients, by keys that the batch itself brings. Null where the provider has none. Equal bits in
  /// every run, for any number of threads.
  bool (*backward)(const Exec& exec, const AttentionBackwardCall& call) = nullptr;
  Index (*backward_scratch)(const AttentionConfig& config, const AttentionLimits& limits) = nullptr;
};

/// Providers of this build, best first. The last one is "portable": plain nested parallelism, which never declines and
/// is the reference for the others, in both directions.
std::span<const AttentionProvider> attention_providers();

/// Places of partial results that the scratch has: for the chunks of every sequence's decode, and of one's full tile.
Index attention_partials(const AttentionLimits& limits);

/// Most items, and most merges, that plan_attention makes.
Index max_attention_items(const AttentionConfig& config, const AttentionLimits& limits);

/// Floats of scratch for any batch within the limits, whichever provider serves it.
Index attention_scratch(const AttentionConfig& config, const AttentionLimits& limits);

/// The same for attention_backward.
Index attention_backward_scratch(const AttentionConfig& config, const AttentionLimits& limits);

struct AttentionPlan {
  Index items = 0;
  Index merges = 0;
  Index partials = 0;
};

/// Cuts the work of a batch into items, the most expensive first, and splits tiles over their keys where that is needed
/// to keep all workers busy and the scratch of `limits` has room. On the host. `items` and `merges` have
/// max_attention_items().
AttentionPlan plan_attention(const AttentionConfig& config, const AttentionLimits& limits,
                             std::span<const int> query_begin, std::span<const int> kv_length, AttentionItem* items,
                             AttentionItem* merges);

}  // namespace grist
