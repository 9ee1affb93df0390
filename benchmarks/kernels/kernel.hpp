// What every file of kernels uses: sizes, memory, and how a kernel is measured.
#pragma once

#include <grist/bench/kernel_memory.hpp>
#include <grist/bench/kernel_work.hpp>

#include <benchmark/benchmark.h>

#include <format>
#include <functional>
#include <string>
#include <vector>

namespace grist::benchmarks {

using bench::moving_work;
using bench::on_device;
using bench::varied;
using bench::Work;

/// Sizes of the 1.1 B model that docs/performance.md speaks of.
constexpr Index hidden = 2048, intermediate = 5632, vocabulary = 32000;
constexpr AttentionConfig attention_config{.heads = 32, .kv_heads = 4, .head_dim = 64, .scale = 0.125F};
constexpr Index q_width = Index{attention_config.heads} * attention_config.head_dim;
constexpr Index kv_width = Index{attention_config.kv_heads} * attention_config.head_dim;
/// Of a layer with experts.
constexpr Index experts = 8, chosen = 2;
constexpr float eps = 1e-5F;

/// Tokens of a decode and of a prompt.
constexpr Index token_counts[] = {1, 512};

template <class T>
Buffer<T> constants(Index size, T value) {
  const Buffer<T> buffer("constants", size);
  Kokkos::deep_copy(Exec(), buffer.view(), value);
  return buffer;
}

/// f(0), f(1), ...
template <class T, class F>
Buffer<T> made(Index size, F&& f) {
  std::vector<T> values;
  for (Index i = 0; i < size; ++i) values.push_back(static_cast<T>(f(i)));
  return on_device(values);
}

/// A call, which holds its memory, and what it must do at least.
struct Kernel {
  Work work;
  std::function<void(const Exec&)> call;
};

/// Registers a kernel, which `make` makes when it is measured.
template <class Make>
void add(const std::string& name, Make&& make) {
  const auto measure = [make](benchmark::State& state) {
    const Exec exec;
    const Kernel kernel = make();
    for ([[maybe_unused]] auto _ : state) {
      kernel.call(exec);
      exec.fence("grist::benchmark");
    }
    const auto rate = [](double amount) {
      return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
    };
    state.counters["B/s"] = rate(kernel.work.bytes);
    if (kernel.work.flops > 0) state.counters["FLOP/s"] = rate(kernel.work.flops);
  };
  benchmark::RegisterBenchmark(name, measure)->UseRealTime();
}

void add_products();
void add_attention();
void add_layers();
void add_training();

}  // namespace grist::benchmarks
