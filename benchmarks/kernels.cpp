// Every kernel alone (Google Benchmark): the time of a call, with the bytes that it must move and the FLOPs of its
// formula as rates, beside the machine's own from `grist info --measure`.
//   grist_kernels --benchmark_filter=matvec
#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>
#include <grist/backends/rates.hpp>
#include <grist/layers/activation.hpp>
#include <grist/layers/attention.hpp>
#include <grist/layers/norm.hpp>

#include <benchmark/benchmark.h>

#include <format>

namespace {

using namespace grist;

/// Sizes of the 1.1 B model that docs/performance.md speaks of.
constexpr Index hidden = 2048, intermediate = 5632;
constexpr AttentionConfig attention_config{.heads = 32, .kv_heads = 4, .head_dim = 64, .scale = 0.125F};

template <class T>
Buffer<T> varied(Index size) {
  Buffer<T> buffer("varied", size);
  fill_varied(Exec(), buffer.view());
  return buffer;
}

/// Runs f until its time is known; bytes and FLOPs are of one call.
template <class F>
void measure(benchmark::State& state, double bytes, double flops, F&& f) {
  const Exec exec;
  for ([[maybe_unused]] auto _ : state) {
    f(exec);
    exec.fence("grist::benchmark");
  }
  using benchmark::Counter;
  state.counters["B/s"] = Counter(bytes, Counter::kIsIterationInvariantRate);
  if (flops > 0) state.counters["FLOP/s"] = Counter(flops, Counter::kIsIterationInvariantRate);
}

/// A weight too large for the caches, so that it is read from memory as in a model of many layers.
void matvec_of(benchmark::State& state, Format format, Index tokens) {
  constexpr Index megabyte = 1 << 20;
  const Index rows = (tokens == 1 ? 512 : 64) * megabyte / row_bytes(format, hidden) / 64 * 64;
  const Index bytes = rows * row_bytes(format, hidden);
  const Buffer<std::byte> memory("rows", bytes);
  with_format(format, [&]<class Block>(Block block) {
    for (std::size_t byte = 0; byte < sizeof(Block); ++byte) reinterpret_cast<unsigned char*>(&block)[byte] = 0x11;
    const View1<Block> blocks(reinterpret_cast<Block*>(memory.data()), static_cast<std::size_t>(bytes) / sizeof(Block));
    Kokkos::deep_copy(Exec(), blocks, block);
  });
  Weight w(hidden, 1);
  w.add({format, rows, memory.data()});
  const auto x = varied<bf16>(tokens * hidden);
  const Buffer<bf16> y("y", tokens * rows);
  measure(state, static_cast<double>(bytes), 2.0 * static_cast<double>(rows * hidden * tokens), [&](const Exec& exec) {
    matvec(exec, as_const(x.view(tokens, hidden)), {}, w, y.view(tokens, rows));
  });
}

template <class T>
void product(benchmark::State& state, Index tokens) {
  Products products;
  const auto x = varied<T>(tokens * hidden), w = varied<T>(intermediate * hidden);
  const Buffer<T> y("y", tokens * intermediate);
  const Weight weight(as_const(w.view(intermediate, hidden)));
  measure(state, static_cast<double>(sizeof(T)) * static_cast<double>(intermediate * hidden),
          2.0 * static_cast<double>(intermediate * hidden * tokens), [&](const Exec& exec) {
            products.multiply(exec, as_const(x.view(tokens, hidden)), weight, y.view(tokens, intermediate));
          });
}

/// `sequences` of them, each with `queries` new tokens after `past` others, over pages in type T.
template <class T>
void attention_of(benchmark::State& state, int sequences, int queries, int past) {
  const auto& config = attention_config;
  const int length = queries + past, pages = (length + kv_page_rows - 1) / kv_page_rows;
  std::vector<int> begin, lengths(static_cast<std::size_t>(sequences), length), first, table;
  for (int s = 0; s <= sequences; ++s) begin.push_back(s * queries);
  for (int s = 0; s < sequences; ++s) first.push_back(s * pages);
  for (int p = 0; p < sequences * pages; ++p) table.push_back(p);
  const Index tokens = Index{sequences} * queries, width = Index{config.heads} * config.head_dim;
  const Index page = Index{kv_page_rows} * config.kv_heads * config.head_dim;
  const AttentionLimits limits{tokens, sequences, Index{sequences} * length, true};
  std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(config, limits))), merges = items;
  const AttentionPlan plan = plan_attention(config, limits, begin, lengths, items.data(), merges.data());
  const auto on_device = [](const auto& values, std::size_t count) {
    using V = std::remove_cvref_t<decltype(values[0])>;
    Buffer<V> buffer("values", static_cast<Index>(count));
    using OnHost = Kokkos::View<const V*, Kokkos::HostSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
    Kokkos::deep_copy(buffer.view(), OnHost(values.data(), count));
    return buffer;
  };
  const auto d_begin = on_device(begin, begin.size()), d_lengths = on_device(lengths, lengths.size()),
             d_first = on_device(first, first.size()), d_table = on_device(table, table.size());
  const auto d_items = on_device(items, static_cast<std::size_t>(plan.items)),
             d_merges = on_device(merges, static_cast<std::size_t>(plan.merges));
  const auto keys = varied<T>(sequences * pages * page), values = varied<T>(sequences * pages * page);
  const auto q = varied<T>(tokens * width);
  const Buffer<T> out("out", tokens * width);
  const Buffer<float> scratch("scratch", attention_scratch(config, limits));
  const KvPages kv{kv_type_of(dtype_of<T>),
                   keys.data(),
                   values.data(),
                   config.head_dim,
                   Index{kv_page_rows} * config.head_dim,
                   page,
                   as_const(d_table.view()),
                   as_const(d_first.view())};
  const PackedSequences packed{as_const(d_begin.view()), as_const(d_lengths.view()), as_const(d_items.view()),
                               as_const(d_merges.view()), plan.partials};
  const double seen = sequences * (queries * static_cast<double>(past) + queries * (queries + 1.0) / 2);
  const double bytes = 2.0 * sizeof(T) * sequences * length * config.kv_heads * config.head_dim;
  measure(state, bytes, 4.0 * seen * config.heads * config.head_dim, [&](const Exec& exec) {
    layers::attention(exec, config, as_const(q.view(tokens, width)), kv, packed, scratch.view(),
                      out.view(tokens, width));
  });
}

void rms_norm(benchmark::State& state, Index tokens) {
  const auto x = varied<float>(tokens * hidden), w = varied<float>(hidden);
  const Buffer<bf16> y("y", tokens * hidden);
  measure(state, 6.0 * static_cast<double>(tokens * hidden), 0, [&](const Exec& exec) {
    layers::rms_norm(exec, as_const(x.view(tokens, hidden)), as_const(w.view()), 1e-5F, y.view(tokens, hidden));
  });
}

void gated_activation(benchmark::State& state, Index tokens) {
  const auto x = varied<bf16>(2 * tokens * intermediate);
  const Buffer<bf16> y("y", tokens * intermediate);
  measure(state, 6.0 * static_cast<double>(tokens * intermediate), 0, [&](const Exec& exec) {
    layers::gated_activation(exec, layers::Activation::silu, as_const(x.view(tokens, 2 * intermediate)),
                             y.view(tokens, intermediate));
  });
}

void add(const std::string& name, auto&& f) { benchmark::RegisterBenchmark(name, f)->UseRealTime(); }

void register_all() {
  for (const Format format : {Format::bf16, Format::f16, Format::q8_0, Format::q4_0, Format::q4_1, Format::q5_0,
                              Format::q5_1, Format::q2_k, Format::q3_k, Format::q4_k, Format::q5_k, Format::q6_k,
                              Format::iq4_nl, Format::iq4_xs})
    for (const Index tokens : {1, 2, 4, 8, 16, 32, 64})
      add(std::format("matvec/{}/{}", name_of(format), tokens),
          [=](benchmark::State& state) { matvec_of(state, format, tokens); });
  for (const Index tokens : {64, 512}) {
    add(std::format("product/bf16/{}", tokens), [=](benchmark::State& state) { product<bf16>(state, tokens); });
    add(std::format("product/f32/{}", tokens), [=](benchmark::State& state) { product<float>(state, tokens); });
  }
  const auto add_attention = [](const char* what, int sequences, int queries, int past) {
    const std::string sizes = std::format("{}/{}x{}_after_{}", what, sequences, queries, past);
    using State = benchmark::State;
    add("attention/bf16/" + sizes, [=](State& state) { attention_of<bf16>(state, sequences, queries, past); });
    add("attention/f32/" + sizes, [=](State& state) { attention_of<float>(state, sequences, queries, past); });
  };
  add_attention("prefill", 1, 512, 0);
  add_attention("prefill", 1, 512, 3584);
  add_attention("decode", 1, 1, 512);
  add_attention("decode", 1, 1, 4096);
  add_attention("decode", 32, 1, 512);
  for (const Index tokens : {1, 512}) {
    add(std::format("rms_norm/{}", tokens), [=](benchmark::State& state) { rms_norm(state, tokens); });
    add(std::format("gated_activation/{}", tokens), [=](benchmark::State& state) { gated_activation(state, tokens); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Kokkos::ScopeGuard kokkos(argc, argv);
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
