// grist vocabulary: a tokenizer trained on texts, by the SentencePiece library.
#include "documents.hpp"
#include "verbs.hpp"

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

struct VocabularyOptions {
  std::vector<std::string> files;
  std::string output, kind = "unigram";
  int size = 8000;
};

constexpr std::size_t longest_sentence = 4096;  // bytes; the library leaves longer ones out

/// A line of a text as the library takes them: cut before a space, or a character, where it is longer.
void add_line(std::string_view line, std::vector<std::string>& sentences) {
  while (line.size() > longest_sentence) {
    std::size_t cut = line.substr(0, longest_sentence).rfind(' ');
    if (cut == std::string_view::npos || cut == 0) {
      cut = longest_sentence;
      while ((static_cast<unsigned char>(line[cut]) & 0xC0) == 0x80) --cut;  // inside a character of UTF-8
    }
    sentences.emplace_back(line.substr(0, cut));
    line.remove_prefix(cut);
  }
  if (line.find_first_not_of(" \t\r") != std::string_view::npos) sentences.emplace_back(line);
}

std::vector<std::string> sentences_of(const std::vector<std::string>& files) {
  std::vector<std::string> sentences;
  const auto add_text = [&](std::string_view text) {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      add_line(text.substr(begin, end - begin), sentences);
      begin = end + 1;
    }
  };
  Documents(files).each(0, [&](const Document& document) {
    add_text(document.text);
    for (const auto& message : document.messages) add_text(message.content);
    return true;
  });
  return sentences;
}

/// What the library says, without its place in the library's source and the options of another program.
std::string reason(std::string why) {
  if (const auto place = why.rfind("] "); place != std::string::npos) why.erase(0, place + 2);
  why.erase(std::min(why.find(" Increase vocab_size"), why.size()));
  std::ranges::replace(why, '\n', ' ');
  return why;
}

/// Any text comes back as it was: nothing is normalized, and characters that the vocabulary lacks are bytes.
std::string train(const VocabularyOptions& options) {
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", options.kind},
      {"vocab_size", std::to_string(options.size)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"max_sentence_length", std::to_string(longest_sentence)},
      {"minloglevel", "2"}};
  const auto sentences = sentences_of(options.files);
  if (sentences.empty()) throw InputError("{}: holds no text", options.files.front());
  std::string model;
  if (const auto status = sentencepiece::SentencePieceTrainer::Train(settings, sentences, &model); !status.ok())
    throw InputError("a vocabulary of {} cannot be made of these texts: {}", options.size, reason(status.ToString()));
  return model;
}

void write(const fs::path& file, const std::string& bytes) {
  std::ofstream out(file, std::ios::binary);
  if (!(out << bytes) || !out.flush())
    throw InputError("{}: cannot be written: {}", file.string(), std::strerror(errno));
}

void run(const VocabularyOptions& options) {
  const fs::path folder = options.output;
  for (const char* name : {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"})
    if (fs::exists(folder / name))
      throw UsageError("--output {}: already holds a {}; choose another folder", options.output, name);
  const std::string model = train(options);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw InputError("{}: cannot be made: {}", options.output, error.message());
  const nlohmann::ordered_json config = {{"tokenizer_class", "LlamaTokenizer"}, {"bos_token", "<s>"},
                                         {"eos_token", "</s>"},                 {"unk_token", "<unk>"},
                                         {"add_bos_token", true},               {"add_eos_token", false},
                                         {"legacy", false}};
  write(folder / "tokenizer_config.json", config.dump(2) + "\n");
  write(folder / "tokenizer.model", model);
  std::cout << std::format("{}: a vocabulary of {} pieces\n", options.output, options.size);
}

}  // namespace

void add_vocabulary(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("vocabulary", "Train a tokenizer on texts, for a model from random weights");
  action.alone.insert(verb);
  const auto options = std::make_shared<VocabularyOptions>();
  verb->add_option("--file", options->files,
                   "Text, .jsonl file (a document a line: text, or messages) or folder; repeatable. All is held in "
                   "memory: some hundred megabytes are enough")
      ->required()
      ->type_name("FILE");
  verb->add_option("--size", options->size, "Pieces, 259 of them bytes and marks: vocab_size of the model")
      ->check(CLI::Range(260, 1 << 24))
      ->capture_default_str()
      ->type_name("N");
  verb->add_option("--kind", options->kind, "Unigram language model, or byte pair encoding")
      ->check(CLI::IsMember({"unigram", "bpe"}))
      ->capture_default_str();
  verb->add_option("--output", options->output, "Folder to write tokenizer.model and tokenizer_config.json to")
      ->required()
      ->type_name("DIR");
  verb->footer(
      "Nothing is normalized, and what no piece covers is written as bytes: every text comes back\n"
      "as it was. Example:\n"
      "  grist vocabulary --file texts/ --size 8000 --output tokenizer\n"
      "  grist tokenize --model tokenizer --file texts/ --output data.tokens\n"
      "  grist train --config config.json --tokenizer tokenizer --data data.tokens");
  verb->callback([options, &action] { action.run_alone = [options] { run(*options); }; });
}

}  // namespace grist::cli
