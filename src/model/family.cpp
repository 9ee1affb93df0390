#include <grist/model/family.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/safetensors.hpp>

#include <algorithm>
#include <ranges>

namespace grist {

extern const Family llama_family;

namespace {

constexpr const Family* families[] = {&llama_family};

std::string known_architectures() {
  std::string names;
  for (const auto* family : families) names += std::format("{}{}", names.empty() ? "" : " ", family->architectures);
  return names;
}

const Family& family_of(std::string_view architecture, std::string_view file) {
  for (const auto* family : families) {
    for (const auto word : std::views::split(family->architectures, ' ')) {
      if (std::string_view(word.begin(), word.end()) == architecture) return *family;
    }
  }
  throw InputError("{}: architecture '{}' is not known; known are: {}", file, architecture, known_architectures());
}

void check(const ModelSpec& spec, const std::string& file) {
  if (spec.heads % spec.kv_heads != 0)
    throw InputError("{}: {} attention heads cannot be shared by {} KV heads", file, spec.heads, spec.kv_heads);
  if (spec.head_dim % 2 != 0) throw InputError("{}: head_dim {} is odd; RoPE turns pairs", file, spec.head_dim);
}

ModelSpec spec_from_config(const std::filesystem::path& file) {
  ConfigReader config(file);
  const auto architectures = config.get<std::vector<std::string>>("architectures");
  if (architectures.size() != 1)
    throw InputError("{}: 'architectures' names {} architectures, expected one", file.string(), architectures.size());
  const std::string name = file.string();
  const Family& family = family_of(architectures[0], name);
  ModelSpec spec = family.from_config(config);
  config.finish();
  spec.family = family.name;
  check(spec, file.string());
  return spec;
}

ModelSpec spec_from_gguf(const io::Gguf& gguf) {
  const auto name = gguf.get<std::string>("general.architecture");
  const auto found = std::ranges::find_if(families, [&](const auto* family) { return family->name == name; });
  if (found == std::end(families))
    throw InputError("{}: architecture '{}' is not known; known is: llama", gguf.path, name);
  ModelSpec spec = (*found)->from_gguf(gguf);
  spec.family = name;
  check(spec, gguf.path);
  return spec;
}

/// The folder's generation_config.json may name other end tokens than config.json: it has the last word.
void read_generation_config(const std::filesystem::path& file, ModelSpec& spec) {
  if (!std::filesystem::exists(file)) return;
  ConfigReader config(file);
  if (const auto eos = config.find<nlohmann::json>("eos_token_id")) {
    spec.eos = eos->is_array() ? config.get<std::vector<int>>("eos_token_id")
                               : std::vector<int>{config.get<int>("eos_token_id")};
  }
  if (const auto bos = config.find<int>("bos_token_id")) spec.bos = *bos;
}

}  // namespace

const Family& family_named(std::string_view name) {
  for (const auto* family : families)
    if (family->name == name) return *family;
  throw InternalError("family '{}' is not in this build", name);
}

ModelSpec read_spec(const std::filesystem::path& model) {
  if (model.extension() == ".gguf") return spec_from_gguf(io::open_gguf(model));
  if (model.extension() == ".json") return spec_from_config(model);
  if (!std::filesystem::exists(model))
    throw InputError("{}: no such model; a model is a Hugging Face folder or a .gguf file", model.string());
  ModelSpec spec = spec_from_config(model / "config.json");
  read_generation_config(model / "generation_config.json", spec);
  return spec;
}

ModelFiles open_model(const std::filesystem::path& model) {
  if (model.extension() == ".gguf") {
    io::Gguf gguf = io::open_gguf(model);
    return {spec_from_gguf(gguf), std::move(gguf.weights), true};
  }
  ModelSpec spec = read_spec(model);
  return {std::move(spec), io::open_safetensors(model), false};
}

}  // namespace grist
