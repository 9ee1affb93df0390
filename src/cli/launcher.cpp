#include "launcher.hpp"

#include <cstdlib>

namespace grist::cli {

Launcher launcher() {
  struct Names {
    const char *rank, *size;
  };
  for (const Names& names : {Names{"PMI_RANK", "PMI_SIZE"}, Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                             Names{"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
                             Names{"MVP_COMM_WORLD_RANK", "MVP_COMM_WORLD_SIZE"},  // MVAPICH 2 and its successor
                             Names{"FLUX_TASK_RANK", "FLUX_JOB_SIZE"}, Names{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}}) {
    const char *rank = std::getenv(names.rank), *size = std::getenv(names.size);
    if (rank != nullptr && size != nullptr && std::atoi(size) > 0) return {std::atoi(rank), std::atoi(size)};
  }
  return {};
}

}  // namespace grist::cli
