#include <grist/io/sentencepiece_tokenizer.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/bpe_tokenizer.hpp>
#include <grist/io/mapped_file.hpp>
#include <grist/io/utf8.hpp>

#include <bit>

namespace grist::io {
namespace {

// The protocol buffer of sentencepiece_model.proto, as far as a BPE needs it. Its numbers stand here.
enum ModelField : std::uint32_t { pieces_field = 1, trainer_field = 2, normalizer_field = 3 };
enum PieceField : std::uint32_t { piece_text = 1, piece_score = 2, piece_kind = 3 };
enum TrainerField : std::uint32_t { model_type = 3, whitespace_as_suffix = 24, bos_id = 41, eos_id = 42 };
enum NormalizerField : std::uint32_t { rule_name = 1, rules = 2, add_dummy_prefix = 3, remove_extra_whitespaces = 4 };
constexpr std::uint64_t bpe_type = 2;

/// A field of a message: a number or bytes.
struct Field {
  std::uint32_t key;
  std::uint64_t number = 0;
  std::string_view bytes;
};

/// Walks through the fields of a message. Every length is checked against the message's end before it is used.
class Message {
public:
  Message(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{.key = static_cast<std::uint32_t>(tag >> 3), .bytes = {}};
    switch (tag & 7) {
      case 0: field.number = varint(); break;
      case 1: field.number = fixed(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: field.number = fixed(4); break;
      default: throw InputError("{}: not a SentencePiece model: found a field of the wire type {}", path_, tag & 7);
    }
    return field;
  }

private:
  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) {
      throw InputError("{}: not a SentencePiece model, or truncated: a field wants {} bytes, {} are left", path_, count,
                       rest_.size());
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::uint64_t fixed(int bytes) {
    std::uint64_t value = 0;
    const std::string_view data = take(static_cast<std::uint64_t>(bytes));
    for (int i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(data[static_cast<std::size_t>(i)]);
    return value;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    throw InputError("{}: not a SentencePiece model: found a number of more than 64 bits", path_);
  }

  std::string_view rest_;
  const std::string& path_;
};

void read_piece(Message message, ScoredVocabulary& vocabulary, const std::string& path) {
  const std::size_t id = vocabulary.pieces.size();
  std::string& piece = vocabulary.pieces.emplace_back();
  double& score = vocabulary.scores.emplace_back(0.0);
  PieceKind& kind = vocabulary.kinds.emplace_back(PieceKind::normal);
  while (const auto field = message.next()) {
    if (field->key == piece_text) piece = field->bytes;
    if (field->key == piece_score) score = std::bit_cast<float>(static_cast<std::uint32_t>(field->number));
    if (field->key == piece_kind) {
      if (field->number < 1 || field->number > 6) {
        throw InputError("{}: piece {} is of the kind {}, expected 1 to 6", path, id, field->number);
      }
      kind = static_cast<PieceKind>(field->number);
    }
  }
  if (piece.empty() || find_invalid_utf8(piece)) throw InputError("{}: piece {} is empty or not UTF-8", path, id);
}

}  // namespace

SentencePieceParts read_sentencepiece(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  const std::string& path = mapped.path();
  Message model({reinterpret_cast<const char*>(mapped.data()), mapped.size()}, path);
  ScoredVocabulary vocabulary;
  vocabulary.path = path;
  std::uint64_t type = 1;  // what the .proto says of absent fields
  std::uint64_t bos = 1;
  std::uint64_t eos = 2;
  bool extra_spaces_go = true;
  while (const auto field = model.next()) {
    Message message(field->bytes, path);
    if (field->key == pieces_field) read_piece(message, vocabulary, path);
    while (field->key == trainer_field) {
      const auto inner = message.next();
      if (!inner) break;
      if (inner->key == model_type) type = inner->number;
      if (inner->key == bos_id) bos = inner->number;
      if (inner->key == eos_id) eos = inner->number;
      if (inner->key == whitespace_as_suffix && inner->number != 0) {
        throw InputError("{}: treat_whitespace_as_suffix is not supported", path);
      }
    }
    while (field->key == normalizer_field) {
      const auto inner = message.next();
      if (!inner) break;
      if (inner->key == rules && !inner->bytes.empty()) {
        throw InputError("{}: has normalization rules, supported is the normalizer 'identity'", path);
      }
      if (inner->key == add_dummy_prefix) vocabulary.space_prefix = inner->number != 0;
      if (inner->key == remove_extra_whitespaces) extra_spaces_go = inner->number != 0;
    }
  }
  if (vocabulary.pieces.empty()) throw InputError("{}: not a SentencePiece model: it holds no pieces", path);
  if (type != bpe_type) throw InputError("{}: a SentencePiece model of the type {}, supported is 2 (BPE)", path, type);
  if (extra_spaces_go) throw InputError("{}: remove_extra_whitespaces is not supported", path);

  SentencePieceParts result;
  if (bos < vocabulary.pieces.size()) result.bos = vocabulary.pieces[bos];
  if (eos < vocabulary.pieces.size()) result.eos = vocabulary.pieces[eos];
  result.parts = make_scored_bpe(std::move(vocabulary));
  return result;
}

}  // namespace grist::io
