// Families of models: how config.json or GGUF metadata become a ModelSpec, and what a family calls its tensors.
#pragma once

#include <grist/io/gguf.hpp>
#include <grist/io/weights.hpp>
#include <grist/model/config_reader.hpp>
#include <grist/model/gguf_reader.hpp>
#include <grist/model/spec.hpp>
#include <grist/model/tensor_names.hpp>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace grist {

/// A file of families/ makes one. docs/add-a-family.md tells how.
struct Family {
  std::string_view name;
  std::vector<std::string_view> architectures;       // in `architectures` of config.json
  std::vector<std::string_view> gguf_architectures;  // general.architecture of GGUF files; empty: llama.cpp writes none
  ModelSpec (*from_config)(ConfigReader& config);
  ModelSpec (*from_gguf)(GgufReader& gguf) = nullptr;
  TensorNames names;                // in Hugging Face's files
  TensorNames gguf = gguf_names();  // in GGUF files
};

/// Tokens that a model's files name; -1 names none.
struct ModelTokens {
  int bos = -1;
  std::vector<int> eos;
};

/// What a model's files say.
struct ModelFiles {
  ModelSpec spec;
  ModelTokens tokens;
  std::string family;
  TensorNames names;  // of the tensors in `weights`
  Format stored = Format::f32;  // of most numbers; what `init` writes
  io::Weights weights;          // empty where a config alone was read
  std::vector<std::string> notes = {};  // what was left out, to be told once
};

/// The spec alone, of a Hugging Face folder, its config.json or a GGUF file. Throws InputError: missing or malformed
/// files, unknown architecture (the message names those known, and the nearest), keys that are not understood.
ModelFiles read_spec(const std::filesystem::path& model);
/// Spec and weights of a Hugging Face folder or a GGUF file; every tensor in them has a use.
ModelFiles open_model(const std::filesystem::path& model);

}  // namespace grist
