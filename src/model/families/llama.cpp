// LLaMA 1, 2, 3.x, SmolLM2 and Mistral: RMSNorm, RoPE, grouped-query attention, SwiGLU.
#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>
#include <grist/model/rope_frequencies.hpp>

#include <array>

namespace grist {
namespace {

ModelSpec from_config(ConfigReader& config) {
  ModelSpec spec;
  const bool mistral = config.get_or<std::string>("model_type", "llama") == "mistral";
  spec.vocab_size = config.get<int>("vocab_size");
  spec.hidden_size = config.get<int>("hidden_size");
  spec.intermediate_size = config.get<int>("intermediate_size");
  spec.layers = config.get<int>("num_hidden_layers");
  spec.heads = config.get<int>("num_attention_heads");
  spec.kv_heads = config.get_or<int>("num_key_value_heads", spec.heads);
  spec.head_dim = config.get_or<int>("head_dim", spec.heads > 0 ? static_cast<int>(spec.hidden_size) / spec.heads : 0);
  spec.max_positions = config.get_or<int>("max_position_embeddings", 2048);
  // Mistral's window is 4096 where nothing is said, and none where null is.
  if (mistral) spec.sliding_window = config.has("sliding_window") ? config.get_or<int>("sliding_window", 0) : 4096;
  spec.rms_norm_eps = config.get_or<float>("rms_norm_eps", 1e-6F);
  check_sizes(spec, config.file());
  spec.inverse_frequencies = rope_frequencies(config, spec.head_dim);
  spec.tied_embeddings = config.get_or<bool>("tie_word_embeddings", false);
  spec.qkv_bias = spec.o_bias = config.get_or<bool>("attention_bias", false);
  spec.mlp_bias = config.get_or<bool>("mlp_bias", false);
  spec.initializer_range = config.get_or<float>("initializer_range", 0.02F);
  spec.stored_type = config.stored_type();
  config.expect("hidden_act", "silu");
  config.ignore({"transformers_version", "use_cache", "pretraining_tp", "attention_dropout",
                 "pad_token_id", "unk_token_id", "is_llama_config", "rope_interleaved", "transformers.js_config",
                 "layer_types", "max_sequence_length"});
  return spec;
}

ModelSpec from_gguf(GgufReader& gguf) {
  ModelSpec spec;
  const auto* embedding = gguf.weights().find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw InputError("{}: tensor 'token_embd.weight' is missing or no matrix", gguf.file());
  spec.vocab_size = embedding->rows();
  spec.hidden_size = gguf.positive("embedding_length");
  spec.intermediate_size = gguf.positive("feed_forward_length");
  spec.layers = gguf.positive("block_count");
  spec.heads = gguf.positive("attention.head_count");
  spec.kv_heads = gguf.positive_or("attention.head_count_kv", spec.heads);
  spec.head_dim = gguf.positive_or("attention.key_length", static_cast<int>(spec.hidden_size) / spec.heads);
  spec.max_positions = gguf.positive("context_length");
  spec.sliding_window = gguf.get_or<std::int64_t>("attention.sliding_window", 0) == 0 ? 0 : gguf.positive("attention.sliding_window");
  spec.rms_norm_eps = static_cast<float>(gguf.get<double>("attention.layer_norm_rms_epsilon"));
  check_sizes(spec, gguf.file());
  gguf.expect("attention.value_length", spec.head_dim);
  gguf.expect("vocab_size", spec.vocab_size);
  gguf.expect("expert_count", 0);
  gguf.expect("expert_used_count", 0);
  spec.inverse_frequencies = rope_frequencies(gguf, spec.head_dim);
  spec.tied_embeddings = gguf.weights().find("output.weight") == nullptr;
  spec.qkv_bias = gguf.weights().find("blk.0.attn_q.bias") != nullptr;
  spec.o_bias = gguf.weights().find("blk.0.attn_output.bias") != nullptr;
  spec.mlp_bias = gguf.weights().find("blk.0.ffn_down.bias") != nullptr;
  spec.stored_type = embedding->type == io::FileType::f32 ? DType::f32 : DType::bf16;
  gguf.ignore({"tensor_data_layout"});
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

// A function: device compilers take a constant for one of the device's, with all that it points to.
const Family& llama_family() {
  static const Family family{
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
  return family;
}

}  // namespace grist
