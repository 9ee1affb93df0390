#include <grist/model/family.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/safetensors.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <ranges>

namespace grist {

const Family& llama_family();

namespace {

/// One function for each file of families/.
const std::array families{&llama_family()};

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

/// BOS and end tokens, whichever file names them; -1 names none.
void check_tokens(const ModelSpec& spec, const std::string& file) {
  auto ids = spec.eos;
  ids.push_back(spec.bos);
  for (const int id : ids) {
    if (id < -1 || id >= spec.vocab_size)
      throw InputError("{}: BOS or EOS is token {}, the vocabulary has {}", file, id, spec.vocab_size);
  }
}

ModelSpec spec_from_config(const std::filesystem::path& file) {
  ConfigReader config(file);
  const auto architectures = config.get<std::vector<std::string>>("architectures");
  if (architectures.size() != 1)
    throw InputError("{}: 'architectures' names {} architectures, expected one", file.string(), architectures.size());
  const std::string name = file.string();
  const Family& family = family_of(architectures[0], name);
  ModelSpec spec = family.from_config(config);
  spec.bos = config.get_or<int>("bos_token_id", -1);
  spec.eos = config.list("eos_token_id");
  config.finish();
  check_tokens(spec, name);
  spec.family = family.name;
  return spec;
}

ModelSpec spec_from_gguf(const io::Gguf& gguf) {
  const auto name = gguf.get<std::string>("general.architecture");
  const auto found = std::ranges::find_if(families, [&](const auto* family) { return family->name == name; });
  if (found == std::end(families)) {
    std::string known;
    for (const auto* family : families) known += std::format(" {}", family->name);
    throw InputError("{}: architecture '{}' is not known; known are:{}", gguf.path, name, known);
  }
  GgufReader reader(gguf, name);
  ModelSpec spec = (*found)->from_gguf(reader);
  reader.finish();
  spec.family = name;
  spec.bos = reader.token("bos_token_id");
  for (const auto* key : {"eos_token_id", "eot_token_id"}) {
    const int id = reader.token(key);
    if (id >= 0 && std::ranges::find(spec.eos, id) == spec.eos.end()) spec.eos.push_back(id);
  }
  check_tokens(spec, gguf.path);
  return spec;
}

/// The folder's generation_config.json may name other end tokens than config.json: it has the last word.
void read_generation_config(const std::filesystem::path& file, ModelSpec& spec) {
  if (!std::filesystem::exists(file)) return;
  ConfigReader config(file);
  if (const auto eos = config.list("eos_token_id"); !eos.empty()) spec.eos = eos;
  if (const auto bos = config.find<int>("bos_token_id")) spec.bos = *bos;
  check_tokens(spec, file.string());
}

}  // namespace

void check_sizes(const ModelSpec& spec, const std::string& file) {
  // Far above any model, and low enough that no product of them overflows.
  constexpr Index wide = 1 << 20, long_list = 1 << 24;
  const auto within = [&](const char* name, Index value, Index most) {
    if (value < 1 || value > most) throw InputError("{}: {} is {}, expected 1 to {}", file, name, value, most);
  };
  within("vocab_size", spec.vocab_size, long_list);
  within("hidden_size", spec.hidden_size, wide);
  within("intermediate_size", spec.intermediate_size, wide);
  within("the number of layers", spec.layers, 10000);
  within("the number of heads", spec.heads, wide);
  within("the number of KV heads", spec.kv_heads, wide);
  within("head_dim", spec.head_dim, 65536);
  within("heads times head_dim", Index{spec.heads} * spec.head_dim, wide);
  within("the context", spec.max_positions, std::numeric_limits<int>::max());
  if (spec.sliding_window < 0) throw InputError("{}: sliding_window is {}, expected 0 or more", file, spec.sliding_window);
  if (!(spec.rms_norm_eps >= 0) || spec.rms_norm_eps > 1)
    throw InputError("{}: the epsilon of RMSNorm is {}, expected 0 to 1", file, spec.rms_norm_eps);
  if (spec.heads % spec.kv_heads != 0)
    throw InputError("{}: {} attention heads cannot be shared by {} KV heads", file, spec.heads, spec.kv_heads);
  if (spec.head_dim % 2 != 0) throw InputError("{}: head_dim {} is odd; RoPE turns pairs", file, spec.head_dim);
}

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
