// The tokens of a sequence, which of them the KV cache holds, and how each was computed: computed again in the same way
// they have the same bits, so that neither lost pages nor a conversation's earlier requests show in a result.
#pragma once

#include <grist/model/paged_kv.hpp>

#include <vector>

namespace grist {

/// Pieces of a prompt of at most so many tokens are computed as decoding is, by bandwidth-bound kernels.
constexpr int few_tokens = 4;

/// Tokens begin ... end - 1 of a sequence, computed in one forward pass.
struct Piece {
  int begin = 0;
  int end = 0;
  bool few = false;       // as in BatchItem
  int prompt_length = 0;  // of the request that they were computed for
  [[nodiscard]] int size() const { return end - begin; }
};

struct CachedTokens {
  std::vector<int> ids;       // all that are known
  std::vector<Piece> pieces;  // how they were computed for the first time, from 0 on
  int cached = 0;             // the cache holds the first so many
  KvSequence kv;

  /// What is to be computed next of ids.size() > cached: as before where it was computed before, otherwise at most
  /// `most` tokens for a request with so long a prompt. Depends on the sequence alone.
  [[nodiscard]] Piece next(int most, int prompt_length) const;

  /// The cache holds the piece that next() told.
  void add(const Piece& piece);

  /// Forgets keys and values from `length` on; the tokens stay known.
  void forget(PagedKv& cache, int length);

  /// Forgets tokens from `length` on.
  void truncate(PagedKv& cache, int length);

  /// Gives all pages back.
  void release(PagedKv& cache);
};

}  // namespace grist
