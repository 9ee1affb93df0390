// How much memory a rank takes in training, before anything is allocated.
#pragma once

#include <grist/train/trainer.hpp>

#include <cstdint>

namespace grist::train {

/// Bytes of a rank at its peak, by what they are for.
struct TrainerMemory {
  std::uint64_t weights = 0;        // master weights, and the copy that bf16 computes with
  std::uint64_t gradients = 0;
  std::uint64_t moments = 0;        // of the optimizer
  std::uint64_t activations = 0;    // of all micro-batches under way, and scratch of passes
  std::uint64_t communication = 0;  // sums over ranks on their way
  std::uint64_t checkpoint = 0;     // packed while one is written
  std::uint64_t libraries = 0;      // what those of products, MPI and HDF5 take when they are used
  [[nodiscard]] std::uint64_t total() const {
    return weights + gradients + moments + activations + communication + checkpoint + libraries;
  }
};

/// Of the rank with coordinates (pp_rank, tp_rank), beside what the process takes that has read `spec`. `saves`: it
/// writes checkpoints. Throws UsageError where the layout does not go with the model.
TrainerMemory trainer_memory(const ModelSpec& spec, const TensorNames& names, const Layout& layout, int pp_rank,
                             int tp_rank, const TrainerOptions& options, bool saves);

}  // namespace grist::train
