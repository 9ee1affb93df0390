// Packed sequences over a KV cache, and attention over them in double precision.
#pragma once

#include <grist/layers/attention.hpp>

#include <support/views.hpp>

namespace grist::test {

struct Sequence {
  int past = 0;   // keys that the cache held before
  int count = 1;  // new tokens
};

/// Queries, keys and values of sequences, as T stores them. All that no sequence owns, in the cache and behind the
/// columns of q, is NaN.
template <class T>
struct Packed {
  layers::AttentionConfig config;
  std::vector<Sequence> sequences;
  Index tokens = 0, capacity = gap;
  std::vector<float> q, k, v;

  static constexpr Index gap = 3;     // rows between the sequences in the cache
  static constexpr Index beyond = 5;  // columns of q behind its heads

  /// The numbers of a sequence depend on `names` and its index alone.
  Packed(layers::AttentionConfig config_, std::vector<Sequence> sequences_, Index names = 0)
      : config(config_), sequences(std::move(sequences_)) {
    for (const auto& s : sequences) {
      tokens += s.count;
      begins_.push_back(capacity);
      capacity += s.past + s.count + gap;
    }
    const float nan = std::nanf("");
    k.assign(static_cast<std::size_t>(config.kv_heads * capacity * config.head_dim), nan);
    v = k;
    Index index = names;
    for (std::size_t s = 0; s < sequences.size(); ++s, ++index) {
      const std::string name = std::to_string(index);
      const Index width = config.heads * config.head_dim, length = sequences[s].past + sequences[s].count;
      const auto queries = stored<T>(normals("q" + name, sequences[s].count * width, 2));
      for (Index t = 0; t < sequences[s].count; ++t) {
        q.insert(q.end(), queries.begin() + t * width, queries.begin() + (t + 1) * width);
        q.insert(q.end(), beyond, nan);
      }
      const Index head = length * config.head_dim;
      const auto keys = stored<T>(normals("k" + name, config.kv_heads * head));
      const auto values = stored<T>(normals("v" + name, config.kv_heads * head));
      for (int h = 0; h < config.kv_heads; ++h) {
        std::copy_n(&keys[static_cast<std::size_t>(h * head)], head, &k[at(s, h, 0)]);
        std::copy_n(&values[static_cast<std::size_t>(h * head)], head, &v[at(s, h, 0)]);
      }
    }
  }

  /// Where a key or value of a sequence starts in k or v.
  [[nodiscard]] std::size_t at(std::size_t s, int kv_head, Index key) const {
    return static_cast<std::size_t>(((kv_head * capacity) + begins_[s] + key) * config.head_dim);
  }

  /// out [tokens, heads * head_dim]
  [[nodiscard]] std::vector<float> run(bool plain = false) const {
    std::vector<int> query_begin{0}, kv_length, tile_sequence, tile_begin;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      query_begin.push_back(query_begin.back() + sequences[s].count);
      kv_length.push_back(sequences[s].past + sequences[s].count);
      const int rows = sequences[s].count * config.heads / config.kv_heads;
      for (int row = 0; row < rows; row += layers::attention_tile_rows()) {
        tile_sequence.push_back(static_cast<int>(s));
        tile_begin.push_back(row);
      }
    }
    const auto device_begin = on_device<int>(query_begin), device_length = on_device<int>(kv_length);
    const auto device_tile = on_device<int>(tile_sequence), device_row = on_device<int>(tile_begin);
    const auto device_cache = on_device<Index>(begins_);
    const auto device_q = on_device<T>(q), device_k = on_device<T>(k), device_v = on_device<T>(v);
    const Index width = config.heads * config.head_dim;
    const auto out = on_device<T>(std::vector<float>(static_cast<std::size_t>(tokens * width), std::nanf("")));
    const layers::PackedSequences packed{as_const(device_begin.view()), as_const(device_cache.view()),
                                         as_const(device_length.view()), as_const(device_tile.view()),
                                         as_const(device_row.view())};
    (plain ? layers::attention_plain<T> : layers::attention<T>)(
        Exec(), config, as_const(device_q.view(tokens, width + beyond)),
        View3<const T>(device_k.data(), config.kv_heads, capacity, config.head_dim),
        View3<const T>(device_v.data(), config.kv_heads, capacity, config.head_dim), packed, out.view(tokens, width));
    return on_host(out);
  }

  /// A score has (head_dim + 2) roundings of its magnitudes; an error d of the scores is a factor e^(2d) of a
  /// probability. Exponentials, corrections and the two sums over n keys are (3 n + 32) roundings more.
  [[nodiscard]] std::vector<Expected> expected() const {
    std::vector<Expected> out;
    const int dim = config.head_dim;
    Index token = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (int query = 0; query < sequences[s].count; ++query, ++token) {
        const int position = sequences[s].past + query;
        const int first = config.window > 0 ? std::max(0, position - config.window + 1) : 0;
        for (int head = 0; head < config.heads; ++head) {
          const int kv_head = head / (config.heads / config.kv_heads);
          const float* from = &q[static_cast<std::size_t>(token * (config.heads * dim + beyond) + head * dim)];
          std::vector<double> scores;
          double score_error = 0;
          for (int key = first; key <= position; ++key) {
            double dot = 0, magnitude = 0;
            for (int c = 0; c < dim; ++c) {
              const double product = double{from[c]} * k[at(s, kv_head, key) + static_cast<std::size_t>(c)];
              dot += product;
              magnitude += std::abs(product);
            }
            scores.push_back(dot * double{config.scale});
            score_error = std::max(score_error, (dim + 2) * float_rounding * magnitude * double{config.scale});
          }
          const auto [lowest, highest] = std::ranges::minmax(scores);
          double total = 0;
          for (double& score : scores) total += score = std::exp(score - highest);
          const double keys = static_cast<double>(scores.size());
          const double error = 2 * score_error + (2 * (highest - lowest) + 3 * keys + 32) * float_rounding;
          for (int c = 0; c < dim; ++c) {
            double value = 0, magnitude = 0;
            for (int key = first; key <= position; ++key) {
              const double p = scores[static_cast<std::size_t>(key - first)] / total;
              const double term = p * v[at(s, kv_head, key) + static_cast<std::size_t>(c)];
              value += term;
              magnitude += std::abs(term);
            }
            out.push_back({value, magnitude * error * 1.01 + rounding<T> * 1.001 * std::abs(value)});
          }
        }
      }
    }
    return out;
  }

private:
  std::vector<Index> begins_;
};

}  // namespace grist::test
