#include <grist/text/vocab_merges.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/json_fields.hpp>
#include <grist/text/bpe.hpp>
#include <grist/text/gguf_pre_tokenizer.hpp>
#include <grist/text/tokenizer_json.hpp>

#include <fstream>

namespace grist::text {
namespace {

enum class Kind { gpt2, qwen2 };

Kind kind_of(const Companions& companions, const std::filesystem::path& folder) {
  const std::string& name = companions.tokenizer_class;
  if (name == "GPT2Tokenizer") return Kind::gpt2;
  if (name == "Qwen2Tokenizer") return Kind::qwen2;
  if (!name.empty() && name != "PreTrainedTokenizer" && name != "TokenizersBackend") {
    throw InputError("{}: the tokenizer class {} of vocab.json and merges.txt is not supported without tokenizer.json",
                     folder.string(), name);
  }
  const std::string& type = companions.model_type;
  if (type.starts_with("qwen2") || type.starts_with("qwen3")) return Kind::qwen2;
  if (type.empty() || type.starts_with("gpt2")) return Kind::gpt2;
  throw InputError(
      "{}: no file tells how the model type '{}' cuts words for vocab.json and merges.txt (tokenizer.json is missing)",
      folder.string(), type);
}

std::vector<PiecePair> read_merges(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<PiecePair> merges;
  std::string line;
  while (std::getline(in, line)) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    merges.push_back(split_merge(line, file.string()));
  }
  return merges;
}

}  // namespace

TokenizerParts read_vocab_merges(const std::filesystem::path& folder, const Companions& companions) {
  const std::string where = (folder / "vocab.json").string();
  const nlohmann::json vocab = io::read_json(folder / "vocab.json");
  if (!vocab.is_object()) throw InputError("{}: found {}, expected an object", where, vocab.type_name());
  const Kind kind = kind_of(companions, folder);
  TokenizerParts parts;
  BpeParts bpe;
  for (const auto& [piece, value] : vocab.items()) {
    const int id = io::json_value<int>(value, where + ": '" + piece + "'");
    if (id >= max_ids) throw InputError("{}: '{}' has the id {}, expected one below {}", where, piece, id, max_ids);
    if (static_cast<std::size_t>(id) >= parts.pieces.size()) parts.pieces.resize(static_cast<std::size_t>(id) + 1);
    parts.pieces[static_cast<std::size_t>(id)] = piece;
    bpe.vocab.emplace(piece, id);
  }
  bpe.merges = merges_in_order(bpe.vocab, read_merges(folder / "merges.txt"), (folder / "merges.txt").string());
  bpe.byte_level = true;
  if (kind == Kind::qwen2) parts.normalizer.emplace_back(NormalForm::nfc);
  if (companions.add_prefix_space.value_or(false))
    bpe.pre_tokenizer.emplace_back(Prepend{.text = " ", .unless_there = true});
  for (const std::string_view pattern : kind == Kind::qwen2 ? qwen2_patterns() : gpt2_patterns()) {
    bpe.pre_tokenizer.emplace_back(Split{Regex(std::string(pattern), where)});
  }
  parts.decoder.add(make_byte_level());
  parts.model = make_bpe(std::move(bpe));
  return parts;
}

}  // namespace grist::text
