// Texts that a user gives: on the command line, in files, on stdin. They are taken as they are.
#pragma once

#include <CLI/CLI.hpp>

#include <optional>
#include <string>
#include <vector>

namespace grist::cli {

/// An option that may be repeated; its results() are the texts as they were written. (CLI11 makes a list of a vector's
/// "[a,b]", and nothing of its "{}".)
CLI::Option* add_texts(CLI::App& app, const std::string& name, const std::string& help);
/// The same, for one text; an empty one is a text too. The last one counts.
CLI::Option* add_text(CLI::App& app, const std::string& name, std::optional<std::string>& value,
                      const std::string& help);

/// The words of a command line in the order in which CLI::App::parse takes them, with what it would take for an escaped
/// list ("[[aa]]") escaped once more.
std::vector<std::string> literal_words(const std::vector<std::string>& words);

/// "1,15043,3186". Throws UsageError naming the option.
std::vector<int> parse_ids(const std::string& text, const char* option);

/// Throws InputError with `where` in front for a text that is not UTF-8.
void check_utf8(const std::string& text, const std::string& where);

/// A whole file of UTF-8, "-" for stdin, with its last newline if it has one. A byte order mark in front is left out,
/// with a note. Throws InputError where the file cannot be read or is something else, UsageError where stdin is read
/// twice.
std::string read_text(const std::string& file);

/// What is told of a prompt that begins with BOS twice (Tokenizer::doubles_bos).
constexpr std::string_view second_bos =
    "a prompt begins with the BOS token, and the tokenizer puts another in front: the model sees two";

}  // namespace grist::cli
