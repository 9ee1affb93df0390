// The safetensors format: 8 bytes of header length, a JSON header, raw little-endian tensors.
#pragma once

#include <grist/io/new_file.hpp>
#include <grist/io/weights.hpp>

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace grist::io {

/// Opens model.safetensors of a Hugging Face folder, or all shards that model.safetensors.index.json names. A tensor in
/// two shards is taken from the one that the index names, which must be the last by name, as transformers has it.
/// Tensors whose dtype no weight has are listed with a foreign type. Throws InputError naming file, tensor, expected
/// and found: missing or truncated file, malformed header, overlapping or out-of-file offsets, size that does not fit
/// the shape, shard and index that disagree.
Weights open_safetensors(const std::filesystem::path& folder);

/// What a written file will hold, in this order.
struct TensorHeader {
  std::string name;
  DType type;
  std::vector<Index> shape;
};

/// Writes a safetensors file piece by piece: header first, then each tensor's rows in order. The file appears under its
/// name only when close() succeeded. Throws InputError (cannot write: disk full, no permission).
class SafetensorsWriter {
public:
  SafetensorsWriter(const std::filesystem::path& file, const std::vector<TensorHeader>& tensors);
  void write(const void* data, std::size_t bytes);
  void close();

private:
  NewFile file_;
  std::uint64_t left_ = 0;  // bytes still to come
};

}  // namespace grist::io
