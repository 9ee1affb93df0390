// A tokenizer.json, a tokenizer.model or a GGUF file's vocabulary of any bytes: it tokenizes and gives text back, or is
// refused with an Error.
#include <fuzz/input_file.hpp>
#include <grist/core/errors.hpp>
#include <grist/text/tokenizer.hpp>

#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const grist::fuzz::InputFolder json, sentencepiece, gguf;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const bool is_gguf = bytes.starts_with("GGUF"), is_json = bytes.starts_with("{");
  const auto& folder = is_gguf ? gguf : is_json ? json : sentencepiece;
  const auto file = folder.write(is_gguf ? "model.gguf" : is_json ? "tokenizer.json" : "tokenizer.model", data, size);
  try {
    const auto tokenizer = grist::text::load_tokenizer(is_gguf ? file : folder.path());
    if (!tokenizer) return 0;
    const auto ids = tokenizer->encode("Hello  world 123\n\xC3\xA4\xF0\x9F\x98\x80<s>", true);
    static_cast<void>(tokenizer->decode(ids, false));
  } catch (const grist::Error&) {
  }
  return 0;
}
