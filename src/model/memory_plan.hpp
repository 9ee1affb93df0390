// How much memory a rank needs, before anything is allocated.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <cstdint>
#include <string>

namespace grist {

class Products;

/// Bytes of one rank.
struct MemoryPlan {
  std::uint64_t parameters = 0;
  std::uint64_t mapped = 0;  // of the parameters, what stays where files are mapped: processes of a node share it
  std::uint64_t kv_cache = 0;
  std::uint64_t workspace = 0;  // activations, logits, attention's partial results
  std::uint64_t batch = 0;      // ids, page tables, attention's items, tables of positions
  std::uint64_t products = 0;   // converted panels and what their provider holds
  std::uint64_t sampling = 0;   // of the scheduler, where there is one
  std::uint64_t code = 0;       // kernels that a device's libraries load when first used: a guess, nothing tells it
  [[nodiscard]] std::uint64_t scratch() const { return workspace + batch + products + sampling + code; }
  [[nodiscard]] std::uint64_t total() const { return parameters + kv_cache + scratch(); }
  /// Adds what another model of the same process takes; kernels are loaded once.
  MemoryPlan& operator+=(const MemoryPlan& other);
};

/// The plan of the rank with coordinates (pp_rank, tp_rank), without a scheduler; scheduler_plan counts one.
MemoryPlan memory_plan(const ModelFiles& files, const Layout& layout, int pp_rank, int tp_rank,
                       const ModelNumbers& numbers, const ModelLimits& limits, Products& products);

/// Throws MemoryError with the sizes where the `ranks` that share this process' memory (a node's, or a device's)
/// together need more than it has free.
void check_memory(const MemoryPlan& plan, std::uint64_t needed_by_all, int ranks);

/// "1.25 GiB"
std::string human_bytes(std::uint64_t bytes);

}  // namespace grist
