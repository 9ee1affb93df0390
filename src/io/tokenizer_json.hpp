// tokenizer.json: the tokenizers library's own format, of which byte-pair encodings are read.
#pragma once

#include <grist/io/piece_tokenizer.hpp>

#include <filesystem>

namespace grist::io {

/// Throws InputError, also for what grist does not know.
TokenizerParts read_tokenizer_json(const std::filesystem::path& file);

}  // namespace grist::io
