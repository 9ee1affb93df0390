#include <grist/backends/rates.hpp>

#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>
#include <grist/core/clock.hpp>
#include <grist/core/errors.hpp>

#include <algorithm>
#include <chrono>

namespace grist {
namespace {

constexpr Index chunk = Index{1} << 14;  // that a team sums
constexpr int streams = 8;               // of a chunk: more lines of the cache are on their way

/// Of 8 bytes, for a process that shares the memory with others.
Index words(int sharers) { return std::max((Index{1} << 27) / sharers, Index{1} << 23) / chunk * chunk; }

template <class F>
double seconds(const Exec& exec, F&& f) {
  exec.fence("grist::rates: what came before");
  const auto begin = std::chrono::steady_clock::now();
  f();
  exec.fence("grist::rates: what is measured");
  return seconds_since(begin);
}

void sum_chunks(const Exec& exec, View1<const Index> array, View1<Index> sums) {
  const Index length = chunk;
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::rates::read", Team(exec, static_cast<int>(sums.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index* const from = array.data() + team.league_rank() * length;
        Index sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, length / streams),
            [&](Index i, Index& part) {
              Index of_streams = 0;
              for (int s = 0; s < streams; ++s) of_streams += from[i + s * (length / streams)];
              part += of_streams;
            },
            sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] { sums(team.league_rank()) = sum; });
      });
}

/// FLOP per second of `multiply`, a product of n tokens with an n x n matrix.
template <class F>
double square_rate(const Exec& exec, Index n, F&& multiply) {
  double best = 1e300;
  for (int round = 0; round < 3; ++round) best = std::min(best, seconds(exec, multiply));
  return 2.0 * static_cast<double>(n * n * n) / best;
}

/// 0 where the provider declines.
template <class T>
double gemm_rate_at(const Exec& exec, Gemm& gemm, Index n) {
  const Buffer<T> x("rates x", n * n), w("rates w", n * n), y("rates y", n * n);
  fill_varied(exec, x.view());
  fill_varied(exec, w.view());
  const auto multiply = [&] {
    return gemm.run(exec, {as_const(x.view(n, n)), Op::none, as_const(w.view(n, n)), Op::transposed, 0, y.view(n, n)});
  };
  return multiply() ? square_rate(exec, n, multiply) : 0;
}

/// Bytes of which two are never an f16 that is not finite: blocks hold f16 scales.
void fill_finite(const Exec& exec, View1<std::uint8_t> bytes) {
  Kokkos::parallel_for(
      "grist::rates::fill_bytes", Indices<Exec>(exec, 0, bytes.extent(0)),
      KOKKOS_LAMBDA(Index i) { bytes(i) = static_cast<std::uint8_t>(37 * i % 61); });
}

/// 0 where it is served as bf16.
double int8_rate_at(const Exec& exec, Index n) {
  const Buffer<std::uint8_t> blocks("rates blocks", row_bytes(Format::q8_0, n) * n);
  Weight w(n, 1);
  w.add({Format::q8_0, n, blocks.data(), reads_interleaved(DType::bf16, Format::q8_0)});
  if (!serves_many_tokens(DType::bf16, w)) return 0;
  fill_finite(exec, blocks.view());
  const Buffer<bf16> x("rates x", n * n), y("rates y", n * n);
  fill_varied(exec, x.view());
  Products products("portable");  // which is not asked
  const auto multiply = [&] { products.multiply(exec, as_const(x.view(n, n)), w, y.view(n, n)); };
  multiply();
  return square_rate(exec, n, multiply);
}

/// Sizes grow until one product takes long enough to be measured.
template <class F>
double growing(F&& rate_at) {
  constexpr double long_enough = 0.02;  // seconds
  double rate = 0;
  for (Index n = 1024; n <= 8192; n *= 2) {
    rate = rate_at(n);
    if (2.0 * static_cast<double>(n * n * n) > long_enough * rate) break;
  }
  return rate;
}

}  // namespace

ReadBandwidth::ReadBandwidth(const Exec& exec, int sharers)
    : exec_(exec), array_("rates array", words(sharers)), sums_("rates sums", words(sharers) / chunk) {
  Kokkos::deep_copy(exec_, array_.view(), Index{1});
}

double ReadBandwidth::measure() {
  const double time = seconds(exec_, [&] { sum_chunks(exec_, as_const(array_.view()), sums_.view()); });
  const auto sums = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, sums_.view());
  for (std::size_t i = 0; i < sums.extent(0); ++i)
    if (sums(i) != chunk) throw InternalError("rates: a sum over {} ones is {}", chunk, sums(i));
  return static_cast<double>(array_.size()) * sizeof(Index) / time;
}

Triad::Triad(const Exec& exec, int sharers)
    : exec_(exec), a_("rates a", words(sharers) / 3), b_("rates b", a_.size()), c_("rates c", a_.size()) {
  Kokkos::deep_copy(exec_, a_.view(), 0.0);
  Kokkos::deep_copy(exec_, b_.view(), 1.0);
  Kokkos::deep_copy(exec_, c_.view(), 2.0);
}

double Triad::measure() {
  const auto a = a_.view(), b = b_.view(), c = c_.view();
  const double time = seconds(exec_, [&] {
    Kokkos::parallel_for("grist::rates::triad", Indices<Exec>(exec_, 0, a.extent(0)),
                         KOKKOS_LAMBDA(Index i) { a(i) = b(i) + 3.0 * c(i); });
  });
  double first = 0;
  Kokkos::deep_copy(first, Kokkos::subview(a, 0));
  if (first != 7) throw InternalError("rates: 1 + 3 x 2 is {}", first);
  return 3.0 * static_cast<double>(a_.size()) * sizeof(double) / time;
}

double gemm_rate(const Exec& exec, Gemm& gemm, DType type) {
  switch (type) {
    case DType::f32: return growing([&](Index n) { return gemm_rate_at<float>(exec, gemm, n); });
    case DType::bf16: return growing([&](Index n) { return gemm_rate_at<bf16>(exec, gemm, n); });
    case DType::f16: return growing([&](Index n) { return gemm_rate_at<f16>(exec, gemm, n); });
  }
  return 0;
}

double int8_rate(const Exec& exec) {
  return growing([&](Index n) { return int8_rate_at(exec, n); });
}

}  // namespace grist
