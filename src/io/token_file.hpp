// Token files: the tokens of a text as training reads them. Little endian:
//   header, 64 bytes: "GRISTTOK", version, bytes of an id, vocabulary, fingerprint, documents, tokens, flags, sources
//   ids [tokens], 2 bytes each where the vocabulary allows, else 4; zeros up to a multiple of 8 bytes
//   ends [documents], 8 bytes each: where each document ends, counted in tokens
//   mask, a bit per token, the lowest of a byte first: 1 where the token is trained on. Absent where all are.
// While it is written, FILE.part grows with two files beside it, FILE.part.ends and FILE.part.mask.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace grist::io {

/// What the ids of a file mean, and what they were made of.
struct TokenOrigin {
  std::uint64_t vocab_size = 0;
  std::uint64_t fingerprint = 0;  // of the tokenizer (text::fingerprint)
  std::uint64_t sources = 0;      // a hash of the inputs and options that the documents come from

  bool operator==(const TokenOrigin&) const = default;
};

/// The header's constants, for reader and writer.
namespace token_header {
inline constexpr std::string_view magic = "GRISTTOK", unfinished = "GRISTPRT";
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint64_t bytes = 64;
constexpr std::uint64_t id_bytes(std::uint64_t vocab_size) { return vocab_size <= 1U << 16 ? 2 : 4; }
constexpr std::uint64_t padded(std::uint64_t size) { return (size + 7) / 8 * 8; }
}  // namespace token_header

/// A mapped token file, or tokens in memory. Copies share what they refer to.
class TokenFile {
public:
  /// Throws InputError naming the file, what was expected and what was found; ids are checked when they are read.
  explicit TokenFile(const std::filesystem::path& file);
  /// One document in memory, trained on as a whole. `name` is what messages call it.
  TokenFile(std::string name, const TokenOrigin& origin, const std::vector<int>& ids);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const TokenOrigin& origin() const { return origin_; }
  [[nodiscard]] std::uint64_t documents() const { return documents_; }
  [[nodiscard]] std::uint64_t tokens() const { return tokens_; }
  /// Document d has the tokens from document_begin(d) up to document_begin(d + 1); it may be empty.
  [[nodiscard]] std::uint64_t document_begin(std::uint64_t document) const;
  [[nodiscard]] bool masked() const { return mask_ != nullptr; }
  [[nodiscard]] bool trained(std::uint64_t token) const;
  /// Fills `ids` from token `first` on. Throws InputError for an id that the vocabulary does not have.
  void read(std::uint64_t first, std::span<int> ids) const;

private:
  void check_ends() const;

  std::string name_;
  TokenOrigin origin_{};
  std::uint64_t documents_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint64_t id_bytes_ = 4;
  std::shared_ptr<const void> owner_{};  // of the memory below
  const std::byte* ids_ = nullptr;
  const std::byte* ends_ = nullptr;
  const std::byte* mask_ = nullptr;
};

/// Whether a file says that it is a token file, whole or not: by its first bytes, or by its name, FILE.tokens.
bool is_token_file(const std::filesystem::path& file);

}  // namespace grist::io
