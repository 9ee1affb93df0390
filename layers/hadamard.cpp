#include <grist/layers/hadamard.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>

namespace grist::layers {
namespace {

constexpr int longest = 64;  // channels of a run, which a thread keeps to itself

}  // namespace

template <class X>
void hadamard(const Exec& exec, int heads, int head_dim, View2<X> x) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::hadamard::forward");
  if (heads < 1 || head_dim < 1 || static_cast<Index>(x.extent(1)) < Index{heads} * head_dim)
    throw ShapeError("hadamard: {} heads of {} are not in x [{}, {}]", heads, head_dim, x.extent(0), x.extent(1));
  const int n = std::min(longest, head_dim & -head_dim);
  const Index runs = Index{heads} * head_dim / n;
  const float factor = 1 / std::sqrt(static_cast<float>(n));
  Kokkos::parallel_for(
      "grist::hadamard::forward", Indices<Exec>(exec, 0, static_cast<Index>(x.extent(0)) * runs),
      KOKKOS_LAMBDA(Index i) {
        X* const run = &x(i / runs, i % runs * n);
        float values[longest];
        for (int c = 0; c < n; ++c) values[c] = static_cast<float>(run[c]);
        for (int half = 1; half < n; half *= 2) {
          for (int first = 0; first < n; first += 2 * half) {
            for (int c = first; c < first + half; ++c) {
              const float a = values[c], b = values[c + half];
              values[c] = a + b;
              values[c + half] = a - b;
            }
          }
        }
        for (int c = 0; c < n; ++c) run[c] = X(factor * values[c]);
      });
}

template void hadamard(const Exec&, int, int, View2<float>);
template void hadamard(const Exec&, int, int, View2<bf16>);

}  // namespace grist::layers
