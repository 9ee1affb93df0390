// Token ids in, logits out, as a View in the memory of the device: what a program needs that has no texts.
#include "next_token.hpp"

#include <grist/model/model.hpp>

#include <cstdlib>
#include <iostream>
#include <limits>
#include <vector>

int next_token(grist::CommHandle comm, int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: next_token MODEL ID...\n";
    return 2;
  }
  std::vector<int> ids;
  for (int i = 2; i < argc; ++i) ids.push_back(std::atoi(argv[i]));
  const auto tokens = static_cast<grist::Index>(ids.size());
  const int ranks = grist::Communicator(comm).size();
  const grist::ProcessGrid grid(comm, {.tp = ranks});
  const auto files = grist::open_model(argv[1]);
  const auto model = grist::make_model(files, grid, {.limits = {.batch_tokens = tokens, .context = tokens}});

  const grist::Exec exec;
  const grist::BatchItem item{.ids = ids};
  model->run(exec, nullptr, {.items = {&item, 1}});  // no cache: the item is a whole sequence
  const auto logits = model->logits(exec);           // [1, this rank's columns]
  using Best = Kokkos::MaxFirstLoc<float, grist::Index>;
  Best::value_type best;
  Kokkos::parallel_reduce(
      "next_token", grist::Indices<grist::Exec>(exec, 0, logits.extent(1)),
      KOKKOS_LAMBDA(grist::Index column, Best::value_type & found) {
        if (logits(0, column) > found.val) found = {logits(0, column), column};
      },
      Best(best));

  // Of equal logits the first token.
  const float highest = grid.world().all_reduce(best.val, grist::Reduction::max);
  const int id = static_cast<int>(model->vocabulary().begin + best.loc);
  const int first = -grid.world().all_reduce(best.val == highest ? -id : std::numeric_limits<int>::min(),
                                             grist::Reduction::max);
  if (grid.world().rank() == 0) std::cout << first << '\n';
  return 0;
}
