// tokenizer.json: the tokenizers library's own format.
#pragma once

#include <grist/text/piece_tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>

namespace grist::text {

/// Throws InputError, also for what grist does not know, with its name. Truncation and padding are ignored: who calls a
/// tokenizer for generation wants neither. `add_prefix_space`, of tokenizer_config.json, has precedence where the
/// pre-tokenizer is ByteLevel, as in transformers.
TokenizerParts read_tokenizer_json(const std::filesystem::path& file, std::optional<bool> add_prefix_space);

// ---- its parts; `where` names file and part in errors ----

std::vector<NormalizerStep> read_normalizer(const nlohmann::json& normalizer, const std::string& where);

struct PreTokenizer {
  std::vector<PreTokenizerStep> steps;
  bool byte_level = false;  // the words are bytes that the vocabulary writes in GPT-2's alphabet
};
PreTokenizer read_pre_tokenizer(const nlohmann::json& pre_tokenizer, const std::string& where);

/// `pieces`: of the vocabulary; steps that have nothing to do in any of them are left out.
Decoder read_decoder(const nlohmann::json& decoder, const std::vector<std::string>& pieces, const std::string& where);

/// Gives added tokens the ids that the tokenizers library gives them: the vocabulary's, otherwise the next free one;
/// what stands in the file does not count. `vocab_size` is the number of the vocabulary's pieces.
std::vector<AddedToken> place_added_tokens(const std::vector<AddedToken>& tokens,
                                           const std::vector<std::string>& pieces, std::size_t vocab_size);

}  // namespace grist::text
