#include <grist/io/sentencepiece_tokenizer.hpp>

#include <grist/core/errors.hpp>

#include <sentencepiece_processor.h>

#include <memory>
#include <utility>

namespace grist::io {
namespace {

using sentencepiece::SentencePieceProcessor;

class SentencePieceModel final : public TextModel {
public:
  explicit SentencePieceModel(std::unique_ptr<SentencePieceProcessor> processor) : processor_(std::move(processor)) {}

  void encode(std::string_view text, bool /*at_start*/, WordCache& /*cache*/, std::vector<int>& ids) const override {
    std::vector<int> found;
    if (const auto status = processor_->Encode(text, &found); !status.ok()) {
      throw InputError("SentencePiece cannot encode the text: {}", status.ToString());
    }
    ids.insert(ids.end(), found.begin(), found.end());
  }

private:
  std::unique_ptr<SentencePieceProcessor> processor_;
};

}  // namespace

SentencePieceParts read_sentencepiece(const std::filesystem::path& file) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  if (const auto status = processor->Load(file.string()); !status.ok()) {
    throw InputError("{}: not a SentencePiece model: {}", file.string(), status.ToString());
  }
  SentencePieceParts result;
  TokenizerParts& parts = result.parts;
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    parts.pieces.push_back(processor->IdToPiece(id));
    if (processor->IsControl(id) || processor->IsUnknown(id)) {
      parts.added.push_back({.id = id, .content = parts.pieces.back(), .special = true});
    }
  }
  parts.decoding = sentencepiece_decoding(processor->Normalize("x").starts_with(space_mark));
  if (processor->bos_id() >= 0) result.bos = processor->IdToPiece(processor->bos_id());
  if (processor->eos_id() >= 0) result.eos = processor->IdToPiece(processor->eos_id());
  parts.model = std::make_unique<SentencePieceModel>(std::move(processor));
  return result;
}

}  // namespace grist::io
