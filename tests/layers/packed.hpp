// Packed sequences over pages of keys, or over the rows of the batch itself, and attention over them in double
// precision.
#pragma once

#include <grist/layers/attention.hpp>

#include <support/kv_rows.hpp>

namespace grist::test {

struct Sequence {
  int past = 0;   // keys that the cache held before
  int count = 1;  // new tokens
};

/// How a Packed is computed.
struct How {
  bool plain = false;  // by the portable twin
  bool split = true;   // over keys, where plan_attention would; false: there is no room for partial results
  bool paged = true;   // false: keys and values are columns of q's matrix; then X is K and no sequence has a past
};

/// Queries, keys and values of sequences, as X stores queries and K keys. All that no sequence owns, in the pages and
/// in the columns of q after its heads, is NaN.
template <class X, class K = X>
struct Packed {
  AttentionConfig config;
  std::vector<float> alibi;  // [heads], or empty
  std::vector<Sequence> sequences;
  Index tokens = 0;
  std::vector<float> q;                  // [tokens, heads * head_dim]
  std::vector<std::vector<float>> k, v;  // of each sequence: [length, kv_heads, head_dim]
  mutable std::vector<float> lse;        // [heads, tokens] of the last run

  /// The numbers of a sequence depend on `names` and its index alone.
  Packed(AttentionConfig config_, std::vector<Sequence> sequences_, std::vector<float> alibi_ = {}, Index names = 0)
      : config(config_), alibi(std::move(alibi_)), sequences(std::move(sequences_)) {
    for (const auto& s : sequences) {
      const std::string name = std::to_string(names++);
      const Index width = Index{config.heads} * config.head_dim, length = s.past + s.count;
      const auto queries = stored<X>(normals("q" + name, s.count * width, 2));
      q.insert(q.end(), queries.begin(), queries.end());
      const auto rows = [&](const std::string& of) {
        return stored_rows<K>(normals(of + name, length * config.kv_heads * config.head_dim), config.head_dim);
      };
      k.push_back(rows("k"));
      v.push_back(rows("v"));
      tokens += s.count;
    }
  }

  /// Where a key or value of a sequence starts in its k or v.
  [[nodiscard]] std::size_t at(int kv_head, Index key) const {
    return static_cast<std::size_t>((key * config.kv_heads + kv_head) * config.head_dim);
  }

  /// out [tokens, heads * head_dim]
  [[nodiscard]] std::vector<float> run(const How& how = {}) const {
    const float nan = std::nanf("");
    const int dim = config.head_dim;
    const Index width = Index{config.heads} * dim, kv_width = Index{config.kv_heads} * dim;
    const Index beyond = how.paged ? 5 : 2 * kv_width, row = width + beyond;
    std::vector<int> query_begin{0}, kv_length, first_pages, pages;
    Index keys = 0;
    for (const auto& s : sequences) {
      query_begin.push_back(query_begin.back() + s.count);
      kv_length.push_back(s.past + s.count);
      keys += kv_length.back();
    }
    // Pages that are needed, in reverse order. A window's pages that no query sees are not there.
    std::vector<float> page_k, page_v;
    for (std::size_t s = 0; how.paged && s < sequences.size(); ++s) {
      first_pages.push_back(static_cast<int>(pages.size()) - first_page(s));
      for (int page = first_page(s); page * kv_page_rows < kv_length[s]; ++page) pages.push_back(0);
    }
    const int count = static_cast<int>(pages.size());
    page_k.assign(static_cast<std::size_t>(Index{count + 1} * kv_page_rows * kv_width), nan);
    page_v = page_k;
    for (int i = 0; i < count; ++i) pages[static_cast<std::size_t>(i)] = count - i;  // page 0 belongs to nobody
    std::vector<float> matrix;
    for (Index t = 0; t < tokens; ++t) {
      matrix.insert(matrix.end(), q.begin() + t * width, q.begin() + (t + 1) * width);
      matrix.insert(matrix.end(), static_cast<std::size_t>(beyond), nan);
    }
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (int key = 0; key < kv_length[s]; ++key) {
        for (int h = 0; h < config.kv_heads; ++h) {
          const float* from_k = &k[s][at(h, key)];
          const float* from_v = &v[s][at(h, key)];
          if (!how.paged) {
            float* to = &matrix[static_cast<std::size_t>((query_begin[s] + key) * row + width + h * dim)];
            std::copy_n(from_k, dim, to);
            std::copy_n(from_v, dim, to + kv_width);
            continue;
          }
          if (key / kv_page_rows < first_page(s)) continue;  // given back
          const Index page = pages[static_cast<std::size_t>(first_pages[s] + key / kv_page_rows)];
          const auto to =
              static_cast<std::size_t>(((page * config.kv_heads + h) * kv_page_rows + key % kv_page_rows) * dim);
          std::copy_n(from_k, dim, &page_k[to]);
          std::copy_n(from_v, dim, &page_v[to]);
        }
      }
    }
    return launch(how, query_begin, kv_length, first_pages, pages, page_k, page_v, matrix, row, keys);
  }

  /// A score has (head_dim + 2) roundings of its magnitudes, a soft cap and a slope a few more; an error d of the
  /// scores is a factor e^(2d) of a probability. Exponentials, corrections, sums over n keys and merges are (3 n + 64)
  /// roundings more.
  [[nodiscard]] std::vector<Expected> expected(std::vector<Expected>* log_sums = nullptr) const {
    std::vector<Expected> out;
    if (log_sums != nullptr) log_sums->resize(static_cast<std::size_t>(config.heads * tokens));
    Index token = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (int query = 0; query < sequences[s].count; ++query, ++token) {
        for (int head = 0; head < config.heads; ++head) {
          const auto log_sum = expected_head(s, query, token, head, out);
          if (log_sums != nullptr) (*log_sums)[static_cast<std::size_t>(head * tokens + token)] = log_sum;
        }
      }
    }
    return out;
  }

private:
  Expected expected_head(std::size_t s, int query, Index token, int head, std::vector<Expected>& out) const {
    const int dim = config.head_dim, position = sequences[s].past + query;
    const int last = config.causal ? position : sequences[s].past + sequences[s].count - 1;
    const int first = config.window > 0 ? std::max(0, position - config.window + 1) : 0;
    const int kv_head = head / (config.heads / config.kv_heads);
    const float* from = &q[static_cast<std::size_t>((token * config.heads + head) * dim)];
    std::vector<double> scores;
    double score_error = 0;
    for (int key = first; key <= last; ++key) {
      double dot = 0, magnitude = 0;
      for (int c = 0; c < dim; ++c) {
        const double product = double{from[c]} * k[s][at(kv_head, key) + static_cast<std::size_t>(c)];
        dot += product;
        magnitude += std::abs(product);
      }
      double score = dot * double{config.scale};
      double error = (dim + 2) * float_rounding * magnitude * std::abs(double{config.scale});
      if (config.softcap > 0) {
        score = config.softcap * std::tanh(score / double{config.softcap});
        error += 8 * float_rounding * std::abs(score);
      }
      if (!alibi.empty()) {
        const double slope = double{alibi[static_cast<std::size_t>(head)]} * (key - position);
        score += slope;
        error += 2 * float_rounding * (std::abs(slope) + std::abs(score));
      }
      scores.push_back(score);
      score_error = std::max(score_error, error);
    }
    const auto [lowest, highest] = std::ranges::minmax(scores);
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - highest);
    const double keys = static_cast<double>(scores.size());
    const double error = 2 * score_error + (2 * (highest - lowest) + 3 * keys + 64) * float_rounding;
    for (int c = 0; c < dim; ++c) {
      double value = 0, magnitude = 0;
      for (int key = first; key <= last; ++key) {
        const double p = scores[static_cast<std::size_t>(key - first)] / total;
        const double term = p * v[s][at(kv_head, key) + static_cast<std::size_t>(c)];
        value += term;
        magnitude += std::abs(term);
      }
      // A provider may round the weights of 16-bit values as it rounds the result.
      const double weights = std::is_same_v<X, float> ? 0 : rounding<X>;
      out.push_back({value, magnitude * (error + weights) * 1.01 + rounding<X> * 1.001 * std::abs(value)});
    }
    const double log_sum = highest + std::log(total);
    return {log_sum, error * 1.01 + 4 * float_rounding * (std::abs(highest) + std::abs(log_sum) + 1)};
  }

  /// The first page of a sequence that one of its queries sees.
  [[nodiscard]] int first_page(std::size_t s) const {
    return config.window > 0 ? std::max(0, sequences[s].past - config.window + 1) / kv_page_rows : 0;
  }

  std::vector<float> launch(const How& how, const std::vector<int>& query_begin, const std::vector<int>& kv_length,
                            const std::vector<int>& first_pages, const std::vector<int>& pages,
                            const std::vector<float>& page_k, const std::vector<float>& page_v,
                            const std::vector<float>& matrix, Index row, Index keys) const {
    const Index width = Index{config.heads} * config.head_dim;
    const auto device_begin = on_device<int>(query_begin), device_length = on_device<int>(kv_length);
    const auto device_first = on_device<int>(first_pages), device_pages = on_device<int>(pages);
    const auto device_k = pages_on_device<K>(page_k, config.head_dim);
    const auto device_v = pages_on_device<K>(page_v, config.head_dim);
    const auto device_q = on_device<X>(matrix);
    const auto slopes = on_device<float>(alibi);
    const auto out = on_device<X>(std::vector<float>(static_cast<std::size_t>(tokens * width), std::nanf("")));
    const auto sums =
        on_device<float>(std::vector<float>(static_cast<std::size_t>(tokens * config.heads), std::nanf("")));
    auto full = config;
    full.alibi_slopes = as_const(slopes.view());
    const AttentionLimits limits{tokens, static_cast<int>(sequences.size()), keys};
    const AttentionLimits planned = how.split ? limits : AttentionLimits{tokens, 0, 0};
    std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(config, limits))),
        merges(items.size());
    const auto plan = plan_attention(config, planned, query_begin, kv_length, items.data(), merges.data());
    EXPECT_LE(plan.items, static_cast<Index>(items.size()));
    const auto device_items = on_device_as_is(items), device_merges = on_device_as_is(merges);
    const PackedSequences packed{as_const(device_begin.view()), as_const(device_length.view()),
                                 View1<const AttentionItem>(device_items.data(), plan.items),
                                 View1<const AttentionItem>(device_merges.data(), plan.merges), plan.partials};
    const Index head = kv_page_rows * row_bytes(kv_type<K>, config.head_dim) / element_bytes(kv_type<K>);
    const auto matrix_view = as_const(device_q.view(tokens, row));
    const KvPages kv = how.paged ? KvPages{.type = kv_type<K>,
                                           .keys = device_k.data(),
                                           .values = device_v.data(),
                                           .row_stride = config.head_dim,
                                           .head_stride = head,
                                           .page_stride = head * config.kv_heads,
                                           .pages = as_const(device_pages.view()),
                                           .first = as_const(device_first.view())}
                                 : layers::packed_kv(config, matrix_view, as_const(device_begin.view()));
    const auto scratch = on_device<float>(
        std::vector<float>(static_cast<std::size_t>(attention_scratch(config, limits)), std::nanf("")));
    (how.plain ? layers::attention_plain<X> : layers::attention<X>)(Exec(), full, matrix_view, kv, packed,
                                                                    scratch.view(), out.view(tokens, width),
                                                                    sums.view(config.heads, tokens));
    lse = on_host(sums);
    merged = plan.merges;
    return on_host(out);
  }

  template <class T>
  static Buffer<T> on_device_as_is(const std::vector<T>& values) {
    Buffer<T> buffer("test", static_cast<Index>(values.size()));
    Kokkos::deep_copy(buffer.view(), HostView<const T>(values.data(), values.size()));
    return buffer;
  }

public:
  mutable Index merged = 0;  // tiles that the last run split over their keys
};

}  // namespace grist::test
