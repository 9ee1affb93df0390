// Random weights, the same whatever machine or layout makes them.
#pragma once

#include <grist/core/philox.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>
#include <grist/model/tensor_table.hpp>

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace grist {

/// The numbers that a tensor of a file begins with: an element is a function of seed, name and place in the file.
class InitialValues {
public:
  InitialValues(std::string_view tensor, Initial initial, float deviation, std::uint64_t seed);

  /// out [count] = elements first, first + stride, ...
  void fill(Index first, Index stride, Index count, float* out) const;

private:
  PhiloxStream stream_;
  Initial initial_;
  float deviation_;
};

/// Writes model.safetensors for a config into a folder, by its family's names: matrices normal with the spec's
/// initializer_range, drawn by Philox from (seed, tensor name, element index); norms 1, biases 0. In the config's
/// dtype. Throws InputError where the file cannot be written.
void write_initial_weights(const ModelFiles& files, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress);

}  // namespace grist
