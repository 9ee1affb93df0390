// How much memory a rank needs, before anything is allocated.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <cstdint>
#include <string>

namespace grist {

/// Bytes of one rank.
struct MemoryPlan {
  std::uint64_t parameters = 0;
  std::uint64_t kv_cache = 0;
  std::uint64_t workspace = 0;
  std::uint64_t libraries = 0;  // that a device's libraries and the scratch of Kokkos' teams take beside it
  [[nodiscard]] std::uint64_t total() const { return parameters + kv_cache + workspace + libraries; }
};

/// The plan of the rank with coordinates (pp_rank, tp_rank).
MemoryPlan memory_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                       const ModelNumbers& numbers, const ModelLimits& limits);

/// Throws MemoryError with the sizes where the `ranks` that share this process' memory (a node's, or a device's)
/// together need more than it has free.
void check_memory(const MemoryPlan& plan, std::uint64_t needed_by_all, int ranks);

/// "1.25 GiB"
std::string human_bytes(std::uint64_t bytes);

}  // namespace grist
