// What the device of this process can do, measured: the limits that a model's decode and prefill come near.
#pragma once

#include <grist/backends/gemm.hpp>

namespace grist {

/// Sums over an array which no cache holds: a GiB for all processes that share the memory, at least 64 MiB for each.
class ReadBandwidth {
public:
  explicit ReadBandwidth(const Exec& exec, int sharers = 1);
  /// Bytes per second of one sum. Waits for it.
  double measure();

private:
  const Exec& exec_;
  Buffer<Index> array_;
  Buffer<Index> sums_;
};

/// a = b + s c over three arrays, together as large as that (the triad of STREAM, McCalpin 1995).
class Triad {
public:
  explicit Triad(const Exec& exec, int sharers = 1);
  /// Bytes per second of one pass, two numbers read and one written for each element. Waits for it.
  double measure();

private:
  const Exec& exec_;
  Buffer<double> a_, b_, c_;
};

/// Values of many bit patterns in [-0.5, 0.5]: with constants a device draws less power and multiplies faster.
template <class T>
void fill_varied(const Exec& exec, View1<T> values) {
  Kokkos::parallel_for("grist::rates::fill", Indices<Exec>(exec, 0, values.extent(0)),
                       KOKKOS_LAMBDA(Index i) { values(i) = T(static_cast<float>(i % 1021) / 1021.0F - 0.5F); });
}

/// FLOP per second of a square product, of 8192 rows or as many as take some hundredths of a second: the best of three;
/// 0 where the provider declines the type.
double gemm_rate(const Exec& exec, Gemm& gemm, DType type);

/// The same of tokens of bf16 with a weight of Q8_0, of which bytes are multiplied; 0 where a provider gets it as bf16.
double int8_rate(const Exec& exec);

}  // namespace grist
