// The names that tokenizer.ggml.pre gives to pre-tokenizers, and how these cut a text into words.
#pragma once

#include <span>
#include <string>
#include <string>
#include <string_view>

namespace grist::text {

struct GgufPreTokenizer {
  std::span<const std::string_view> patterns;  // one after the other, each isolates its matches; Oniguruma's syntax
  bool ignore_merges = false;
  bool adds_bos = false;  // unless the file says otherwise
  bool nfc = false;       // as the model's tokenizer.json has it
};

/// Throws InputError with the names that are known.
const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name, const std::string& path);

/// A name that means patterns and flags (`adds_bos` apart, which files say themselves); empty where none does.
std::string_view gguf_pre_name(std::span<const std::string> patterns, bool ignore_merges, bool nfc);

/// How GPT-2 and Qwen2 cut words.
std::span<const std::string_view> gpt2_patterns();
std::span<const std::string_view> qwen2_patterns();

}  // namespace grist::text
