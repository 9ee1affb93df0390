// The ranks as a grid of parallel axes: data, pipeline, context, expert, tensor.
#pragma once

#include <grist/comm/communicator.hpp>

#include <string>

namespace grist {

/// Ranks along each axis. tp varies fastest, so that its ranks share a node.
struct Layout {
  int dp = 1;
  int pp = 1;
  int cp = 1;
  int ep = 1;
  int tp = 1;

  [[nodiscard]] Index ranks() const { return Index{dp} * pp * cp * ep * tp; }
  /// Throws UsageError where so many ranks are not what the layout needs.
  void expect_ranks(int started) const;
  bool operator==(const Layout&) const = default;
};
std::string to_string(const Layout& layout);

/// This rank's place in the grid and its communicator along each axis. Throws UsageError where the layout does not use
/// exactly the communicator's ranks.
class ProcessGrid {
public:
  ProcessGrid(CommHandle comm, Layout layout);

  [[nodiscard]] const Layout& layout() const { return layout_; }
  [[nodiscard]] const Communicator& world() const { return world_; }
  /// The ranks that differ from this one in that axis alone; their rank() is the coordinate.
  [[nodiscard]] const Communicator& dp() const { return dp_; }
  [[nodiscard]] const Communicator& pp() const { return pp_; }
  [[nodiscard]] const Communicator& cp() const { return cp_; }
  [[nodiscard]] const Communicator& ep() const { return ep_; }
  [[nodiscard]] const Communicator& tp() const { return tp_; }

private:
  Layout layout_;
  Communicator world_;
  Communicator dp_, pp_, cp_, ep_, tp_;
};

}  // namespace grist
