// What a model's passes must read and multiply at least, from its tensors and its spec.
//   matrices  : 2 x elements FLOP for each token; bytes once for each pass, whatever the number of sequences. Tables
//               that are looked up cost nothing. The logits' matrix counts for the last token of a sequence alone.
//   experts   : FLOP of the chosen ones. Of E experts, t tokens that choose k each at random read
//               E (1 - (1 - k / E)^t).
//   attention : 4 x heads x head_dim FLOP for each query and key that it sees; 2 x kv_heads x head_dim numbers of the
//               cache for each key, read once for each sequence and pass. A window bounds the keys.
#pragma once

#include <grist/bench/roofline.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <cstdint>
#include <vector>

namespace grist::bench {

class ModelWork {
public:
  /// `files` with weights as they are, or without any as read_spec gives them.
  ModelWork(const ModelFiles& files, const ModelNumbers& numbers);

  /// One step of `batch` sequences that brings each a token, as the mean of steps 1 ... tokens after `depth`.
  [[nodiscard]] Work decode(Index batch, Index depth, Index tokens) const;
  /// `tokens` new tokens of each of `batch` sequences after `depth`, all weights read once.
  [[nodiscard]] Work prefill(Index batch, Index depth, Index tokens) const;

  /// Of all tensors as they lie in memory, tied ones once.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Whether any matrix is stored in blocks.
  [[nodiscard]] bool in_blocks() const { return in_blocks_; }

private:
  struct Experts {
    double bytes = 0;  // of all
    double count = 1;
    double chosen = 1;
  };
  /// Bytes of the matrices that so many tokens read.
  [[nodiscard]] double weight_bytes(double tokens) const;
  /// Of so many queries of a sequence in all layers, of which the first sees `first_keys` keys.
  [[nodiscard]] double attention_flops(Index first_keys, Index queries) const;
  /// Keys and values of one sequence that a query sees, of so many keys.
  [[nodiscard]] double cache_bytes(double keys) const;

  ModelSpec spec_;
  KvType kv_type_;
  double token_flops_ = 0;          // of all matrices but the logits'
  double logit_flops_ = 0;
  double dense_bytes_ = 0;          // of what every pass reads
  std::vector<Experts> experts_{};  // matrices of layers with experts
  std::uint64_t bytes_ = 0;
  bool in_blocks_ = false;
};

}  // namespace grist::bench
