// Checkpoints: one HDF5 file of global tensors under their Hugging Face names, written and read at any layout.
//   /model/NAME        weights, f32 or bf16        /optimizer/m/NAME, /optimizer/v/NAME   what the optimizer keeps, f32
//   /train             attributes: step, tokens, seed and what else the trainer names; the texts `configuration` and
//                      `config.json`
// Each tensor has the attribute `checksum`. Of norms that the model computes with as 1 + w, /model holds 1 + w, so that
// saving changes no bit, and the attribute `plus_one` says so. docs/checkpoints.md tells all of the format.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/train/checkpoint_layout.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace grist {

/// What a run needs to go on, but for tensors.
struct TrainingState {
  Index step = 0;
  Index tokens = 0;
  std::uint64_t seed = 0;
  std::map<std::string, Index> integers;  // the data's position and the like, by the trainer's names
  std::map<std::string, double> reals;
  std::string configuration;  // JSON
  std::string model_config;   // config.json of the model
};

/// Values of one kind for all tensors of a layout: weights ("model"), a moment ("optimizer/m").
struct TensorGroup {
  std::string name;
  View1<float> values;      // the flat array, or with ZeRO-1 this rank's range of it
  Index first = 0;          // of `values` in the flat array
  DType type = DType::f32;  // in the file; what is read may have any
};

/// Collective over the grid. Written beside as FILE.part, synced and renamed: FILE is complete or as before. Whole flat
/// arrays are written by the first replica, ranges by their ranks; the ranges of dp must tile the flat array
/// (InternalError). `hints` are MPI-IO's. Throws the same InputError on all ranks where the file cannot be written: a
/// full disk, a folder that may not be written to.
void save_checkpoint(const Exec& exec, const std::filesystem::path& file, const CheckpointLayout& layout,
                     const std::vector<TensorGroup>& groups, const TrainingState& state, const ProcessGrid& grid,
                     const std::string& hints = {});

/// Fills the groups' values, each rank with what it holds; padding stays as it is. With `verify` every tensor's
/// checksum is compared. Throws the same InputError on all ranks: no complete file, tensors missing, unknown or of
/// another shape than the layout's.
TrainingState load_checkpoint(const Exec& exec, const std::filesystem::path& file, const CheckpointLayout& layout,
                              const std::vector<TensorGroup>& groups, const ProcessGrid& grid, bool verify = true);

/// Of this process alone.
TrainingState read_training_state(const std::filesystem::path& file);

}  // namespace grist
