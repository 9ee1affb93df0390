#include <grist/model/spec.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace grist {
namespace {

// Far above any model, and low enough that no product of them overflows.
constexpr Index wide = 1 << 20, long_list = 1 << 24;

void within(const std::string& file, const char* name, Index value, Index least, Index most) {
  if (value < least || value > most)
    throw InputError("{}: {} is {}, expected {} to {}", file, name, value, least, most);
}

void finite(const std::string& file, const char* name, float value) {
  if (!std::isfinite(value)) throw InputError("{}: {} is {}", file, name, value);
}

void check_rope(const RopeTable& rope, const std::string& file) {
  finite(file, "the scale of RoPE", rope.scale);
  for (const auto* frequencies : {&rope.inverse_frequencies, &rope.long_frequencies})
    for (const float frequency : *frequencies) finite(file, "a frequency of RoPE", frequency);
}

/// What layers of one kind share: ALiBi's slopes, and the work lists of attention of each window.
void check_alike(const ModelSpec& spec, const std::string& file) {
  const auto expect = [&](const AttentionSpec& a, const AttentionSpec& b, const char* kind, bool alike) {
    if (!alike)
      throw InputError("{}: layers {} have {} heads over {} KV heads and {} over {}; these must be alike", file, kind,
                       a.heads, a.kv_heads, b.heads, b.kv_heads);
  };
  const AttentionSpec* alibi = nullptr;
  std::map<int, const AttentionSpec*> of_window;
  for (const auto& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const AttentionSpec& first = *of_window.try_emplace(attention.window, &attention).first->second;
    expect(first, attention, "of one window",
           Index{first.heads} * attention.kv_heads == Index{attention.heads} * first.kv_heads &&
               first.causal == attention.causal);
    if (attention.position != Position::alibi) continue;
    if (alibi == nullptr) alibi = &attention;
    expect(*alibi, attention, "with ALiBi", alibi->heads == attention.heads);
  }
}

void check_norm(const NormSpec& norm, const std::string& file) {
  if (!(norm.eps >= 0) || norm.eps > 1)
    throw InputError("{}: the epsilon of a norm is {}, expected 0 to 1", file, norm.eps);
}

void check_layer(const LayerSpec& layer, const ModelSpec& spec, const std::string& file) {
  const AttentionSpec& attention = layer.attention;
  const MlpSpec& mlp = layer.mlp;
  within(file, "the number of heads", attention.heads, 1, wide);
  within(file, "the number of KV heads", attention.kv_heads, 1, wide);
  within(file, "head_dim", attention.head_dim, 1, 65536);
  within(file, "heads times head_dim", attention.q_width(), 1, wide);
  within(file, "the sliding window", attention.window, 0, std::numeric_limits<int>::max());
  within(file, "intermediate_size", mlp.intermediate_size, 1, wide);
  within(file, "the number of experts", mlp.experts, 0, 4096);
  if (mlp.experts > 0)
    within(file, "the number of experts of a token", mlp.experts_per_token, 1, std::min(mlp.experts, 64));
  within(file, "the shared expert's size", mlp.shared_intermediate, 0, wide);
  check_norm(layer.norm, file);
  finite(file, "the scale of attention", attention.scale);
  finite(file, "the soft cap of scores", attention.softcap);
  if (attention.heads % attention.kv_heads != 0)
    throw InputError("{}: {} attention heads cannot be shared by {} KV heads", file, attention.heads,
                     attention.kv_heads);
  if (attention.position == Position::rope &&
      spec.ropes.at(static_cast<std::size_t>(attention.rope)).rotary_dim() > attention.head_dim)
    throw InputError("{}: {} elements of a head of {} turn by RoPE", file,
                     spec.ropes[static_cast<std::size_t>(attention.rope)].rotary_dim(), attention.head_dim);
}

}  // namespace

int ModelSpec::max_head_dim() const {
  int most = 0;
  for (const auto& layer : layers) most = std::max(most, layer.attention.head_dim);
  return most;
}

void check_spec(const ModelSpec& spec, const std::string& file) {
  within(file, "vocab_size", spec.vocab_size, 1, long_list);
  within(file, "hidden_size", spec.hidden_size, 1, wide);
  within(file, "the number of layers", spec.layer_count(), 1, 10000);
  within(file, "the context", spec.max_positions, 1, std::numeric_limits<int>::max());
  within(file, "the number of learned positions", spec.learned_positions, 0, long_list);
  check_norm(spec.final_norm, file);
  finite(file, "the scale of the embedding", spec.embedding_scale);
  finite(file, "the scale of logits", spec.logit_scale);
  finite(file, "the soft cap of logits", spec.logit_softcap);
  for (const auto& rope : spec.ropes) check_rope(rope, file);
  for (const auto& layer : spec.layers) check_layer(layer, spec, file);
  check_alike(spec, file);
}

}  // namespace grist
