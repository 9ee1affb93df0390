#include <grist/train/token_source.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>
#include <grist/text/utf8.hpp>

#include <string_view>

namespace grist::train {

io::TokenFile token_source(const std::filesystem::path& path, const text::Tokenizer* tokenizer) {
  if (io::is_token_file(path)) {
    io::TokenFile file(path);
    if (tokenizer != nullptr && file.origin().fingerprint != text::fingerprint(*tokenizer))
      throw InputError("{}: has tokens of another tokenizer than the model's: tokenize the text again", file.name());
    return file;
  }
  const io::MappedFile file(path);
  std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (const auto at = text::find_invalid_utf8(text))
    throw InputError("{}: neither a token file nor UTF-8: byte {:#04x} at offset {}", file.path(),
                     static_cast<unsigned char>(text[*at]), *at);
  if (tokenizer == nullptr) throw InputError("{}: is a text, and the model has no tokenizer", file.path());
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return {
      file.path(),
      {.vocab_size = static_cast<std::uint64_t>(tokenizer->vocab_size()), .fingerprint = text::fingerprint(*tokenizer)},
      tokenizer->encode(text, true)};
}

}  // namespace grist::train
