// Random weights, the same whatever machine or layout makes them.
#pragma once

#include <grist/model/parameters.hpp>
#include <grist/model/spec.hpp>

#include <cstdint>
#include <filesystem>

namespace grist {

/// Writes model.safetensors for a spec into a folder: matrices normal with the spec's initializer_range, drawn by Philox
/// from (seed, tensor name, element index); norms 1, biases 0. In the spec's stored type. Throws InputError where the
/// file cannot be written.
void write_initial_weights(const ModelSpec& spec, std::uint64_t seed, const std::filesystem::path& folder,
                           const Progress& progress);

}  // namespace grist
