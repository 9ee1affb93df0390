// The layouts (tp, pp) that a test with several ranks goes through.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/core/errors.hpp>
#include <grist/model/sharding.hpp>

#include <support/ranks.hpp>

#include <vector>

namespace grist::test {

/// Every layout of all ranks that the rules allow for this model.
inline std::vector<Layout> layouts_for(const ModelSpec& spec) {
  std::vector<Layout> layouts;
  for (int tp = 1; tp <= ranks(); ++tp) {
    if (ranks() % tp != 0) continue;
    try {
      shard_of(spec, tp, 0);
      stages_of(spec, ranks() / tp);
    } catch (const UsageError&) {
      continue;
    }
    layouts.push_back({.pp = ranks() / tp, .tp = tp});
  }
  return layouts;
}

}  // namespace grist::test
