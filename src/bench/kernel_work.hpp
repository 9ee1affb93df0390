// What a call of a kernel must read and write, and the FLOPs of its formula: one home for `grist bench --kernels` and
// for benchmarks/kernels.
#pragma once

#include <grist/backends/attention.hpp>
#include <grist/bench/roofline.hpp>
#include <grist/core/weight.hpp>

namespace grist::bench {

/// Of `tokens` by a weight with one expert, whose bytes are read once.
inline Work product_work(const Weight& w, Index tokens) {
  return {2.0 * static_cast<double>(tokens * w.rows * w.columns), static_cast<double>(bytes_of(w))};
}

/// Scores that `sequences` of them have in a head, each with `queries` new tokens after `past` others, seen causally.
inline double scores_of(int sequences, int queries, int past) {
  return sequences * (queries * static_cast<double>(past) + queries * (queries + 1.0) / 2);
}

/// Of them: keys and values are read once for each sequence.
inline Work attention_work(const AttentionConfig& config, KvType type, int sequences, int queries, int past) {
  const double keys = static_cast<double>(sequences) * (queries + past);
  return {4 * scores_of(sequences, queries, past) * config.heads * config.head_dim,
          2 * keys * static_cast<double>(config.kv_heads * row_bytes(type, config.head_dim))};
}

/// Of as many elements, each with so many bytes that are read or written.
inline Work moving_work(Index elements, double bytes) { return {0, static_cast<double>(elements) * bytes}; }

}  // namespace grist::bench
