// checkpoint_seed FOLDER CHECKPOINT: a checkpoint to start from, without the whole program.
#include <grist/train/checkpoint_convert.hpp>

#include <processes.hpp>

#include <Kokkos_Core.hpp>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const grist::cli::Processes processes;
  const Kokkos::ScopeGuard kokkos;
  grist::convert_to_checkpoint(grist::Exec(), argv[1], argv[2], grist::DType::f32, {});
}
