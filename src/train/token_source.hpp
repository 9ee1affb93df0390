// Data for training, from a token file or a text.
#pragma once

#include <grist/io/token_file.hpp>
#include <grist/text/tokenizer.hpp>

#include <filesystem>

namespace grist::train {

/// A token file (io::is_token_file), which must be of `tokenizer` unless that is null; or the tokens of a text, those
/// that `grist tokenize --file` prints for it, as one document. Throws InputError.
io::TokenFile token_source(const std::filesystem::path& path, const text::Tokenizer* tokenizer);

}  // namespace grist::train
