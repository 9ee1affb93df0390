// What stands beside a vocabulary in a Hugging Face folder: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, chat templates.
#pragma once

#include <grist/text/chat_template.hpp>
#include <grist/text/piece_tokenizer.hpp>

#include <filesystem>
#include <optional>
#include <string>

namespace grist::text {

struct Companions {
  std::string tokenizer_class{};  // as the files name it, without "Fast"; empty where they do not
  std::string model_type{};       // of config.json
  SpecialTokens special_tokens{};
  std::vector<std::string> more_special{};  // additional_special_tokens
  std::string chat_template{};
  std::optional<bool> add_bos{}, add_eos{}, add_prefix_space{};
  bool legacy = true;
  std::vector<AddedToken> described{};  // of added_tokens_decoder
  std::vector<AddedToken> added{};      // these and those of added_tokens.json, by id

  [[nodiscard]] std::string special(std::string_view name) const {
    const auto found = special_tokens.find(name);
    return found == special_tokens.end() ? "" : found->second;
  }
};

/// Throws InputError.
Companions read_companions(const std::filesystem::path& folder);

/// Completes what tokenizer.json holds, as transformers does: tokens that these files describe are found as they say,
/// and those that they call special are; what tokenizer.json has not comes after it.
void complete(TokenizerParts& parts, const Companions& companions);

}  // namespace grist::text
