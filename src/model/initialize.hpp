// Random weights, the same whatever machine or layout makes them.
#pragma once

#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <cstdint>
#include <filesystem>

namespace grist {

/// Writes model.safetensors for a config into a folder, by its family's names: matrices normal with the spec's
/// initializer_range, drawn by Philox from (seed, tensor name, element index); norms 1, biases 0. In the config's
/// dtype. Throws InputError where the file cannot be written.
void write_initial_weights(const ModelFiles& files, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress);

}  // namespace grist
