#include <grist/bench/build.hpp>

#include <Kokkos_Core.hpp>

#include <format>

namespace grist::bench {

BuildFacts build_facts() {
  return {GRIST_COMPILER,
          std::format("{}.{}.{}", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100, KOKKOS_VERSION % 100),
          GRIST_ONEDNN_VERSION};
}

}  // namespace grist::bench
