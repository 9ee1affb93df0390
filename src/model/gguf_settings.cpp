#include <grist/model/gguf_settings.hpp>

#include <grist/core/errors.hpp>
#include <grist/model/config_reader.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace grist {
namespace {

/// What llama.cpp calls the architecture.
std::string architecture_of(const ModelFiles& files, const std::string& file) {
  const bool qk_norm = files.spec.layers[0].attention.qk_norm == QkNorm::head;
  if (files.family == "llama") return "llama";
  if (files.family == "qwen") return qk_norm ? "qwen3" : "qwen2";
  if (files.family == "gemma3") return "gemma3";
  throw InputError("{}: a folder of the family '{}' cannot be written as GGUF; known are llama, qwen and gemma3", file,
                   files.family);
}

/// Theta of the layers without a window, and of those with one where they have their own.
struct Thetas {
  double full, local;
};

Thetas thetas_of(ConfigReader& config, bool gemma) {
  const double old = config.get_or<double>("rope_theta", gemma ? 1e6 : 1e4);
  const double old_local = config.get_or<double>("rope_local_base_freq", 1e4);
  auto rope = config.object("rope_parameters");
  if (!rope) return {old, old_local};
  auto full = rope->object("full_attention"), local = rope->object("sliding_attention");
  if (!full) return {rope->get_or<double>("rope_theta", old), old_local};
  return {full->get_or<double>("rope_theta", old), local ? local->get_or<double>("rope_theta", old_local) : old_local};
}

/// The scaling's parameters, wherever a config has them.
std::optional<ConfigReader> scaling_of(ConfigReader& config) {
  if (auto scaling = config.object("rope_scaling")) return scaling;
  auto rope = config.object("rope_parameters");
  if (rope && rope->has("full_attention")) return rope->object("full_attention");
  return rope;
}

/// What RoPE's frequencies are divided by beside those of theta alone. [rotary_dim / 2]
std::vector<float> divisors_of(const RopeTable& table, double theta) {
  std::vector<float> divisors;
  const auto rotary_dim = static_cast<double>(table.rotary_dim());
  for (std::size_t i = 0; i < table.inverse_frequencies.size(); ++i)
    divisors.push_back(static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(i) / rotary_dim) /
                                          table.inverse_frequencies[i]));
  return divisors;
}

bool near(double a, double b) { return std::abs(a - b) <= 1e-6 * std::max(std::abs(a), std::abs(b)); }

/// Sets the keys of RoPE; returns divisors for a tensor.
std::vector<float> set_rope(io::GgufWriter& writer, const std::string& prefix, const RopeTable& table, double theta,
                            std::optional<ConfigReader> scaling) {
  writer.set(prefix + "rope.dimension_count", static_cast<std::uint32_t>(table.rotary_dim()));
  writer.set(prefix + "rope.freq_base", static_cast<float>(theta));
  auto divisors = divisors_of(table, theta);
  const float first = divisors.front();
  if (table.scale != 1 && scaling) {  // yarn: llama.cpp computes it from its parameters
    writer.set(prefix + "rope.scaling.type", std::string("yarn"));
    writer.set(prefix + "rope.scaling.factor", scaling->get<float>("factor"));
    if (const auto context = scaling->find<int>("original_max_position_embeddings"))
      writer.set(prefix + "rope.scaling.original_context_length", static_cast<std::uint32_t>(*context));
    return {};
  }
  if (!std::ranges::all_of(divisors, [&](float divisor) { return near(divisor, first); })) return divisors;
  if (!near(first, 1)) {
    writer.set(prefix + "rope.scaling.type", std::string("linear"));
    writer.set(prefix + "rope.scaling.factor", std::round(first * 1024) / 1024);  // divided out of rounded frequencies
  }
  return {};
}

}  // namespace

std::vector<float> set_gguf_settings(io::GgufWriter& writer, const ModelFiles& files,
                                     const std::filesystem::path& file) {
  const ModelSpec& spec = files.spec;
  const std::string architecture = architecture_of(files, file.string()), prefix = architecture + ".";
  const AttentionSpec& attention = spec.layers[0].attention;
  ConfigReader config(file);
  const auto count = [&](const char* key, Index number) {
    writer.set(prefix + key, static_cast<std::uint32_t>(number));
  };
  writer.set("general.architecture", architecture);
  writer.set("general.name", std::filesystem::absolute(file).parent_path().filename().string());
  count("vocab_size", spec.vocab_size);
  count("context_length", spec.max_positions);
  count("embedding_length", spec.hidden_size);
  count("block_count", spec.layer_count());
  count("feed_forward_length", spec.layers[0].mlp.intermediate_size);
  count("attention.head_count", attention.heads);
  count("attention.head_count_kv", attention.kv_heads);
  count("attention.key_length", attention.head_dim);
  count("attention.value_length", attention.head_dim);
  writer.set(prefix + "attention.layer_norm_rms_epsilon", spec.final_norm.eps);
  const bool gemma = architecture == "gemma3";
  const Thetas thetas = thetas_of(config, gemma);
  if (gemma) {
    const auto windowed = std::ranges::find_if(spec.layers, [](const auto& l) { return l.attention.window > 0; });
    if (windowed != spec.layers.end()) count("attention.sliding_window", windowed->attention.window);
    writer.set(prefix + "rope.freq_base_swa", static_cast<float>(thetas.local));
  }
  auto divisors = set_rope(writer, prefix, spec.ropes[0], thetas.full, scaling_of(config));
  if (!divisors.empty() && architecture != "llama")
    throw InputError("{}: the scaling of RoPE cannot be written: llama.cpp's {} has none by frequency", file.string(),
                     architecture);
  return divisors;
}

namespace {

/// Gathers the first difference.
class Comparison {
public:
  template <class T>
  Comparison& operator()(const char* what, T found, T wanted) {
    bool same = found == wanted;
    if constexpr (std::is_floating_point_v<T>) same = near(found, wanted);
    if (!same && first_.empty()) {
      if constexpr (std::is_enum_v<T>)
        first_ = what;
      else
        first_ = std::format("{} ({}, not {})", what, wanted, found);
    }
    return *this;
  }
  [[nodiscard]] std::string first() const { return first_; }

private:
  std::string first_;
};

void compare(Comparison& same, const NormSpec& found, const NormSpec& wanted) {
  same("the kind of norms", found.kind, wanted.kind)("the norms' epsilon", found.eps, wanted.eps)(
      "biases of norms", found.bias, wanted.bias);
}

void compare(Comparison& same, const AttentionSpec& found, const AttentionSpec& wanted) {
  same("the number of heads", found.heads, wanted.heads)("the number of KV heads", found.kv_heads, wanted.kv_heads)(
      "head_dim", found.head_dim, wanted.head_dim)("the scale of attention", found.scale, wanted.scale)(
      "the cap of attention", found.softcap, wanted.softcap)("the window of a layer", found.window, wanted.window)(
      "causal attention", found.causal, wanted.causal)("the kind of positions", found.position, wanted.position)(
      "the RoPE of a layer", found.rope, wanted.rope)("norms of q and k", found.qk_norm, wanted.qk_norm)(
      "a bias of q", found.q_bias, wanted.q_bias)("a bias of k", found.k_bias, wanted.k_bias)(
      "a bias of v", found.v_bias, wanted.v_bias)("a bias of o", found.o_bias, wanted.o_bias);
}

void compare(Comparison& same, const MlpSpec& found, const MlpSpec& wanted) {
  same("intermediate_size", found.intermediate_size, wanted.intermediate_size)(
      "the activation", found.activation, wanted.activation)("a gated MLP", found.gated, wanted.gated)(
      "biases of the MLP", found.up_bias || found.down_bias, wanted.up_bias || wanted.down_bias)(
      "the number of experts", found.experts, wanted.experts);
}

void compare(Comparison& same, const RopeTable& found, const RopeTable& wanted) {
  same("the width of RoPE", found.rotary_dim(), wanted.rotary_dim())("the scale of RoPE", found.scale, wanted.scale)(
      "RoPE of long sequences", found.long_after, wanted.long_after);
  const auto both = std::min(found.inverse_frequencies.size(), wanted.inverse_frequencies.size());
  for (std::size_t i = 0; i < both; ++i)
    same("a frequency of RoPE", found.inverse_frequencies[i], wanted.inverse_frequencies[i]);
}

}  // namespace

std::string difference_of(const ModelSpec& found, const ModelSpec& wanted) {
  Comparison same;
  same("vocab_size", found.vocab_size, wanted.vocab_size)("hidden_size", found.hidden_size, wanted.hidden_size)(
      "the context", found.max_positions, wanted.max_positions)(
      "the number of layers", found.layers.size(), wanted.layers.size())(
      "the scale of embeddings", found.embedding_scale, wanted.embedding_scale)(
      "a norm of embeddings", found.embedding_norm, wanted.embedding_norm)(
      "learned positions", found.learned_positions, wanted.learned_positions)(
      "the scale of logits", found.logit_scale, wanted.logit_scale)(
      "the cap of logits", found.logit_softcap, wanted.logit_softcap)(
      "tied embeddings", found.tied_embeddings, wanted.tied_embeddings)(
      "a bias of logits", found.head_bias, wanted.head_bias)(
      "the number of RoPE tables", found.ropes.size(), wanted.ropes.size());
  compare(same, found.final_norm, wanted.final_norm);
  for (std::size_t i = 0; i < std::min(found.ropes.size(), wanted.ropes.size()); ++i)
    compare(same, found.ropes[i], wanted.ropes[i]);
  for (std::size_t i = 0; i < std::min(found.layers.size(), wanted.layers.size()); ++i) {
    const LayerSpec &a = found.layers[i], &b = wanted.layers[i];
    compare(same, a.norm, b.norm);
    compare(same, a.attention, b.attention);
    compare(same, a.mlp, b.mlp);
    same("norms before a layer", a.pre_norm, b.pre_norm)("norms behind a layer", a.post_norm, b.post_norm)(
        "parallel attention and MLP", a.parallel, b.parallel)("a shared norm", a.shared_norm, b.shared_norm);
  }
  return same.first();
}

}  // namespace grist
