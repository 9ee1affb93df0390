// What the device of this process can do, measured: the limits that a model's decode and prefill come near.
#pragma once

#include <grist/backends/gemm.hpp>

namespace grist {

/// Sums over an array of 1 GiB, which no cache holds.
class ReadBandwidth {
public:
  explicit ReadBandwidth(const Exec& exec);
  /// Bytes per second of one sum. Waits for it.
  double measure();

private:
  const Exec& exec_;
  Buffer<Index> array_;
  Buffer<Index> sums_;
};

/// FLOP per second of a square product that takes some hundredths of a second, the best of three; 0 where the provider
/// declines the type.
double gemm_rate(const Exec& exec, Gemm& gemm, DType type);

}  // namespace grist
