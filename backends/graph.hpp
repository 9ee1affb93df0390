// A sequence of kernels, launched as one: to decode a token takes some hundred launches of microseconds each.
#pragma once

#include <grist/core/view.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace grist {

class Graph {
public:
  virtual ~Graph() = default;

  /// Does on exec what `enqueue` enqueues there, by calling it or by replaying a recording of an earlier call with an
  /// equal key. Calls with equal keys enqueue the same kernels on the same memory, Kokkos' own scratch included, with
  /// the same sizes; what the memory holds may differ. `enqueue` waits for nothing and talks to no other rank.
  virtual void run(const Exec& exec, const std::vector<Index>& key, const std::function<void()>& enqueue) = 0;
};

/// The graph of this build's device; without one each call is a plain call.
std::unique_ptr<Graph> make_graph();

}  // namespace grist
