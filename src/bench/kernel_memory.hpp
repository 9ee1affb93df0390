// Memory for kernels that are measured alone, for `grist bench --kernels` and for benchmarks/kernels.
#pragma once

#include <grist/backends/rates.hpp>
#include <grist/core/view.hpp>

#include <iterator>
#include <vector>

namespace grist::bench {

/// Numbers that differ.
template <class T>
Buffer<T> varied(Index size, const Exec& exec = Exec()) {
  const Buffer<T> buffer("varied", size);
  fill_varied(exec, buffer.view());
  return buffer;
}

template <class T>
Buffer<T> on_device(const std::vector<T>& values) {
  const Buffer<T> buffer("values", std::ssize(values));
  using OnHost = Kokkos::View<const T*, Kokkos::HostSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
  Kokkos::deep_copy(buffer.view(), OnHost(values.data(), values.size()));
  return buffer;
}

}  // namespace grist::bench
