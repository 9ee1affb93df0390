#include <grist/text/sentencepiece_tokenizer.hpp>

#include <grist/core/errors.hpp>

#include <sentencepiece_processor.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

namespace grist::text {
namespace {

using sentencepiece::SentencePieceProcessor;

/// Words are encoded by themselves and remembered, where no piece reaches over the space in front of a word: the
/// library alone takes all of a text at once, four times slower.
class SentencePieceModel final : public TextModel {
public:
  /// `first_only`: the processor adds no space, this class does at the start.
  SentencePieceModel(std::unique_ptr<SentencePieceProcessor> processor, bool first_only)
      : processor_(std::move(processor)),
        first_only_(first_only),
        space_prefix_(processor_->Normalize("x").starts_with(space_mark)),
        keeps_spaces_(
            processor_->Normalize("x  x").ends_with(std::string(space_mark) + std::string(space_mark) + "x")) {
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      const std::string& piece = processor_->IdToPiece(id);
      std::size_t word = 0;
      while (piece.compare(word, space_mark.size(), space_mark) == 0) word += space_mark.size();
      if (word < piece.size() && piece.find(space_mark, word) != std::string::npos) pieces_cross_ = true;
    }
  }

  [[nodiscard]] bool space_prefix() const { return space_prefix_; }

  void encode(std::string_view text, bool at_start, WordCache& cache, std::vector<int>& ids) const override {
    if (first_only_) {
      const bool starts_with_space = text.starts_with(' ') || text.starts_with(space_mark);
      const std::vector<int> found = encode_word((at_start && !starts_with_space ? " " : "") + std::string(text));
      ids.insert(ids.end(), found.begin(), found.end());
      return;
    }
    const bool whole = pieces_cross_ || !space_prefix_ || !keeps_spaces_;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = whole ? text.size() : end_of_word(text, begin);
      std::string_view word = text.substr(begin, end - begin);
      if (begin > 0) word.remove_prefix(1);  // the library puts this space before every text
      cache.next_word();
      auto found = cache.find(word);
      if (found == cache.end()) found = cache.emplace(word, encode_word(word)).first;
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      begin = end;
    }
  }

private:
  /// Where the next space follows something that is none.
  static std::size_t end_of_word(std::string_view text, std::size_t begin) {
    for (std::size_t at = begin;;) {
      at = text.find(' ', at + 1);
      if (at == std::string_view::npos || at + 1 == text.size()) return text.size();  // a last space is no word
      if (text[at - 1] != ' ' && !text.substr(0, at).ends_with(space_mark)) return at;
    }
  }

  [[nodiscard]] std::vector<int> encode_word(std::string_view word) const {
    std::vector<int> found;
    if (const auto status = processor_->Encode(word, &found); !status.ok()) {
      throw InputError("SentencePiece cannot encode the text: {}", status.ToString());
    }
    return found;
  }

  std::unique_ptr<SentencePieceProcessor> processor_;
  bool first_only_;
  bool space_prefix_;
  bool keeps_spaces_;
  bool pieces_cross_ = false;
};

}  // namespace

SentencePieceVocabulary read_sentencepiece_vocabulary(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string model(std::istreambuf_iterator<char>(in), {});
  SentencePieceProcessor processor;
  if (const auto status = processor.LoadFromSerializedProto(model); !status.ok())
    throw InputError("{}: not a SentencePiece model: {}", file.string(), status.ToString());
  SentencePieceVocabulary vocabulary{.pieces = {}, .scores = {}, .kinds = {},
                                     .space_prefix = processor.Normalize("x").starts_with(space_mark)};
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    vocabulary.pieces.push_back(processor.IdToPiece(id));
    vocabulary.scores.push_back(processor.GetScore(id));
    vocabulary.kinds.push_back(processor.IsUnknown(id)   ? 2
                               : processor.IsControl(id) ? 3
                               : processor.IsUnused(id)  ? 5
                               : processor.IsByte(id)    ? 6
                                                         : 1);
  }
  return vocabulary;
}

SentencePieceParts read_sentencepiece(const std::filesystem::path& file, bool first_only) {
  std::ifstream in(file, std::ios::binary);
  std::string model(std::istreambuf_iterator<char>(in), {});
  auto processor = std::make_unique<SentencePieceProcessor>();
  if (const auto status = processor->LoadFromSerializedProto(model); !status.ok()) {
    throw InputError("{}: not a SentencePiece model: {}", file.string(), status.ToString());
  }
  first_only = first_only && processor->Normalize("x").starts_with(space_mark);
  if (first_only) {  // messages of protobuf merge: NormalizerSpec (field 3) with add_dummy_prefix (field 3) off
    processor = std::make_unique<SentencePieceProcessor>();
    if (const auto status = processor->LoadFromSerializedProto(model + "\x1A\x02\x18" + std::string(1, '\0'));
        !status.ok()) {
      throw InputError("{}: not a SentencePiece model: {}", file.string(), status.ToString());
    }
  }
  SentencePieceParts result;
  TokenizerParts& parts = result.parts;
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    parts.pieces.push_back(processor->IdToPiece(id));
    if (processor->IsControl(id) || processor->IsUnknown(id)) {
      parts.added.push_back({.id = id, .content = parts.pieces.back(), .special = true});
    }
  }
  if (processor->bos_id() >= 0) result.bos = processor->IdToPiece(processor->bos_id());
  if (processor->eos_id() >= 0) result.eos = processor->IdToPiece(processor->eos_id());
  auto text_model = std::make_unique<SentencePieceModel>(std::move(processor), first_only);
  parts.decoder = sentencepiece_decoder(first_only || text_model->space_prefix());
  parts.model = std::move(text_model);
  return result;
}

}  // namespace grist::text
