"""LLaMA and Mistral: rope scalings, grouped heads, biases, windows."""
import torch
from transformers import LlamaConfig, MistralConfig

from old_configs import rope_at_the_top

LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
PLAIN_ROPE = dict(rope_type="default", rope_theta=1e4)
SHORT = [1.0, 1.1, 1.3, 1.7, 2.0]  # longrope's factors, one for each pair of a head of 10
LONG = [1.0, 1.5, 2.5, 4.0, 7.0]


def scaled(seed, lengths, max_position_embeddings, **rope):
    """A small LLaMA with 9 query heads over 3, head_dim 10 and a scaled rope."""
    config = LlamaConfig(vocab_size=131, hidden_size=54, intermediate_size=75, num_hidden_layers=2, head_dim=10,
                         num_attention_heads=9, num_key_value_heads=3, rms_norm_eps=1e-5,
                         max_position_embeddings=max_position_embeddings, rope_parameters=PLAIN_ROPE | rope)
    return dict(config=config, dtype=torch.bfloat16, widths=dict(scores=1.0), lengths=lengths,
                without=[dict(rope_parameters=PLAIN_ROPE)], old=rope_at_the_top, seed=seed)


MODELS = {
    # 4-bit weights: every tensor is d * {-8..7}, exact in f16 and bf16 and in the blocks of Q4_0, Q4_1 and Q8_0
    "llama2": dict(
        config=LlamaConfig(vocab_size=288, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                           num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
                           rms_norm_eps=1e-5),
        dtype=torch.float16, grid=True, without=[dict(rope_parameters=dict(rope_type="default", rope_theta=1e5))],
        old=rope_at_the_top, seed=117),
    # wavelengths 6.3, 167, 4443, ...: above 256 / 1 is low frequency, below 256 / 4 is high, 167 lies between
    "llama31": dict(
        config=LlamaConfig(vocab_size=288, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                           num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=2048,
                           rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=283, eos_token_id=[284, 287],
                           rope_parameters=LLAMA3_ROPE | dict(original_max_position_embeddings=256)),
        dtype=torch.bfloat16, grid=True, without=[dict(rope_parameters=dict(rope_type="default", rope_theta=5e5))],
        old=rope_at_the_top, seed=821),
    "mistral": dict(
        config=MistralConfig(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
                             num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8,
                             max_position_embeddings=256, rms_norm_eps=1e-5),
        dtype=torch.bfloat16, without=[dict(sliding_window=None)], seed=27),
    "llama_bias": dict(
        config=LlamaConfig(vocab_size=96, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
                           num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=256,
                           attention_bias=True, mlp_bias=True),
        dtype=torch.float32, without=[dict(attention_bias=False, mlp_bias=False)], seed=12),
    # head_dim * heads is wider than the model; without a window, as Mistral-Nemo
    "mistral_head_dim": dict(
        config=MistralConfig(vocab_size=131, hidden_size=42, intermediate_size=75, num_hidden_layers=2,
                             num_attention_heads=6, num_key_value_heads=3, head_dim=14, sliding_window=None,
                             max_position_embeddings=256, rms_norm_eps=1e-5,
                             rope_parameters=dict(rope_type="default", rope_theta=1e6)),
        dtype=torch.bfloat16, without=[dict(rope_parameters=PLAIN_ROPE)], old=rope_at_the_top, seed=21),
    # the limit is max_position_embeddings: below it nothing is scaled
    "llama_dynamic": scaled(62, (4, 9, 11), 24, rope_type="dynamic", factor=3.0) | dict(
        cached=((21, "crosses the limit while decoding"), (33, "begins beyond it"))),
    "llama_yarn": scaled(2, (5, 13, 40), 64, rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                         beta_fast=8.0, beta_slow=0.5),
    # what mscale and mscale_all_dim give instead of 0.1 log(factor) + 1, and a ramp that is not cut to whole numbers
    "llama_yarn_mscale": scaled(3, (5, 40), 64, rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                                mscale=1.5, mscale_all_dim=0.7, truncate=False),
    "llama_longrope": scaled(1, (4, 17, 37), 64, rope_type="longrope", factor=4.0, short_factor=SHORT,
                             long_factor=LONG, original_max_position_embeddings=16) | dict(
        cached=((11, "crosses the limit while decoding"),)),
}
