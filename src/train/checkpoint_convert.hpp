// Between checkpoints and Hugging Face folders, piece by piece: never a whole model in memory.
#pragma once

#include <grist/hdf5/hdf5_file.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace grist {

/// Writes the weights of a checkpoint as model.safetensors, or as shards of at most `most_bytes` each (a larger tensor
/// has one of its own) with model.safetensors.index.json; and config.json. In `type`, or as stored. Checksums are
/// compared on the way. Throws InputError, and UsageError where the folder already holds a model.
void convert_to_folder(const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
                       std::optional<DType> type, std::uint64_t most_bytes, const Progress& progress);

/// Writes a checkpoint of step 0 with the weights of a Hugging Face folder, a layer at a time.
void convert_to_checkpoint(const Exec& exec, const std::filesystem::path& folder,
                           const std::filesystem::path& checkpoint, DType type, const Progress& progress);

/// Reads all numbers of a tensor of a checkpoint ("/model/NAME") and compares its checksum. Throws InputError.
void verify_tensor(const io::Hdf5File& checkpoint, const std::string& tensor);

}  // namespace grist
