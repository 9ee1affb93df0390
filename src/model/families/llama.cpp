// LLaMA 1, 2, 3.x, SmolLM2 and Mistral: RMSNorm, RoPE, grouped-query attention, SwiGLU.
#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>
#include <grist/model/rope_frequencies.hpp>

#include <algorithm>
#include <array>

namespace grist {
namespace {

std::vector<int> one_or_more(ConfigReader& config, const std::string& key) {
  const auto value = config.find<nlohmann::json>(key);
  if (!value) return {};
  return value->is_array() ? config.get<std::vector<int>>(key) : std::vector<int>{config.get<int>(key)};
}

void check_heads(const ModelSpec& spec, const std::string& file) {
  if (spec.kv_heads < 1 || spec.head_dim < 2 || spec.head_dim > 65536)
    throw InputError("{}: {} KV heads of dimension {}: expected 1 or more, of 2 to 65536", file, spec.kv_heads, spec.head_dim);
}

ModelSpec from_config(ConfigReader& config) {
  ModelSpec spec;
  const bool mistral = config.get_or<std::string>("model_type", "llama") == "mistral";
  spec.vocab_size = config.positive("vocab_size");
  spec.hidden_size = config.positive("hidden_size");
  spec.intermediate_size = config.positive("intermediate_size");
  spec.layers = static_cast<int>(config.positive("num_hidden_layers"));
  spec.heads = static_cast<int>(config.positive("num_attention_heads"));
  spec.kv_heads = config.get_or<int>("num_key_value_heads", spec.heads);
  spec.head_dim = config.get_or<int>("head_dim", static_cast<int>(spec.hidden_size) / spec.heads);
  spec.max_positions = config.get_or<int>("max_position_embeddings", 2048);
  spec.sliding_window = mistral ? config.get_or<int>("sliding_window", 0) : 0;
  spec.rms_norm_eps = config.get_or<float>("rms_norm_eps", 1e-6F);
  check_heads(spec, config.file());
  spec.inverse_frequencies = rope_frequencies(config, spec.head_dim);
  spec.tied_embeddings = config.get_or<bool>("tie_word_embeddings", false);
  spec.qkv_bias = spec.o_bias = config.get_or<bool>("attention_bias", false);
  spec.mlp_bias = config.get_or<bool>("mlp_bias", false);
  spec.initializer_range = config.get_or<float>("initializer_range", 0.02F);
  spec.bos = config.get_or<int>("bos_token_id", -1);
  spec.eos = one_or_more(config, "eos_token_id");
  const auto type = config.find<std::string>("dtype").value_or(config.get_or<std::string>("torch_dtype", "float32"));
  spec.stored_type = type == "bfloat16" ? DType::bf16 : type == "float16" ? DType::f16 : DType::f32;
  const auto activation = config.get_or<std::string>("hidden_act", "silu");
  if (activation != "silu") throw InputError("{}: hidden_act '{}' is not known, expected 'silu'", config.file(), activation);
  config.ignore({"_name_or_path", "transformers_version", "use_cache", "pretraining_tp", "attention_dropout",
                 "pad_token_id", "unk_token_id", "is_llama_config", "rope_interleaved", "transformers.js_config",
                 "layer_types", "max_sequence_length", "_attn_implementation_autoset"});
  return spec;
}

ModelSpec from_gguf(const io::Gguf& gguf) {
  ModelSpec spec;
  const auto integer = [&](const char* key) {
    const auto value = gguf.get<std::int64_t>(key);
    if (value < 1 || value >= (1LL << 31)) throw InputError("{}: key '{}' is {}, expected 1 or more", gguf.path, key, value);
    return value;
  };
  const auto* embedding = gguf.weights.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw InputError("{}: tensor 'token_embd.weight' is missing or no matrix", gguf.path);
  spec.vocab_size = embedding->rows();
  spec.hidden_size = integer("llama.embedding_length");
  spec.intermediate_size = integer("llama.feed_forward_length");
  spec.layers = static_cast<int>(integer("llama.block_count"));
  spec.heads = static_cast<int>(integer("llama.attention.head_count"));
  spec.kv_heads = static_cast<int>(gguf.get_or<std::int64_t>("llama.attention.head_count_kv", spec.heads));
  spec.head_dim = static_cast<int>(gguf.get_or<std::int64_t>("llama.attention.key_length", spec.hidden_size / spec.heads));
  spec.max_positions = static_cast<int>(integer("llama.context_length"));
  spec.sliding_window = static_cast<int>(gguf.get_or<std::int64_t>("llama.attention.sliding_window", 0));
  spec.rms_norm_eps = static_cast<float>(gguf.get<double>("llama.attention.layer_norm_rms_epsilon"));
  check_heads(spec, gguf.path);
  spec.inverse_frequencies = rope_frequencies(gguf, "llama", spec.head_dim);
  spec.tied_embeddings = gguf.weights.find("output.weight") == nullptr;
  spec.qkv_bias = gguf.weights.find("blk.0.attn_q.bias") != nullptr;
  spec.o_bias = gguf.weights.find("blk.0.attn_output.bias") != nullptr;
  spec.mlp_bias = gguf.weights.find("blk.0.ffn_down.bias") != nullptr;
  spec.stored_type = embedding->type == io::FileType::f32 ? DType::f32 : DType::bf16;
  spec.bos = static_cast<int>(gguf.get_or<std::int64_t>("tokenizer.ggml.bos_token_id", -1));
  for (const auto* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const auto id = static_cast<int>(gguf.get_or<std::int64_t>(key, -1));
    if (id >= 0 && std::ranges::find(spec.eos, id) == spec.eos.end()) spec.eos.push_back(id);
  }
  return spec;
}

std::string gguf_name(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 13> parts{{
      {"model.layers.", "blk."}, {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
      {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}, {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"},
      {"lm_head", "output"}}};
  std::string result(name);
  for (const auto& [from, to] : parts)
    if (const auto at = result.find(from); at != std::string::npos) result.replace(at, from.size(), to);
  return result;
}

}  // namespace

extern const Family llama_family;
const Family llama_family{
    .name = "llama",
    .architectures = "LlamaForCausalLM MistralForCausalLM",
    .from_config = from_config,
    .from_gguf = from_gguf,
    .gguf_name = gguf_name,
    .gguf_pairs_rows = [](std::string_view name) {
      return name.find(".q_proj.") != std::string_view::npos || name.find(".k_proj.") != std::string_view::npos;
    },
    .derived = [](std::string_view name) { return name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight"; },
};

}  // namespace grist
