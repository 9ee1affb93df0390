#include <grist/comm/process_grid.hpp>

#include <grist/core/errors.hpp>

namespace grist {
namespace {

/// Splits along one axis: `stride` ranks lie between neighbours, `extent` ranks are on it.
Communicator along(const Communicator& world, int stride, int extent) {
  const int coordinate = world.rank() / stride % extent;
  return world.split(world.rank() - coordinate * stride, coordinate);
}

Communicator checked(CommHandle comm, const Layout& layout) {
  for (const int extent : {layout.dp, layout.pp, layout.cp, layout.ep, layout.tp}) {
    if (extent < 1) throw UsageError("layout {}: each axis has one rank or more", to_string(layout));
  }
  Communicator world(comm);
  layout.expect_ranks(world.size());
  return world;
}

}  // namespace

void Layout::expect_ranks(int started) const {
  if (ranks() == started) return;
  if (!has_mpi && started == 1)
    throw UsageError("layout {} needs {} ranks, and this grist was built without MPI: one rank is all it has",
                     to_string(*this), ranks());
  throw UsageError("layout {} needs {} ranks, {} were started; start them with `mpirun -n {}`", to_string(*this),
                   ranks(), started, ranks());
}

std::string to_string(const Layout& layout) {
  std::string text;
  const auto axis = [&](const char* name, int extent) {
    if (extent != 1) text += std::format("{}{}={}", text.empty() ? "" : " ", name, extent);
  };
  axis("dp", layout.dp);
  axis("pp", layout.pp);
  axis("cp", layout.cp);
  axis("ep", layout.ep);
  axis("tp", layout.tp);
  return text.empty() ? "tp=1" : text;
}

ProcessGrid::ProcessGrid(CommHandle comm, Layout layout)
    : layout_(layout),
      world_(checked(comm, layout)),
      dp_(along(world_, layout.pp * layout.cp * layout.ep * layout.tp, layout.dp)),
      pp_(along(world_, layout.cp * layout.ep * layout.tp, layout.pp)),
      cp_(along(world_, layout.ep * layout.tp, layout.cp)),
      ep_(along(world_, layout.tp, layout.ep)),
      tp_(along(world_, 1, layout.tp)) {}

}  // namespace grist
