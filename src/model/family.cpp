#include <grist/model/family.hpp>

#include <grist/core/edit_distance.hpp>
#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/model/harmless.hpp>
#include <grist/model/parameters.hpp>
#include <grist/model/part_reader.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <map>

namespace grist {

// CMake lists the files of families/: x.cpp makes x::family().
#define GRIST_FAMILY(name) namespace name { Family family(); }
#include "families.def"
#undef GRIST_FAMILY

namespace {

/// A function: device compilers take a constant for one of the device's, with all that it points to.
const std::vector<Family>& families() {
#define GRIST_FAMILY(name) name::family(),
  static const std::vector<Family> all{
#include "families.def"
  };
#undef GRIST_FAMILY
  return all;
}

const Family& family_of(std::string_view architecture, const std::string& file,
                        std::vector<std::string_view> Family::*names) {
  std::string known;
  std::string_view nearest;
  for (const auto& family : families()) {
    for (const auto name : family.*names) {
      if (name == architecture) return family;
      known += std::format("{}{}", known.empty() ? "" : ", ", name);
      if (nearest.empty() || edit_distance(architecture, name) < edit_distance(architecture, nearest)) nearest = name;
    }
  }
  throw InputError("{}: architecture '{}' is not known; the nearest is '{}'; known are {}", file, architecture, nearest,
                   known);
}

/// "Qwen2MoeForCausalLM" is of the type "qwen2_moe", "Gemma3ForCausalLM" of "gemma3_text".
bool is_of_type(std::string_view architecture, std::string_view model_type) {
  for (const std::string_view end : {"ForCausalLM", "LMHeadModel"})
    if (architecture.ends_with(end)) architecture.remove_suffix(end.size());
  std::string_view type = model_type;
  for (const char letter : architecture) {
    if (type.starts_with('_')) type.remove_prefix(1);
    if (type.empty() || std::tolower(static_cast<unsigned char>(letter)) != type.front()) return false;
    type.remove_prefix(1);
  }
  return type.empty() || type == "_text";
}

/// The one that a config names. Where it names none, several or a decoder without its head (LlamaModel), the one of its
/// type, as transformers goes about it.
std::string architecture_of(ConfigReader& config) {
  const auto names = config.find<std::vector<std::string>>("architectures").value_or(std::vector<std::string>{});
  const bool bare = names.size() == 1 && names[0].ends_with("Model") && !names[0].ends_with("LMHeadModel");
  if (names.size() == 1 && !bare) return names[0];
  const auto type = config.get_or<std::string>("model_type", "");
  for (const auto& family : families())
    for (const auto name : family.architectures)
      if (is_of_type(name, type)) return std::string(name);
  if (bare) return names[0];
  throw InputError("{}: 'architectures' names {} architectures, expected one", config.file(), names.size());
}

/// transformers goes by the type: where that is of another architecture, one of both is wrong.
void check_type(ConfigReader& config, const std::string& architecture) {
  const auto type = config.find<std::string>("model_type");
  if (type && !is_of_type(architecture, *type))
    throw InputError("{}: model_type '{}' is not that of architecture '{}'", config.file(), *type, architecture);
}

void check_tokens(const ModelTokens& tokens, const ModelSpec& spec, const std::string& file) {
  auto ids = tokens.eos;
  ids.push_back(tokens.bos);
  for (const int id : ids) {
    if (id < -1 || id >= spec.vocab_size)
      throw InputError("{}: BOS or EOS is token {}, the vocabulary has {}", file, id, spec.vocab_size);
  }
}

/// How the weights are quantized: "" where they are not.
std::string quantization_of(ConfigReader& config) {
  auto quantization = config.object("quantization_config");
  return quantization ? quantization->get_or<std::string>("quant_method", "?") : "";
}

InputError quantized(const std::string& file, const std::string& method, const std::string& why) {
  return InputError("{}: weights quantized by '{}' cannot be read{}", file, method, why);
}

Format stored_format(ConfigReader& config) {
  const auto older = config.get_or<std::string>("torch_dtype", "float32");
  const auto name = config.get_or<std::string>("dtype", older);
  if (name == "float32") return Format::f32;
  if (name == "float16") return Format::f16;
  if (name == "bfloat16") return Format::bf16;
  throw InputError("{}: dtype is '{}', known are float32, float16 and bfloat16", config.file(), name);
}

/// With `method` how its weights are quantized is told, not refused.
ModelFiles from_config(const std::filesystem::path& file, std::string* method) {
  ConfigReader config(file);
  const std::string name = file.string();
  const std::string architecture = architecture_of(config);
  const Family& family = family_of(architecture, name, &Family::architectures);
  check_type(config, architecture);
  ModelFiles files;
  files.stored = stored_format(config);
  files.spec = family.from_config(config);
  files.tokens = {config.get_or<int>("bos_token_id", -1), config.list("eos_token_id")};
  ignore_harmless(config);
  refuse_unsupported(config);
  if (const auto found = quantization_of(config); method != nullptr)
    *method = found;
  else if (!found.empty())
    throw quantized(name, found, "");
  config.finish();
  check_spec(files.spec, name);
  check_tokens(files.tokens, files.spec, name);
  files.family = family.name;
  files.names = family.names;
  return files;
}

/// The format of most of the elements.
Format usual_format(const io::Weights& weights) {
  std::map<Format, Index> elements;
  for (const auto& [name, tensor] : weights.tensors()) elements[tensor.format] += tensor.rows() * tensor.columns();
  return std::ranges::max_element(elements, {}, &std::pair<const Format, Index>::second)->first;
}

ModelFiles from_gguf(const std::filesystem::path& file) {
  io::Gguf gguf = io::open_gguf(file);
  const auto name = gguf.get<std::string>("general.architecture");
  const Family& family = family_of(name, gguf.path, &Family::gguf_architectures);
  GgufReader reader(gguf, name);
  ModelFiles files;
  files.spec = family.from_gguf(reader);
  reader.finish();
  check_spec(files.spec, gguf.path);
  files.tokens.bos = gguf.token_id("tokenizer.ggml.bos_token_id");
  for (const auto* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const int id = gguf.token_id(key);
    if (id >= 0 && std::ranges::find(files.tokens.eos, id) == files.tokens.eos.end()) files.tokens.eos.push_back(id);
  }
  check_tokens(files.tokens, files.spec, gguf.path);
  files.family = family.name;
  files.names = family.gguf;
  files.weights = std::move(gguf.weights);
  files.stored = usual_format(files.weights);
  return files;
}

/// The folder's generation_config.json may name other end tokens than config.json: it has the last word.
void read_generation_config(const std::filesystem::path& file, ModelFiles& files) {
  if (!std::filesystem::exists(file)) return;
  ConfigReader config(file);
  if (const auto eos = config.list("eos_token_id"); !eos.empty()) files.tokens.eos = eos;
  if (const auto bos = config.find<int>("bos_token_id")) files.tokens.bos = *bos;
  check_tokens(files.tokens, files.spec, file.string());
}

/// Whether the files hold a head of their own beside an embedding that their config ties to it. transformers 5 then
/// takes both; equal ones are one.
bool holds_another_head(const ModelFiles& files) {
  if (!files.spec.tied_embeddings) return false;
  const auto table = tensor_table(files.spec, files.names);
  const auto& sources = table.embedding.parts[0].sources;
  const auto* embedding = find_source(files.weights, sources[0], files.names.base);
  const auto* head = find_source(files.weights, sources[1], files.names.base);
  if (embedding == nullptr || head == nullptr || embedding->shape != head->shape) return false;
  return embedding->format != head->format ||
         std::memcmp(files.weights.data(*embedding), files.weights.data(*head), embedding->bytes()) != 0;
}

/// Whether a tensor is of a layer beyond those of the config: one that predicts further tokens, or a cut-off rest.
bool of_a_layer_beyond(const ModelFiles& files, std::string_view tensor) {
  const std::string prefix = files.names.base + files.names.layer.substr(0, files.names.layer.find("{}"));
  if (!tensor.starts_with(prefix)) return false;
  Index number = -1;
  const char* const end = tensor.data() + tensor.size();
  const auto [rest, error] = std::from_chars(tensor.data() + prefix.size(), end, number);
  return error == std::errc() && rest != end && *rest == '.' && number >= files.spec.layer_count();
}

ModelFiles read(const std::filesystem::path& path, std::string* method) {
  const auto model = io::gguf_file_of(path);
  if (!std::filesystem::exists(model))
    throw InputError("{}: no such model; a model is a Hugging Face folder or a GGUF file", model.string());
  if (io::is_gguf(model)) return from_gguf(model);
  if (model.extension() == ".json") return from_config(model, method);
  if (!std::filesystem::is_directory(model))
    throw InputError("{}: neither a GGUF file (it does not begin with \"GGUF\") nor a folder", model.string());
  if (!std::filesystem::exists(model / "config.json") && std::filesystem::exists(model / "adapter_config.json"))
    throw InputError("{}: holds an adapter (LoRA) alone; merge it into its base model first", model.string());
  ModelFiles files = from_config(model / "config.json", method);
  read_generation_config(model / "generation_config.json", files);
  return files;
}

}  // namespace

ModelFiles read_spec(const std::filesystem::path& path) { return read(path, nullptr); }

ModelFiles open_model(const std::filesystem::path& model) {
  std::string method;
  ModelFiles files = read(model, &method);
  if (files.weights.tensors().empty()) files.weights = io::open_safetensors(model);
  if (holds_another_head(files)) {
    files.spec.tied_embeddings = false;
    files.notes.push_back(std::format(
        "{}: config.json ties embedding and head, but the files hold both, and they differ: both are used",
        model.string()));
  }
  bool more_layers = false;
  const auto may_be_there = [&](const io::TensorInfo& tensor) {
    const bool beyond = of_a_layer_beyond(files, tensor.name);
    more_layers = more_layers || beyond;
    return beyond || harmless(tensor);
  };
  try {
    check_tensors(files.weights, tensor_table(files.spec, files.names), files.names.base, may_be_there);
  } catch (const InputError& error) {
    if (method.empty()) throw;
    throw quantized(model.string(), method, std::format(" ({})", error.what()));
  }
  if (!method.empty())
    files.notes.push_back(std::format("{}: config.json says quantized by '{}', but its weights are plain numbers",
                                      model.string(), method));
  if (more_layers)
    files.notes.push_back(std::format("{}: holds tensors of layers beyond the {} of its config, which are left out",
                                      model.string(), files.spec.layer_count()));
  return files;
}

}  // namespace grist
