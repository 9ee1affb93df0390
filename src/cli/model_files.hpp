// The files of a model as the ranks see them: all must see the same.
#pragma once

#include <filesystem>
#include <string>

namespace grist::cli {

/// One line for each file that a model is read from: name, bytes, a hash of its description (a config as a whole, the
/// header of weights) and of pieces of its weights. Two ranks with different lines would compute nonsense, or wait for
/// each other for ever.
std::string describe_files(const std::filesystem::path& model);

/// Copies a file over another. Throws InputError.
void copy_over(const std::filesystem::path& from, const std::filesystem::path& to);

/// Copies what lies beside the config and weights of a model: the tokenizer's files and the defaults of sampling.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace grist::cli
