// Families of models: how config.json or GGUF metadata become a ModelSpec, and what a family calls its tensors.
#pragma once

#include <grist/io/gguf.hpp>
#include <grist/io/weights.hpp>
#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>
#include <grist/model/spec.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace grist {

struct Family {
  std::string_view name;
  /// Names in `architectures` of config.json, separated by spaces.
  std::string_view architectures;
  ModelSpec (*from_config)(ConfigReader& config);
  ModelSpec (*from_gguf)(GgufReader& gguf);
  /// The GGUF name of a tensor given by its Hugging Face name.
  std::string (*gguf_name)(std::string_view name);
  /// GGUF keeps the rows of these tensors in the order of adjacent RoPE pairs.
  bool (*gguf_pairs_rows)(std::string_view name);
  /// Tensors that files may hold and that are made anew from the config.
  bool (*derived)(std::string_view name);
};

const Family& family_named(std::string_view name);

/// What every family asks of the sizes; throws InputError naming the file.
void check_sizes(const ModelSpec& spec, const std::string& file);

/// What a model's files say. `gguf` tells how its tensors are named and laid out.
struct ModelFiles {
  ModelSpec spec;
  io::Weights weights;
  bool gguf = false;
};

/// The spec alone, of a Hugging Face folder, its config.json or a GGUF file. Throws InputError: missing or malformed
/// files, unknown architecture, keys that are not understood.
ModelSpec read_spec(const std::filesystem::path& model);
/// Spec and weights of a Hugging Face folder or a GGUF file.
ModelFiles open_model(const std::filesystem::path& model);

}  // namespace grist
