#include <grist/model/harmless.hpp>

namespace grist {

void ignore_harmless(ConfigReader& config) {
  config.ignore({"model_type",
                 "transformers_version",
                 "torch_dtype",
                 "dtype",
                 "auto_map",
                 "tokenizer_class",
                 "name_or_path",
                 "transformers.js_config",
                 "use_cache",
                 "use_flash_attention_2",
                 "use_flash_attn",
                 "max_window_layers",  // of a family without windows, or with layer_types
                 "pretraining_tp",
                 "initializer_range",
                 "gradient_checkpointing",
                 "attention_dropout",
                 "hidden_dropout",
                 "embd_pdrop",
                 "attn_pdrop",
                 "resid_pdrop",
                 "hidden_dropout_prob",
                 "attention_probs_dropout_prob",
                 "classifier_dropout",
                 "pad_token_id",
                 "unk_token_id",
                 "sep_token_id",
                 "cls_token_id",
                 "mask_token_id",
                 "decoder_start_token_id",
                 "is_llama_config",
                 "max_sequence_length",
                 "cache_implementation",
                 "output_attentions",
                 "output_hidden_states",
                 "output_scores",
                 "return_dict",
                 "return_dict_in_generate",
                 "torchscript",
                 "problem_type",
                 "id2label",
                 "label2id",
                 "num_labels",
                 "finetuning_task",
                 "task_specific_params",
                 "prefix",
                 "architectures",
                 "use_bfloat16",
                 "tf_legacy_loss",
                 "chunk_size_feed_forward",
                 "cross_attention_hidden_size",
                 "is_decoder",
                 "tie_encoder_decoder",
                 "remove_invalid_values",
                 "attn_implementation",
                 "summary_type",
                 "summary_use_proj",
                 "summary_activation",
                 "summary_proj_to_labels",
                 "summary_first_dropout"});
  // Generation's, which transformers 4 kept here.
  config.ignore({"max_length",
                 "min_length",
                 "max_new_tokens",
                 "min_new_tokens",
                 "do_sample",
                 "early_stopping",
                 "num_beams",
                 "num_beam_groups",
                 "diversity_penalty",
                 "temperature",
                 "top_k",
                 "top_p",
                 "min_p",
                 "typical_p",
                 "repetition_penalty",
                 "length_penalty",
                 "no_repeat_ngram_size",
                 "encoder_no_repeat_ngram_size",
                 "bad_words_ids",
                 "num_return_sequences",
                 "suppress_tokens",
                 "begin_suppress_tokens",
                 "forced_bos_token_id",
                 "forced_eos_token_id",
                 "exponential_decay_length_penalty"});
  config.ignore_prefix("unsloth");
}

void refuse_unsupported(ConfigReader& config) {
  config.expect_value("is_encoder_decoder", false);
  config.expect_value("use_bidirectional_attention", false);
  config.expect_value("add_cross_attention", false);
  config.expect_value("pruned_heads", nlohmann::json::object());
}

bool harmless(const io::TensorInfo& tensor) {
  const auto ends = [&](const char* end) { return tensor.name.ends_with(end); };
  return !tensor.foreign.name.empty() || ends("rotary_emb.inv_freq") || ends("rotary_emb.cos_cached") ||
         ends("rotary_emb.sin_cached") || ends(".masked_bias") || (ends(".attn.bias") && tensor.shape.size() == 4) ||
         tensor.name.starts_with("v_head.") || tensor.name == "score.weight" || tensor.name.starts_with("mtp.") ||
         tensor.name.starts_with("medusa_head.") || ends(".k_scale") || ends(".v_scale") ||
         tensor.name == "rope_freqs.weight" || tensor.name.starts_with("rope_factors_");
}

}  // namespace grist
