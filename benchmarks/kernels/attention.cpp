// Attention over the cache's pages and its gradients, and what turns queries and keys.
#include "kernel.hpp"

#include <grist/layers/attention.hpp>
#include <grist/layers/hadamard.hpp>
#include <grist/layers/rope.hpp>

#include <cmath>
#include <cstdint>

namespace grist::benchmarks {
namespace {

/// `sequences` of them, each with `queries` new tokens after `past` others.
struct Batch {
  int sequences, queries, past;

  [[nodiscard]] int length() const { return queries + past; }
  [[nodiscard]] Index tokens() const { return Index{sequences} * queries; }
  [[nodiscard]] std::string name() const { return std::format("{}x{}_after_{}", sequences, queries, past); }
  [[nodiscard]] std::vector<int> begins() const {
    std::vector<int> begins;
    for (int s = 0; s <= sequences; ++s) begins.push_back(s * queries);
    return begins;
  }
};

/// Keys or values of any type: 1 in bf16, in f32 about 1; in int8 60, times a scale of about 0.01.
Buffer<std::byte> pages_of(KvType type, Index bytes) {
  const Buffer<std::byte> memory("pages", bytes);
  const auto fill = [&]<class T>(T value) {
    Kokkos::deep_copy(Exec(), View1<T>(reinterpret_cast<T*>(memory.data()), bytes / sizeof(T)), value);
  };
  if (type == KvType::int8)
    fill(std::int8_t{0x3c});
  else
    fill(std::uint16_t{0x3f80});
  return memory;
}

template <class X>
Kernel forward(KvType type, Batch batch) {
  const auto& config = attention_config;
  const int pages = (batch.length() + kv_page_rows - 1) / kv_page_rows;
  const AttentionLimits limits{batch.tokens(), batch.sequences, Index{batch.sequences} * batch.length(), true};
  const std::vector<int> begins = batch.begins(), lengths(static_cast<std::size_t>(batch.sequences), batch.length());
  std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(config, limits))), merges = items;
  const AttentionPlan plan = plan_attention(config, limits, begins, lengths, items.data(), merges.data());
  items.resize(static_cast<std::size_t>(plan.items)), merges.resize(static_cast<std::size_t>(plan.merges));
  const auto d_begins = on_device(begins), d_lengths = on_device(lengths);
  const auto table = made<int>(Index{batch.sequences} * pages, [](Index i) { return i; }),
             first = made<int>(batch.sequences, [&](Index s) { return s * pages; });
  const auto d_items = on_device(items), d_merges = on_device(merges);
  const Index head = kv_page_rows * row_bytes(type, config.head_dim), page = config.kv_heads * head;
  const auto keys = pages_of(type, batch.sequences * pages * page),
             values = pages_of(type, batch.sequences * pages * page);
  const auto q = varied<X>(batch.tokens() * q_width);
  const Buffer<X> out("out", batch.tokens() * q_width);
  const Buffer<float> scratch("scratch", attention_scratch(config, limits));
  const Work work = bench::attention_work(config, type, batch.sequences, batch.queries, batch.past);
  return {work, [=](const Exec& exec) {
            const KvPages kv{type,
                             keys.data(),
                             values.data(),
                             config.head_dim,
                             head / element_bytes(type),
                             page / element_bytes(type),
                             as_const(table.view()),
                             as_const(first.view())};
            const PackedSequences packed{as_const(d_begins.view()), as_const(d_lengths.view()),
                                         as_const(d_items.view()), as_const(d_merges.view()), plan.partials};
            layers::attention(exec, config, as_const(q.view(batch.tokens(), q_width)), kv, packed, scratch.view(),
                              out.view(batch.tokens(), q_width));
          }};
}

/// Five products of the size of the scores, where forward has two.
template <class X>
Kernel backward(Batch batch) {
  const auto& config = attention_config;
  const Index tokens = batch.tokens(), width = q_width + 2 * kv_width;
  const auto qkv = varied<X>(tokens * width), out = varied<X>(tokens * q_width), dout = varied<X>(tokens * q_width);
  const auto lse = constants(config.heads * tokens, 5.0F);
  const auto begins = on_device(batch.begins());
  const AttentionLimits limits{tokens, batch.sequences, tokens, false};
  const Buffer<float> scratch("scratch", attention_backward_scratch(config, limits));
  const Buffer<X> dqkv("dqkv", tokens * width);
  const double scores = bench::scores_of(batch.sequences, batch.queries, 0);
  const Work work{10 * scores * static_cast<double>(q_width),
                  static_cast<double>(tokens * (2 * width + 2 * q_width)) * sizeof(X)};
  return {work, [=](const Exec& exec) {
            layers::attention_backward(exec, config, as_const(qkv.view(tokens, width)),
                                       as_const(out.view(tokens, q_width)), as_const(lse.view(config.heads, tokens)),
                                       as_const(dout.view(tokens, q_width)), as_const(begins.view()), scratch.view(),
                                       dqkv.view(tokens, width));
          }};
}

/// Of queries in place.
Kernel hadamard(Index tokens) {
  const auto x = varied<bf16>(tokens * q_width);
  return {moving_work(tokens * q_width, 4), [=](const Exec& exec) {
            layers::hadamard(exec, attention_config.heads, attention_config.head_dim, x.view(tokens, q_width));
          }};
}

Kernel rope(Index tokens, bool is_backward) {
  const Index dim = attention_config.head_dim;
  const auto x = varied<bf16>(tokens * q_width);
  const auto cos_sin =
      made<float>(tokens * dim, [&](Index i) { return i % dim < dim / 2 ? std::cos(double(i)) : std::sin(double(i)); });
  return {moving_work(tokens * q_width, 4), [=](const Exec& exec) {
            const auto table = as_const(cos_sin.view(tokens, dim));
            const auto apply = is_backward ? layers::rope_backward<bf16> : layers::rope<bf16>;
            apply(exec, table, attention_config.heads, attention_config.head_dim, x.view(tokens, q_width));
          }};
}

Kernel rope_cos_sin(Index tokens) {
  const Index dim = attention_config.head_dim;
  const auto positions = made<int>(tokens, [](Index t) { return t; });
  const auto frequencies = made<float>(dim / 2, [&](Index i) { return std::pow(1e4, -2.0 * double(i) / double(dim)); });
  const Buffer<float> cos_sin("cos_sin", tokens * dim);
  return {moving_work(tokens * dim, 4), [=](const Exec& exec) {
            layers::rope_cos_sin(exec, as_const(positions.view()), as_const(positions.view()),
                                 {as_const(frequencies.view())}, cos_sin.view(tokens, dim));
          }};
}

}  // namespace

void add_attention() {
  for (const Batch batch : {Batch{1, 512, 0}, {1, 512, 3584}, {1, 1, 512}, {1, 1, 4096}, {32, 1, 512}}) {
    const std::string sizes = std::format("{}/{}", batch.queries > 1 ? "prefill" : "decode", batch.name());
    add("attention/bf16/" + sizes, [=] { return forward<bf16>(KvType::bf16, batch); });
    add("attention/int8/" + sizes, [=] { return forward<bf16>(KvType::int8, batch); });
    add("attention/f32/" + sizes, [=] { return forward<float>(KvType::f32, batch); });
  }
  for (const Batch batch : {Batch{1, 512, 0}, {4, 256, 0}}) {
    add("attention_backward/bf16/" + batch.name(), [=] { return backward<bf16>(batch); });
    add("attention_backward/f32/" + batch.name(), [=] { return backward<float>(batch); });
  }
  for (const Index tokens : token_counts) {
    add(std::format("hadamard/{}", tokens), [=] { return hadamard(tokens); });
    add(std::format("rope/{}", tokens), [=] { return rope(tokens, false); });
    add(std::format("rope_cos_sin/{}", tokens), [=] { return rope_cos_sin(tokens); });
  }
  add("rope_backward/512", [] { return rope(512, true); });
}

}  // namespace grist::benchmarks
