// vocab.json and merges.txt: a byte-level BPE as GPT-2 and Qwen2 were first published, without tokenizer.json.
#pragma once

#include <grist/text/companions.hpp>

#include <filesystem>

namespace grist::text {

/// How words are cut follows from the tokenizer's class. Throws InputError for a class that grist does not know.
TokenizerParts read_vocab_merges(const std::filesystem::path& folder, const Companions& companions);

}  // namespace grist::text
