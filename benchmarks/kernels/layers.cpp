// The other kernels of a pass: norms, activations, embedding, experts, cache, loss, the choice of a token. Bytes are
// those of activations; vectors of weights and counts beside them are left out.
#include "kernel.hpp"

#include <grist/layers/activation.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/embedding.hpp>
#include <grist/layers/experts.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/sample.hpp>
#include <grist/layers/scale.hpp>
#include <grist/model/batch.hpp>
#include <grist/model/paged_kv.hpp>

#include <memory>

namespace grist::benchmarks {
namespace {

Kernel rms_norm(Index n) {
  const auto x = varied<float>(n * hidden), w = varied<float>(hidden);
  const Buffer<bf16> y("y", n * hidden);
  return {moving_work(n * hidden, 6), [=](const Exec& exec) {
            layers::rms_norm(exec, as_const(x.view(n, hidden)), as_const(w.view()), eps, y.view(n, hidden));
          }};
}

Kernel residual_rms_norm(Index n) {
  const auto delta = varied<float>(n * hidden), x = varied<float>(n * hidden), w = varied<float>(hidden);
  const Buffer<bf16> y("y", n * hidden);
  return {moving_work(n * hidden, 14), [=](const Exec& exec) {
            layers::residual_rms_norm(exec, as_const(delta.view(n, hidden)), x.view(n, hidden), as_const(w.view()), eps,
                                      y.view(n, hidden));
          }};
}

Kernel rms_norm_heads(Index n) {
  const auto x = varied<bf16>(n * q_width);
  const auto w = constants(attention_config.head_dim, 1.0F);
  return {moving_work(n * q_width, 4), [=](const Exec& exec) {
            layers::rms_norm_heads(exec, 0, attention_config.heads, as_const(w.view()), eps, x.view(n, q_width));
          }};
}

/// The sums of a rank, then the norm by them.
Kernel rms_norm_over_heads(Index n) {
  const auto x = varied<bf16>(n * q_width);
  const auto w = constants(q_width, 1.0F);
  const Buffer<float> squares("squares", n * attention_config.heads);
  return {moving_work(n * q_width, 6), [=](const Exec& exec) {
            const auto sums = squares.view(n, attention_config.heads);
            const auto of = x.view(n, q_width);
            layers::head_sums(exec, as_const(of), as_const(of), 0, attention_config.head_dim, {}, sums);
            layers::rms_norm_over_heads(exec, as_const(sums), 0, attention_config.head_dim, as_const(w.view()), eps,
                                        of);
          }};
}

Kernel layer_norm(Index n) {
  const auto x = varied<float>(n * hidden), w = varied<float>(hidden), b = varied<float>(hidden);
  const Buffer<bf16> y("y", n * hidden);
  return {moving_work(n * hidden, 6), [=](const Exec& exec) {
            layers::layer_norm(exec, as_const(x.view(n, hidden)), as_const(w.view()), as_const(b.view()), eps,
                               y.view(n, hidden));
          }};
}

Kernel activation(Index n) {
  const auto x = varied<bf16>(n * intermediate);
  const Buffer<bf16> y("y", n * intermediate);
  return {moving_work(n * intermediate, 4), [=](const Exec& exec) {
            layers::activation(exec, layers::Activation::gelu, as_const(x.view(n, intermediate)),
                               y.view(n, intermediate));
          }};
}

Kernel gated_activation(Index n) {
  const auto x = varied<bf16>(2 * n * intermediate);
  const Buffer<bf16> y("y", n * intermediate);
  return {moving_work(n * intermediate, 6), [=](const Exec& exec) {
            layers::gated_activation(exec, layers::Activation::silu, as_const(x.view(n, 2 * intermediate)),
                                     y.view(n, intermediate));
          }};
}

Kernel residual(Index n) {
  const auto y = varied<float>(n * hidden), x = varied<float>(n * hidden);
  return {moving_work(n * hidden, 12),
          [=](const Exec& exec) { layers::residual(exec, as_const(y.view(n, hidden)), x.view(n, hidden)); }};
}

Kernel scale(Index n) {
  const auto x = varied<float>(n * hidden);
  return {moving_work(n * hidden, 8), [=](const Exec& exec) { layers::scale(exec, 1.0F, x.view(n, hidden)); }};
}

/// Of logits.
Kernel soft_cap(Index n) {
  const auto x = varied<float>(n * vocabulary);
  return {moving_work(n * vocabulary, 8),
          [=](const Exec& exec) { layers::soft_cap(exec, 30.0F, x.view(n, vocabulary)); }};
}

Kernel embedding(Index n) {
  const auto w = varied<bf16>(vocabulary * hidden);
  const auto ids = made<int>(n, [](Index t) { return t * 7919 % vocabulary; });
  const Buffer<float> x("x", n * hidden);
  return {moving_work(n * hidden, 6), [=](const Exec& exec) {
            layers::embedding(exec, as_const(ids.view()), Weight(w.view(vocabulary, hidden)), 0, x.view(n, hidden));
          }};
}

Kernel choose_experts(Index n) {
  const auto logits = varied<float>(n * experts);
  const Buffer<int> choices("choices", n * chosen), offsets("offsets", experts + 1), token_of("token_of", n * chosen),
      row_of("row_of", n * chosen);
  const Buffer<float> weights("weights", n * chosen);
  return {moving_work(n, 4.0 * experts + 16.0 * chosen), [=](const Exec& exec) {
            layers::choose_experts(exec, as_const(logits.view(n, experts)), true, choices.view(n, chosen),
                                   weights.view(n, chosen));
            layers::sort_by_expert(exec, as_const(choices.view(n, chosen)), offsets.view(), token_of.view(),
                                   row_of.view(n, chosen));
          }};
}

Kernel dispatch(Index n) {
  const auto x = varied<bf16>(n * hidden);
  const auto token_of = made<int>(n * chosen, [&](Index row) { return row % n; });
  const Buffer<bf16> rows("rows", n * chosen * hidden);
  return {moving_work(n * hidden, 2 + 2.0 * chosen), [=](const Exec& exec) {
            layers::dispatch(exec, as_const(x.view(n, hidden)), as_const(token_of.view()),
                             rows.view(n * chosen, hidden));
          }};
}

Kernel combine(Index n) {
  const auto rows = varied<float>(n * chosen * hidden), weights = varied<float>(n * chosen);
  const auto row_of = made<int>(n * chosen, [](Index slot) { return slot; });
  const Buffer<float> y("y", n * hidden);
  return {moving_work(n * hidden, 4 + 4.0 * chosen), [=](const Exec& exec) {
            layers::combine(exec, as_const(rows.view(n * chosen, hidden)), as_const(row_of.view(n, chosen)),
                            as_const(weights.view(n, chosen)), y.view(n, hidden));
          }};
}

Kernel add_shared(Index n) {
  const auto shared = varied<float>(n * hidden), gate = varied<float>(n), y = varied<float>(n * hidden);
  return {moving_work(n * hidden, 12), [=](const Exec& exec) {
            layers::add_shared(exec, as_const(shared.view(n, hidden)), as_const(gate.view()), y.view(n, hidden));
          }};
}

Kernel load_balancing_sums(Index n) {
  const auto logits = varied<float>(n * experts);
  const auto choices = made<int>(n * chosen, [](Index slot) { return slot % experts; });
  const auto sums = constants(2 * experts, 0.0F);
  const Buffer<float> scratch("scratch", layers::load_balancing_scratch(n, experts));
  return {moving_work(n, 4.0 * (experts + chosen)), [=](const Exec& exec) {
            layers::load_balancing_sums(exec, as_const(logits.view(n, experts)), as_const(choices.view(n, chosen)), {},
                                        scratch.view(), sums.view(2, experts));
          }};
}

/// The highest logits, then the sums.
Kernel cross_entropy(Index n) {
  const auto logits = varied<float>(n * vocabulary);
  const auto targets = made<int>(n, [](Index t) { return t % vocabulary; });
  const Buffer<float> highest("highest", n), target_logits("target_logits", n);
  const Buffer<double> sums("sums", n);
  return {moving_work(n * vocabulary, 8), [=](const Exec& exec) {
            const auto x = as_const(logits.view(n, vocabulary));
            layers::cross_entropy_highest(exec, x, highest.view());
            layers::cross_entropy_sums(exec, x, as_const(targets.view()), 0, as_const(highest.view()), sums.view(),
                                       target_logits.view());
          }};
}

/// Keys and values of a prompt's tokens, written into the pages of a cache.
Kernel kv_append(KvType type, Index n) {
  struct Cache {
    PagedKv kv;
    KvSequence sequence{};
    grist::Batch batch;  // kernels of attention have one of their own
  };
  const std::vector<KvLayer> layer{{attention_config.kv_heads, attention_config.head_dim, 0}};
  const std::vector<AttentionConfig> attention{attention_config};
  const auto cache = std::make_shared<Cache>(
      Cache{.kv = PagedKv(type, layer, {0, 1}, {.tokens = n, .sequences = 1, .batch_tokens = n}),
            .batch = grist::Batch({n, 1, n, true}, vocabulary, attention)});
  cache->kv.reserve(cache->sequence, static_cast<int>(n));
  const std::vector<int> ids(static_cast<std::size_t>(n));
  const BatchItem item{.ids = ids, .kv = &cache->sequence};
  cache->batch.assign(Exec(), {&item, 1});
  const Index width = q_width + 2 * kv_width;
  const auto qkv = varied<bf16>(n * width);
  const double row = row_bytes(type, attention_config.head_dim);
  return {moving_work(n * 2 * attention_config.kv_heads, 2.0 * attention_config.head_dim + row),
          [=](const Exec& exec) { cache->kv.append(exec, 0, as_const(qkv.view(n, width)), cache->batch); }};
}

/// Of the tokens of a prompt.
Kernel sample_penalize(Index rows) {
  constexpr Index seen = 512;
  const auto logits = varied<float>(rows * vocabulary);
  std::vector<layers::Penalty> all;
  for (Index i = 0; i < rows * seen; ++i) all.push_back({i / seen, i % seen * 61, 1.0F});
  const auto penalties = on_device(all);
  return {moving_work(rows * seen, 8.0 + sizeof(layers::Penalty)), [=](const Exec& exec) {
            layers::sample_penalize(exec, as_const(penalties.view()), logits.view(rows, vocabulary));
          }};
}

Kernel sample_highest(Index rows) {
  const auto logits = varied<float>(rows * vocabulary);
  const Buffer<layers::Choice> highest("highest", rows);
  return {moving_work(rows * vocabulary, 4), [=](const Exec& exec) {
            layers::sample_highest(exec, as_const(logits.view(rows, vocabulary)), 0, highest.view());
          }};
}

/// By top_p: the highest logit, the passes of the search, the draw.
Kernel sample_top_p(Index rows) {
  const auto logits = varied<float>(rows * vocabulary);
  std::vector<layers::Draw> fresh(static_cast<std::size_t>(rows));
  for (std::size_t row = 0; row < fresh.size(); ++row) fresh[row] = {.row = static_cast<Index>(row), .top_p = 0.9F};
  const auto wanted = on_device(fresh), draws = on_device(fresh);
  const Buffer<layers::Choice> highest("highest", rows), drawn("drawn", rows);
  const auto histograms = constants(rows * layers::digit_values, Index{0});
  return {moving_work(rows * vocabulary, 4 * (2 + layers::search_passes)), [=](const Exec& exec) {
            const auto x = as_const(logits.view(rows, vocabulary));
            const auto counts = histograms.view(rows, layers::digit_values);
            Kokkos::deep_copy(exec, draws.view(), wanted.view());
            layers::sample_highest(exec, x, 0, highest.view());
            for (int pass = 0; pass < layers::search_passes; ++pass) {
              layers::sample_count(exec, layers::Search::top_p, pass, x, as_const(highest.view()),
                                   as_const(draws.view()), counts);
              layers::sample_narrow(exec, layers::Search::top_p, pass, counts, draws.view());
            }
            layers::sample_draw(exec, x, 0, as_const(highest.view()), as_const(draws.view()), drawn.view());
          }};
}

constexpr struct {
  const char* name;
  Kernel (*make)(Index tokens);
} kernels[] = {
    {"rms_norm", rms_norm},
    {"residual_rms_norm", residual_rms_norm},
    {"rms_norm_heads", rms_norm_heads},
    {"rms_norm_over_heads", rms_norm_over_heads},
    {"layer_norm", layer_norm},
    {"activation/gelu", activation},
    {"gated_activation/silu", gated_activation},
    {"residual", residual},
    {"scale", scale},
    {"soft_cap", soft_cap},
    {"embedding/bf16", embedding},
    {"choose_experts", choose_experts},
    {"dispatch", dispatch},
    {"combine", combine},
    {"add_shared", add_shared},
    {"load_balancing_sums", load_balancing_sums},
    {"cross_entropy", cross_entropy},
};

}  // namespace

void add_layers() {
  for (const auto& [name, make] : kernels)
    for (const Index tokens : token_counts) add(std::format("{}/{}", name, tokens), [=] { return make(tokens); });
  for (const Index tokens : token_counts)
    for (const KvType type : {KvType::bf16, KvType::int8})
      add(std::format("kv_append/{}/{}", name_of(type), tokens), [=] { return kv_append(type, tokens); });
  for (const Index rows : {1, 32}) {
    add(std::format("sample_penalize/{}", rows), [=] { return sample_penalize(rows); });
    add(std::format("sample_highest/{}", rows), [=] { return sample_highest(rows); });
    add(std::format("sample_top_p/{}", rows), [=] { return sample_top_p(rows); });
  }
}

}  // namespace grist::benchmarks
